"""What consumers of classic groups tell each other through JoinGroup metadata and SyncGroup assignments.

Newer versions only add fields at the end, so a reader takes any newer version as the newest it knows.
"""

from __future__ import annotations

from logqueue.protocol.fields import array, bytes_, int32, string
from logqueue.protocol.schema import INT32, STRING, Message, Struct


class TopicPartition(Struct):
    topic: str = string()
    partitions: list[int] = array(INT32)


class ConsumerProtocolSubscription(Message, versions=(0, 3)):
    topics: list[str] = array(STRING)
    user_data: bytes | None = bytes_(nullable=0)
    owned_partitions: list[TopicPartition] = array(TopicPartition, since=1)
    generation_id: int = int32(since=2, default=-1)
    rack_id: str | None = string(since=3, nullable=0)


class ConsumerProtocolAssignment(Message, versions=(0, 3)):
    assigned_partitions: list[TopicPartition] = array(TopicPartition)
    user_data: bytes | None = bytes_(nullable=0)
