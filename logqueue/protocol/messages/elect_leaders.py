"""ElectLeaders (key 43): elect partition leaders. v1 adds the kind of election, v2 is flexible."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, int8, int16, int32, string
from logqueue.protocol.schema import INT32, Message, Struct


class TopicPartitions(Struct):
    topic: str = string()
    partitions: list[int] = array(INT32)


class ElectLeadersRequest(Message, key=ApiKey.ELECT_LEADERS, versions=(0, 2), flexible=2):
    election_type: int = int8(since=1)
    topic_partitions: list[TopicPartitions] | None = array(TopicPartitions, nullable=0)
    timeout_ms: int = int32(default=60000)


class PartitionResult(Struct):
    partition_id: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable=0)


class ReplicaElectionResult(Struct):
    topic: str = string()
    partition_result: list[PartitionResult] = array(PartitionResult)


class ElectLeadersResponse(Message, key=ApiKey.ELECT_LEADERS, versions=(0, 2), flexible=2):
    throttle_time_ms: int = int32()
    error_code: int = int16(since=1)
    replica_election_results: list[ReplicaElectionResult] = array(ReplicaElectionResult)
