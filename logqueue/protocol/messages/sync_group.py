"""SyncGroup (key 14): hand out, or ask for, the assignment of a generation.

v3 adds static members (KIP-345), v4 is flexible, v5 adds the protocol (KIP-559).
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, bytes_, int16, int32, string
from logqueue.protocol.schema import Message, Struct


class SyncGroupRequestAssignment(Struct):
    member_id: str = string()
    assignment: bytes = bytes_()


class SyncGroupRequest(Message, key=ApiKey.SYNC_GROUP, versions=(0, 5), flexible=4):
    group_id: str = string()
    generation_id: int = int32()
    member_id: str = string()
    group_instance_id: str | None = string(since=3, nullable=0)
    protocol_type: str | None = string(since=5, nullable=0)
    protocol_name: str | None = string(since=5, nullable=0)
    assignments: list[SyncGroupRequestAssignment] = array(SyncGroupRequestAssignment)


class SyncGroupResponse(Message, key=ApiKey.SYNC_GROUP, versions=(0, 5), flexible=4):
    throttle_time_ms: int = int32(since=1)
    error_code: int = int16()
    protocol_type: str | None = string(since=5, nullable=0)
    protocol_name: str | None = string(since=5, nullable=0)
    assignment: bytes = bytes_()
