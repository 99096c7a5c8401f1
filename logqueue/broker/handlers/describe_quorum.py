"""DescribeQuorum (55): a quorum of one (KIP-595). There is no metadata log, so its offsets are those of an empty one.

v1: times of replicas (KIP-836); v2: directory ids and the addresses of nodes (KIP-853).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    DescribeQuorumResponsePartitionData,
    DescribeQuorumResponseTopicData,
    Listener,
    Node,
    ReplicaState,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

METADATA_TOPIC = "__cluster_metadata"
LEADER_EPOCH = 1


def handle(broker: Broker, request: DescribeQuorumRequest, slot: Slot) -> DescribeQuorumResponse:
    host, port = broker.advertised(slot)
    return DescribeQuorumResponse(
        topics=[
            DescribeQuorumResponseTopicData(
                topic_name=topic.topic_name,
                partitions=[_partition(broker, topic.topic_name, part.partition_index) for part in topic.partitions],
            )
            for topic in request.topics
        ],
        nodes=[Node(node_id=broker.node_id, listeners=[Listener(name="CONTROLLER", host=host, port=port)])],
    )


def _partition(broker: Broker, topic: str, index: int) -> DescribeQuorumResponsePartitionData:
    if topic != METADATA_TOPIC or index != 0:
        return DescribeQuorumResponsePartitionData(
            partition_index=index, error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, leader_id=-1, leader_epoch=-1
        )
    now_ms = broker.clock.time_ms()
    voter = ReplicaState(
        replica_id=broker.node_id, log_end_offset=0, last_fetch_timestamp=now_ms, last_caught_up_timestamp=now_ms
    )
    return DescribeQuorumResponsePartitionData(
        partition_index=index, leader_id=broker.node_id, leader_epoch=LEADER_EPOCH, current_voters=[voter]
    )
