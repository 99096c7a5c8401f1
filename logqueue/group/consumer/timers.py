"""Deadlines of the members of consumer groups (KIP-848). Knows what is due when, not what follows.

| kind     | runs                                                      | until                                   |
|----------|-----------------------------------------------------------|-----------------------------------------|
| session  | always                                                    | the next sign of life                   |
| revoke   | while the member has to give partitions up                | it reports to own them no more          |
| rejoin   | from when a classic member is told to join again          | it joins                                |
| sync     | from a classic member's join                              | it syncs                                |
| regex    | from when regular expressions have to be resolved: now    | they are                                |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from logqueue.coordination.effects import Now
from logqueue.coordination.timers import Timers
from logqueue.group.consumer.member import ConsumerMember, MemberState

Evict: TypeAlias = Callable[[str, str, int | None, Now], None]
Sees: TypeAlias = Callable[[str], bool] | None
KINDS = ("session", "revoke", "rejoin", "sync", "retry")
RETRY_MS = 1_000  # an eviction that could not be written is tried again after this time


class ConsumerTimers:
    """Sets and forgets the deadlines; calls `evict(group, member, epoch or None for any, now)` when one has come."""

    def __init__(self, timers: Timers, *, evict: Evict, refresh_regexes: Callable[[str, Sees, Now], None]) -> None:
        self._timers = timers
        self._evict = evict
        self._refresh_regexes = refresh_regexes

    def keep_session(self, group_id: str, member_id: str, *, timeout_ms: int, now: Now) -> None:
        """The member is alive: its session starts anew."""
        self._set("session", group_id, member_id, timeout_ms, now)

    def watch_revocation(self, group_id: str, member: ConsumerMember, now: Now) -> None:
        """Give a member that has to give partitions up its rebalance timeout for that, and stop when it has."""
        key = ("member", "revoke", group_id, member.member_id)
        if member.is_classic or member.standing.state is not MemberState.UNREVOKED:
            self._timers.cancel(key)
            return
        due = now.monotonic + member.profile.rebalance_timeout_ms / 1000
        self._timers.set(key, due, partial(self._evict, group_id, member.member_id, member.standing.epoch))

    def expect_rejoin(self, group_id: str, member: ConsumerMember, now: Now) -> None:
        """A classic member was told to join again; telling it twice gives it no more time."""
        if not self._timers.has(("member", "rejoin", group_id, member.member_id)):
            self._set("rejoin", group_id, member.member_id, member.profile.rebalance_timeout_ms, now)

    def expect_sync(self, group_id: str, member: ConsumerMember, now: Now) -> None:
        """A classic member has joined and has to fetch its assignment."""
        self._timers.cancel(("member", "rejoin", group_id, member.member_id))
        self._set("sync", group_id, member.member_id, member.profile.rebalance_timeout_ms, now)

    def has_synced(self, group_id: str, member_id: str) -> None:
        """A classic member has its assignment."""
        self._timers.cancel(("member", "sync", group_id, member_id))

    def retry_eviction(self, group_id: str, member_id: str, epoch: int | None, now: Now) -> None:
        """An eviction could not be written."""
        due = now.monotonic + RETRY_MS / 1000
        self._timers.set(
            ("member", "retry", group_id, member_id), due, partial(self._evict, group_id, member_id, epoch)
        )

    def forget(self, group_id: str, member_id: str) -> None:
        """The member is gone."""
        for kind in KINDS:
            self._timers.cancel(("member", kind, group_id, member_id))

    def resolve_regexes(self, group_id: str, sees: Sees, now: Now) -> None:
        """Have the group's patterns resolved, behind what is being answered now, to topics its caller sees."""
        self._timers.set(("regex", group_id), now.monotonic, partial(self._refresh_regexes, group_id, sees))

    def is_resolving(self, group_id: str) -> bool:
        """Whether they are about to be."""
        return self._timers.has(("regex", group_id))

    def _set(self, kind: str, group_id: str, member_id: str, timeout_ms: int, now: Now) -> None:
        due = now.monotonic + timeout_ms / 1000
        self._timers.set(("member", kind, group_id, member_id), due, partial(self._evict, group_id, member_id, None))
