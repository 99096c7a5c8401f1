"""JoinGroup (key 11): enter a classic consumer group.

v1 adds the rebalance timeout, v4 hands out the member id first (KIP-394), v5 static members (KIP-345), v6 is flexible,
v7 adds the protocol type, v8 a reason (KIP-800), v9 lets a leader skip the assignment (KIP-814).
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, bool_, bytes_, int16, int32, string
from logqueue.protocol.schema import Message, Struct


class JoinGroupRequestProtocol(Struct):
    name: str = string()
    metadata: bytes = bytes_()


class JoinGroupRequest(Message, key=ApiKey.JOIN_GROUP, versions=(0, 9), flexible=6):
    group_id: str = string()
    session_timeout_ms: int = int32()
    rebalance_timeout_ms: int = int32(since=1, default=-1)
    member_id: str = string()
    group_instance_id: str | None = string(since=5, nullable=0)
    protocol_type: str = string()
    protocols: list[JoinGroupRequestProtocol] = array(JoinGroupRequestProtocol)
    reason: str | None = string(since=8, nullable=0)


class JoinGroupResponseMember(Struct):
    member_id: str = string()
    group_instance_id: str | None = string(since=5, nullable=0)
    metadata: bytes = bytes_()


class JoinGroupResponse(Message, key=ApiKey.JOIN_GROUP, versions=(0, 9), flexible=6):
    throttle_time_ms: int = int32(since=2)
    error_code: int = int16()
    generation_id: int = int32(default=-1)
    protocol_type: str | None = string(since=7, nullable=0)
    protocol_name: str | None = string(nullable=7)
    leader: str = string()
    skip_assignment: bool = bool_(since=9)
    member_id: str = string()
    members: list[JoinGroupResponseMember] = array(JoinGroupResponseMember)
