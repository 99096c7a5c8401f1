"""Tells the groups that a member is gone, as its session timeout would have done later. Shell."""

from __future__ import annotations

from collections.abc import Mapping

from logqueue.jobs.connection import start_client
from logqueue.jobs.settings import Settings
from logqueue.protocol.messages.leave_group import LeaveGroupRequest
from logqueue_consumers.transactions.wire import GROUP, LogClient


async def evict(settings: Settings, memberships: Mapping[str, str]) -> None:
    """Remove a member from each of these groups. A group that does not know it (any more) is as it should be."""
    client = await start_client(lambda: LogClient(settings), settings)
    try:
        for group, member_id in memberships.items():
            request = LeaveGroupRequest(group_id=group, member_id=member_id)
            await client.ask_coordinator(GROUP, group, request, lowest=0, highest=2)
    finally:
        await client.stop()
