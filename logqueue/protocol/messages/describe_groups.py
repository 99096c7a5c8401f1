"""DescribeGroups (key 15): state and members of classic groups.

v3 adds authorised operations, v4 instance ids, v5 is flexible, v6 answers unknown groups with an error (KIP-1043).
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, bool_, bytes_, int16, int32, string
from logqueue.protocol.schema import STRING, Message, Struct


class DescribeGroupsRequest(Message, key=ApiKey.DESCRIBE_GROUPS, versions=(0, 6), flexible=5):
    groups: list[str] = array(STRING)
    include_authorized_operations: bool = bool_(since=3)


class DescribedGroupMember(Struct):
    member_id: str = string()
    group_instance_id: str | None = string(since=4, nullable=0)
    client_id: str = string()
    client_host: str = string()
    member_metadata: bytes = bytes_()
    member_assignment: bytes = bytes_()


class DescribedGroup(Struct):
    error_code: int = int16()
    error_message: str | None = string(since=6, nullable=0)
    group_id: str = string()
    group_state: str = string()
    protocol_type: str = string()
    protocol_data: str = string()
    members: list[DescribedGroupMember] = array(DescribedGroupMember)
    authorized_operations: int = int32(since=3, default=-2147483648)


class DescribeGroupsResponse(Message, key=ApiKey.DESCRIBE_GROUPS, versions=(0, 6), flexible=5):
    throttle_time_ms: int = int32(since=1)
    groups: list[DescribedGroup] = array(DescribedGroup)
