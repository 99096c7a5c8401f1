"""DeleteTopics (20). v6+: by name or by id (KIP-516)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.topics import Topic
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from logqueue.protocol.wire import ZERO_UUID

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

FIRST_WITH_DELETION_DISABLED = 3


def handle(broker: Broker, request: DeleteTopicsRequest, slot: Slot) -> DeleteTopicsResponse:
    wanted = request.topics if slot.api_version >= 6 else [DeleteTopicState(name=name) for name in request.topic_names]
    if not broker.config.delete_topic_enable:
        return DeleteTopicsResponse(responses=[_disabled(topic, slot.api_version) for topic in wanted])
    named = Counter((topic.name, topic.topic_id) for topic in wanted)
    responses = [_repeated(*key) for key, count in named.items() if count > 1]
    once = [topic for topic in wanted if named[topic.name, topic.topic_id] == 1]
    twice = _named_both_ways(broker, once, ids={topic_id for name, topic_id in named if name is None})
    for topic in once:
        found = twice.get(topic.name or topic.topic_id)
        if found is None:
            responses.append(_delete(broker, topic))
        elif topic.name is not None:
            responses.append(_supplied(found))
    return DeleteTopicsResponse(responses=responses)


def _named_both_ways(broker: Broker, wanted: list[DeleteTopicState], *, ids: set[bytes]) -> dict[str | bytes, Topic]:
    """The topics that one entry names and another one gives the id of, under both: none of them is deleted."""
    names = [topic.name for topic in wanted if topic.name is not None and topic.topic_id == ZERO_UUID]
    found = [topic for name in names if (topic := broker.topics.by_name.get(name)) is not None and topic.id in ids]
    return {key: topic for topic in found for key in (topic.name, topic.id)}


def _disabled(wanted: DeleteTopicState, version: int) -> DeletableTopicResult:
    known = version >= FIRST_WITH_DELETION_DISABLED
    return DeletableTopicResult(
        name=wanted.name,
        topic_id=wanted.topic_id,
        error_code=ErrorCode.TOPIC_DELETION_DISABLED if known else ErrorCode.INVALID_REQUEST,
        error_message="Topic deletion is disabled (delete.topic.enable).",
    )


def _repeated(name: str | None, topic_id: bytes) -> DeletableTopicResult:
    return DeletableTopicResult(
        name=name,
        topic_id=topic_id,
        error_code=ErrorCode.INVALID_REQUEST,
        error_message="Duplicate topic in request.",
    )


def _supplied(topic: Topic) -> DeletableTopicResult:
    return DeletableTopicResult(
        name=topic.name,
        topic_id=topic.id,
        error_code=ErrorCode.INVALID_REQUEST,
        error_message="The topic's id was given as well.",
    )


def _delete(broker: Broker, wanted: DeleteTopicState) -> DeletableTopicResult:
    try:
        topic = _find(broker, wanted)
        broker.delete_topic(topic)
    except KafkaError as error:
        return DeletableTopicResult(
            name=wanted.name, topic_id=wanted.topic_id, error_code=error.code, error_message=error.detail or None
        )
    return DeletableTopicResult(name=topic.name, topic_id=topic.id)


def _find(broker: Broker, wanted: DeleteTopicState) -> Topic:
    if wanted.name is not None:
        if wanted.topic_id != ZERO_UUID:
            raise KafkaError("a topic is named by its name or its id, not both", code=ErrorCode.INVALID_REQUEST)
        return broker.topics.get(wanted.name)
    if wanted.topic_id == ZERO_UUID:
        raise KafkaError("a topic is named by its name or its id; neither is here", code=ErrorCode.INVALID_REQUEST)
    topic = broker.topics.by_id.get(wanted.topic_id)
    if topic is None:
        raise KafkaError("This server does not host this topic ID.", code=ErrorCode.UNKNOWN_TOPIC_ID)
    return topic
