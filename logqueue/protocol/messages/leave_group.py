"""LeaveGroup (key 13): members leave a classic group.

v3 names several members, also by instance id (KIP-345), v4 is flexible, v5 adds a reason (KIP-800).
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, int16, int32, string
from logqueue.protocol.schema import Message, Struct


class MemberIdentity(Struct):
    member_id: str = string()
    group_instance_id: str | None = string(nullable=0)
    reason: str | None = string(since=5, nullable=0)


class LeaveGroupRequest(Message, key=ApiKey.LEAVE_GROUP, versions=(0, 5), flexible=4):
    group_id: str = string()
    member_id: str = string(until=2)
    members: list[MemberIdentity] = array(MemberIdentity, since=3)


class MemberResponse(Struct):
    member_id: str = string()
    group_instance_id: str | None = string(nullable=0)
    error_code: int = int16()


class LeaveGroupResponse(Message, key=ApiKey.LEAVE_GROUP, versions=(0, 5), flexible=4):
    throttle_time_ms: int = int32(since=1)
    error_code: int = int16()
    members: list[MemberResponse] = array(MemberResponse, since=3)
