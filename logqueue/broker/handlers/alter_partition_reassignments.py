"""AlterPartitionReassignments (45): every partition is on the one node, and stays there (KIP-455)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, shortened
from logqueue.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)
from logqueue.storage.topic_rules import shown

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(
    broker: Broker, request: AlterPartitionReassignmentsRequest, slot: Slot
) -> AlterPartitionReassignmentsResponse:
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        responses=[
            ReassignableTopicResponse(
                name=topic.name, partitions=[_reassign(broker, topic.name, part) for part in topic.partitions]
            )
            for topic in request.topics
        ],
    )


def _reassign(broker: Broker, name: str, wanted: ReassignablePartition) -> ReassignablePartitionResponse:
    answer = ReassignablePartitionResponse(partition_index=wanted.partition_index)
    topic = broker.topics.by_name.get(name)
    if topic is None or not 0 <= wanted.partition_index < len(topic.partitions):
        answer.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        answer.error_message = f"Unable to find {shown(name)}-{wanted.partition_index}."
    elif wanted.replicas is None:
        answer.error_code = ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
        answer.error_message = "No partition reassignment is in progress."
    elif wanted.replicas != [broker.node_id]:
        answer.error_code = ErrorCode.INVALID_REPLICA_ASSIGNMENT
        answer.error_message = shortened(
            f"The manual partition assignment has to be broker {broker.node_id}, the only one, not {wanted.replicas}."
        )
    return answer
