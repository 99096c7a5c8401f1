"""Does in the log what a dead worker's will says. Shell over one connection.

The order: its own transactions first (nobody else uses their id), so that readers of committed records go on; then each
membership, so that the group shares its partitions out. The ids that partitions of a keeper have are the next owner's
too: they are fenced only while the group still counts the dead member, which means that there is no next owner yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from logqueue.errors import ErrorCode
from logqueue.jobs.connection import start_client
from logqueue.jobs.settings import Settings
from logqueue.protocol.api import ApiKey
from logqueue.protocol.messages.heartbeat import HeartbeatRequest
from logqueue.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from logqueue.protocol.schema import Message
from logqueue_consumers.transactions.transaction import init_session
from logqueue_consumers.transactions.wire import GROUP, BrokerError, LogClient
from logqueue_consumers.wills.will import Membership, Will

RETRY_S = 0.05
MAX_BACKOFF_S = 1.0
REASON = "it does not come back"

_NOT_YET = frozenset(
    {
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    }
)
_GONE = frozenset({ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID, ErrorCode.GROUP_ID_NOT_FOUND})


async def settle(
    will: Will,
    settings: Settings,
    *,
    transaction_timeout_ms: int,
    own_id: str | None = None,
    before_leaving: Callable[[], Awaitable[None]],
) -> None:
    """Carry a will out; `own_id` is a transactional id that the caller uses by now.

    Harmless to do twice. Raises aiokafka's errors (BrokerError), BrokerUnreachable.
    """
    client = await start_client(lambda: LogClient(settings), settings)
    try:
        if will.transactional_id is not None and will.transactional_id != own_id:
            await _end_transactions(client, will.transactional_id, timeout_ms=transaction_timeout_ms)
        if will.memberships:
            await before_leaving()
        for membership in will.memberships:
            if membership.transactional_ids and await _is_member(client, membership):
                for transactional_id in membership.transactional_ids:
                    await _end_transactions(client, transactional_id, timeout_ms=transaction_timeout_ms)
            await leave(client, membership.group, member_id=membership.member_id)
    finally:
        await client.stop()


async def leave(client: LogClient, group: str, *, member_id: str = "", instance_id: str | None = None) -> None:
    """Take a member out of its group, if it is still in; with an instance id alone whoever holds that (KIP-345).

    Raises BrokerError and what `LogClient.ask_coordinator` raises.
    """
    member = MemberIdentity(member_id=member_id, group_instance_id=instance_id, reason=REASON)
    request = LeaveGroupRequest(group_id=group, member_id=member_id, members=[member])
    lowest = 0 if instance_id is None else 3

    answer = await _ask(client, group, request, lowest=lowest, highest=5)
    code = answer.error_code or next((each.error_code for each in answer.members), 0)
    if code and code not in _GONE:
        raise BrokerError(ApiKey.LEAVE_GROUP, code, group)


async def _is_member(client: LogClient, membership: Membership) -> bool:
    """Whether the group counts it in: of a member it says at most that its generation is another."""
    request = HeartbeatRequest(group_id=membership.group, generation_id=0, member_id=membership.member_id)
    answer = await _ask(client, membership.group, request, lowest=0, highest=4)
    return answer.error_code not in _GONE


async def _ask(client: LogClient, group: str, request: Message, *, lowest: int, highest: int) -> Any:
    """The answer of a group's coordinator; asks again while there is none (the caller bounds the time)."""
    while True:
        try:
            answer = await client.ask_coordinator(GROUP, group, request, lowest=lowest, highest=highest)
            if answer.error_code not in _NOT_YET:
                return answer
        except BrokerError as error:  # of the coordinator's lookup
            if error.code not in _NOT_YET:
                raise
        client.forget_coordinator(GROUP, group)
        await asyncio.sleep(RETRY_S)


async def _end_transactions(client: LogClient, transactional_id: str, *, timeout_ms: int) -> None:
    await init_session(client, transactional_id, timeout_ms=timeout_ms, max_backoff_s=MAX_BACKOFF_S)
