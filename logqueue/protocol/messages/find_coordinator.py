"""FindCoordinator (key 10): which broker owns a group or a transactional id.

v1 adds the kind of key, v3 is flexible, v4 asks for several keys at once (KIP-699), v6 knows share groups (KIP-932).
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, int8, int16, int32, string
from logqueue.protocol.schema import STRING, Message, Struct


class FindCoordinatorRequest(Message, key=ApiKey.FIND_COORDINATOR, versions=(0, 6), flexible=3):
    key: str = string(until=3)
    key_type: int = int8(since=1)
    coordinator_keys: list[str] = array(STRING, since=4)


class Coordinator(Struct):
    key: str = string()
    node_id: int = int32()
    host: str = string()
    port: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable=0)


class FindCoordinatorResponse(Message, key=ApiKey.FIND_COORDINATOR, versions=(0, 6), flexible=3):
    throttle_time_ms: int = int32(since=1)
    error_code: int = int16(until=3)
    error_message: str | None = string(since=1, until=3, nullable=0)
    node_id: int = int32(until=3)
    host: str = string(until=3)
    port: int = int32(until=3)
    coordinators: list[Coordinator] = array(Coordinator, since=4)
