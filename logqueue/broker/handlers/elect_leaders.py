"""ElectLeaders (43): the one node leads everything, so no election is ever needed (KIP-183, KIP-460)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
    TopicPartitions,
)
from logqueue.storage.topic_rules import shown

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

PREFERRED, UNCLEAN = 0, 1


def handle(broker: Broker, request: ElectLeadersRequest, slot: Slot) -> ElectLeadersResponse:
    if request.election_type not in (PREFERRED, UNCLEAN):
        return ElectLeadersResponse(error_code=ErrorCode.INVALID_REQUEST)
    # Asked for all partitions, Kafka names only those where something had to be done.
    return ElectLeadersResponse(
        replica_election_results=[_results(broker, wanted) for wanted in request.topic_partitions or ()]
    )


def _results(broker: Broker, wanted: TopicPartitions) -> ReplicaElectionResult:
    topic = broker.topics.by_name.get(wanted.topic)
    count = 0 if topic is None else len(topic.partitions)
    return ReplicaElectionResult(
        topic=wanted.topic,
        partition_result=[_result(wanted.topic, index, is_known=0 <= index < count) for index in wanted.partitions],
    )


def _result(topic: str, index: int, *, is_known: bool) -> PartitionResult:
    if is_known:
        return PartitionResult(
            partition_id=index,
            error_code=ErrorCode.ELECTION_NOT_NEEDED,
            error_message=f"{topic}-{index} is led by the only broker already.",
        )
    return PartitionResult(
        partition_id=index,
        error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        error_message=f"No such partition as {shown(topic)}-{index}",
    )
