"""CreatePartitions (37): give a topic more partitions (KIP-195); never fewer."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: CreatePartitionsRequest, slot: Slot) -> CreatePartitionsResponse:
    named = Counter(topic.name for topic in request.topics)
    results = [_repeated(name) for name, count in named.items() if count > 1]
    results += [
        _grow(broker, wanted, validate_only=request.validate_only)
        for wanted in request.topics
        if named[wanted.name] == 1
    ]
    return CreatePartitionsResponse(results=results)


def _repeated(name: str) -> CreatePartitionsTopicResult:
    return CreatePartitionsTopicResult(
        name=name, error_code=ErrorCode.INVALID_REQUEST, error_message="Duplicate topic name."
    )


def _grow(broker: Broker, wanted: CreatePartitionsTopic, *, validate_only: bool) -> CreatePartitionsTopicResult:
    result = CreatePartitionsTopicResult(name=wanted.name)
    try:
        topic = broker.topics.get(wanted.name)
        broker.topics.grow(topic, wanted.count, validate_only=True)
        _check_assignments(broker, wanted, present=len(topic.partitions))
        broker.topics.grow(topic, wanted.count, validate_only=validate_only)
    except KafkaError as error:
        result.error_code, result.error_message = error.code, error.detail or None
    return result


def _check_assignments(broker: Broker, wanted: CreatePartitionsTopic, *, present: int) -> None:
    if wanted.assignments is None:
        return
    if len(wanted.assignments) != wanted.count - present:
        raise KafkaError(
            f"Increasing the number of partitions by {wanted.count - present} but {len(wanted.assignments)} "
            "assignments provided.",
            code=ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        )
    if any(assignment.broker_ids != [broker.node_id] for assignment in wanted.assignments):
        raise KafkaError(
            f"every partition has to be assigned to broker {broker.node_id}, the only one",
            code=ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        )
