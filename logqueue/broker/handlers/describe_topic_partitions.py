"""DescribeTopicPartitions (75): topics with their partitions, in pages (KIP-966). Never creates a topic.

Topics come in the order of their names; an answer that is full ends with a cursor to go on from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.handlers.metadata import TOPIC_OPERATIONS
from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import LEADER_EPOCH
from logqueue.broker.partitions.topics import Topic
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)
from logqueue.storage.topic_rules import check_name

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

MAX_PARTITIONS = 2000  # of one answer: Kafka's default of max.request.partition.size.limit


def handle(broker: Broker, request: DescribeTopicPartitionsRequest, slot: Slot) -> DescribeTopicPartitionsResponse:
    names = {topic.name for topic in request.topics} or set(broker.topics.by_name)
    cursor = request.cursor
    room = max(1, min(request.response_partition_limit, MAX_PARTITIONS))
    response = DescribeTopicPartitionsResponse()
    if cursor is not None and (cursor.partition_index < 0 or (request.topics and cursor.topic_name not in names)):
        response.topics = [
            DescribeTopicPartitionsResponseTopic(error_code=ErrorCode.INVALID_REQUEST, name=name)
            for name in sorted(names)
        ]
        return response
    for name in sorted(names):
        if cursor is not None and name < cursor.topic_name:
            continue
        first = cursor.partition_index if cursor is not None and name == cursor.topic_name else 0
        if room == 0:
            response.next_cursor = Cursor(topic_name=name, partition_index=first)
            break
        try:
            check_name(name)
            topic = broker.topics.get(name)
        except KafkaError as error:
            # Whoever asks for everything is not told of a topic that went away between two pages.
            if request.topics:
                response.topics.append(
                    DescribeTopicPartitionsResponseTopic(
                        error_code=error.code, name=name, topic_authorized_operations=TOPIC_OPERATIONS
                    )
                )
            continue
        described = _describe(broker, topic, first=first, limit=room)
        response.topics.append(described)
        room -= len(described.partitions)
        told = first + len(described.partitions)
        if told < len(topic.partitions):
            response.next_cursor = Cursor(topic_name=name, partition_index=told)
            break
    return response


def _describe(broker: Broker, topic: Topic, *, first: int, limit: int) -> DescribeTopicPartitionsResponseTopic:
    nodes = [broker.node_id]
    return DescribeTopicPartitionsResponseTopic(
        error_code=ErrorCode.NONE,
        name=topic.name,
        topic_id=topic.id,
        is_internal=topic.is_internal,
        partitions=[
            DescribeTopicPartitionsResponsePartition(
                partition_index=index,
                leader_id=broker.node_id,
                leader_epoch=LEADER_EPOCH,
                replica_nodes=nodes,
                isr_nodes=nodes,
                eligible_leader_replicas=[],  # nullable in the protocol, and the Java client fails on a null
                last_known_elr=[],
            )
            for index in range(len(topic.partitions))[first : first + limit]
        ],
        topic_authorized_operations=TOPIC_OPERATIONS,
    )
