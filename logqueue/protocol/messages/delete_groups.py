"""DeleteGroups (key 42): delete empty groups with their offsets. v2 is flexible."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, int16, int32, string
from logqueue.protocol.schema import STRING, Message, Struct


class DeleteGroupsRequest(Message, key=ApiKey.DELETE_GROUPS, versions=(0, 2), flexible=2):
    groups_names: list[str] = array(STRING)


class DeletableGroupResult(Struct):
    group_id: str = string()
    error_code: int = int16()


class DeleteGroupsResponse(Message, key=ApiKey.DELETE_GROUPS, versions=(0, 2), flexible=2):
    throttle_time_ms: int = int32()
    results: list[DeletableGroupResult] = array(DeletableGroupResult)
