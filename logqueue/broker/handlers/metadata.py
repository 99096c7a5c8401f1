"""Metadata (3): the broker, its topics and their partitions; creates missing topics when asked to.

v4+: the client says whether topics may be created; v8-10: authorized operations; v10+: topic ids (KIP-516), by which
topics may be asked for from v12 on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import LEADER_EPOCH
from logqueue.broker.partitions.topics import Topic
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from logqueue.protocol.wire import ZERO_UUID

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

# Bit sets of AclOperation codes (KIP-430). Without an authorizer everything is allowed, as in Kafka.
TOPIC_OPERATIONS = sum(1 << code for code in (3, 4, 5, 6, 7, 8, 10, 11))
CLUSTER_OPERATIONS = sum(1 << code for code in (5, 7, 8, 9, 10, 11, 12))
FIRST_BY_ID = 12


def handle(broker: Broker, request: MetadataRequest, slot: Slot) -> MetadataResponse:
    wanted = request.topics
    everything = wanted is None or (slot.api_version == 0 and not wanted)
    if wanted and slot.api_version < FIRST_BY_ID and any(t.name is None or t.topic_id != ZERO_UUID for t in wanted):
        return MetadataResponse(
            topics=[
                MetadataResponseTopic(error_code=ErrorCode.INVALID_REQUEST, name=t.name, topic_id=t.topic_id)
                for t in wanted
            ]
        )
    host, port = broker.advertised(slot)
    response = MetadataResponse(
        brokers=[MetadataResponseBroker(node_id=broker.node_id, host=host, port=port)],
        cluster_id=broker.cluster_id,
        controller_id=broker.node_id,
    )
    if everything:
        response.topics = [_describe(broker, topic) for topic in list(broker.topics.by_name.values())]
    else:
        may_create = slot.api_version < 4 or request.allow_auto_topic_creation
        response.topics = [_find(broker, topic, may_create) for topic in distinct(wanted or ())]
    if request.include_topic_authorized_operations:
        for topic in response.topics:
            if topic.name is not None:  # Kafka tells them for names that it does not know, too
                topic.topic_authorized_operations = TOPIC_OPERATIONS
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    return response


def distinct(wanted: Iterable[MetadataRequestTopic]) -> list[MetadataRequestTopic]:
    """Each topic that is asked for, by its name or else by its id, once: there may be many, and what they hold."""
    return list({topic.topic_id if topic.name is None else topic.name: topic for topic in wanted}.values())


def _find(broker: Broker, wanted: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic:
    topics = broker.topics
    name = wanted.name
    if name is None:
        topic = topics.by_id.get(wanted.topic_id)
        if topic is None:
            return MetadataResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=wanted.topic_id)
        return _describe(broker, topic)
    topic = topics.by_name.get(name)
    try:
        if topic is None:
            topic = topics.auto_create(name, may_create=may_create)
    except KafkaError as error:
        return MetadataResponseTopic(error_code=error.code, name=name, topic_id=ZERO_UUID)
    return _describe(broker, topic)


def _describe(broker: Broker, topic: Topic) -> MetadataResponseTopic:
    nodes = [broker.node_id]
    return MetadataResponseTopic(
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.is_internal,
        partitions=[
            MetadataResponsePartition(
                partition_index=index,
                leader_id=broker.node_id,
                leader_epoch=LEADER_EPOCH,
                replica_nodes=nodes,
                isr_nodes=nodes,
            )
            for index in range(len(topic.partitions))
        ],
    )
