"""Heartbeat (key 12): a member of a classic group is alive.

v3 adds static members (KIP-345), v4 is flexible.
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import int16, int32, string
from logqueue.protocol.schema import Message


class HeartbeatRequest(Message, key=ApiKey.HEARTBEAT, versions=(0, 4), flexible=4):
    group_id: str = string()
    generation_id: int = int32()
    member_id: str = string()
    group_instance_id: str | None = string(since=3, nullable=0)


class HeartbeatResponse(Message, key=ApiKey.HEARTBEAT, versions=(0, 4), flexible=4):
    throttle_time_ms: int = int32(since=1)
    error_code: int = int16()
