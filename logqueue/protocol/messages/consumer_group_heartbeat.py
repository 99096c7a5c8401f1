"""ConsumerGroupHeartbeat (key 68): membership and assignment of a KIP-848 group, all in one call.

v1 adds subscription by regular expression and requires the client to make its member id (KIP-1082).
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, int16, int32, string, struct, uuid
from logqueue.protocol.schema import INT32, STRING, Message, Struct


class TopicPartitions(Struct):
    topic_id: bytes = uuid()
    partitions: list[int] = array(INT32)


class ConsumerGroupHeartbeatRequest(Message, key=ApiKey.CONSUMER_GROUP_HEARTBEAT, versions=(0, 1), flexible=0):
    group_id: str = string()
    member_id: str = string()
    member_epoch: int = int32()
    instance_id: str | None = string(nullable=0)
    rack_id: str | None = string(nullable=0)
    rebalance_timeout_ms: int = int32(default=-1)
    subscribed_topic_names: list[str] | None = array(STRING, nullable=0, default=None)
    subscribed_topic_regex: str | None = string(since=1, nullable=0)
    server_assignor: str | None = string(nullable=0)
    topic_partitions: list[TopicPartitions] | None = array(TopicPartitions, nullable=0, default=None)


class Assignment(Struct):
    topic_partitions: list[TopicPartitions] = array(TopicPartitions)


class ConsumerGroupHeartbeatResponse(Message, key=ApiKey.CONSUMER_GROUP_HEARTBEAT, versions=(0, 1), flexible=0):
    throttle_time_ms: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable=0)
    member_id: str | None = string(nullable=0)
    member_epoch: int = int32()
    heartbeat_interval_ms: int = int32()
    assignment: Assignment | None = struct(Assignment, nullable=0)
