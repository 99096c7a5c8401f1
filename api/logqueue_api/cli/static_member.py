"""Takes a static member out of its group (KIP-345), which aiokafka's consumer never does by itself.

A static member keeps its partitions while it is away, until the session timeout. That is right for a restart, and wrong
for a member that will not come back: its partitions would wait for nothing.
"""

from __future__ import annotations

import asyncio

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from logqueue.errors import LogqueueError
from logqueue.jobs.settings import Settings

LEAVE_SECONDS = 5.0
UNKNOWN_MEMBER_ID = 25  # it has gone already


class NotLeft(LogqueueError):
    """The group still counts the member, until its session timeout."""


class _LeaveGroupResponseV3(Response):  # type: ignore[misc]
    API_KEY = 13
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "members",
            Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")), ("error_code", Int16)),
        ),
    )


class _LeaveGroupRequestV3(RequestStruct):  # type: ignore[misc]
    API_KEY = 13
    API_VERSION = 3
    RESPONSE_TYPE = _LeaveGroupResponseV3
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("members", Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")))),
    )


class _LeaveGroup(Request[_LeaveGroupRequestV3]):  # type: ignore[misc]
    API_KEY = 13

    def __init__(self, group: str, instance_id: str) -> None:
        self._group = group
        self._instance_id = instance_id

    def build(self, request_struct_class: type[_LeaveGroupRequestV3]) -> _LeaveGroupRequestV3:
        # KIP-345: an empty member id with an instance id names whoever holds that instance id.
        return request_struct_class(self._group, [("", self._instance_id)])


async def leave(settings: Settings, *, group: str, instance_id: str) -> None:
    """Take the member out; raises NotLeft where the log does not confirm it within LEAVE_SECONDS."""
    client = AIOKafkaClient(**settings.connection())
    try:
        async with asyncio.timeout(LEAVE_SECONDS):
            await client.bootstrap()
            node = await client.coordinator_lookup(CoordinationType.GROUP, group)
            await client.ready(node, group=ConnectionGroup.COORDINATION)
            answer = await client.send(node, _LeaveGroup(group, instance_id), group=ConnectionGroup.COORDINATION)
    except (KafkaError, TimeoutError, OSError, NotImplementedError) as error:
        raise NotLeft(f"{instance_id} could not leave group {group}: {error!r}") from error
    finally:
        await client.close()
    codes = [answer.error_code, *(code for _, _, code in answer.members)]
    failed = [code for code in codes if code not in (0, UNKNOWN_MEMBER_ID)]
    if failed:
        raise NotLeft(f"{instance_id} could not leave group {group}: {for_code(failed[0]).__name__}")
