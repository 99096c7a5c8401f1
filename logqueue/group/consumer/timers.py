"""Deadlines of the members of consumer groups (KIP-848). Knows what is due when, not what follows.

| kind     | runs                                                      | until                                   |
|----------|-----------------------------------------------------------|-----------------------------------------|
| session  | always                                                    | the next sign of life                   |
| revoke   | while the member has to give partitions up                | it reports to own them no more          |
| rejoin   | from when a classic member is told to join again          | it joins                                |
| sync     | from a classic member's join                              | it syncs                                |
| regex    | from when regular expressions have to be resolved: now    | they are                                |

What follows a deadline waits for the group's turn, and requests of the member may be served before it. An eviction that
they have made void by then, setting or ending its deadline anew, is not overdue any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

from logqueue.coordination.effects import Now
from logqueue.coordination.timers import Timers
from logqueue.group.consumer.member import ConsumerMember, MemberState

Sees: TypeAlias = Callable[[str], bool] | None
KINDS = ("session", "revoke", "rejoin", "sync")
RETRY_MS = 1_000  # an eviction that could not be written is tried again after this time


class Eviction(NamedTuple):
    """A member whose time is up: by which deadline, and at which epoch it was to do something (None: at any)."""

    kind: str
    group_id: str
    member_id: str
    epoch: int | None = None

    @property
    def key(self) -> tuple[str, ...]:
        return _key(self.kind, self.group_id, self.member_id)


Evict: TypeAlias = Callable[[Eviction, Now], None]


class ConsumerTimers:
    """Sets and forgets the deadlines; calls `evict(eviction, now)` when one has come."""

    def __init__(self, timers: Timers, *, evict: Evict, refresh_regexes: Callable[[str, Sees, Now], None]) -> None:
        self._timers = timers
        self._evict = evict
        self._refresh_regexes = refresh_regexes
        self._overdue: set[tuple[str, ...]] = set()  # deadlines that have come, and have not been set or ended since

    def keep_session(self, group_id: str, member_id: str, *, timeout_ms: int, now: Now) -> None:
        """The member is alive: its session starts anew."""
        self._set(Eviction("session", group_id, member_id), timeout_ms, now)

    def watch_revocation(self, group_id: str, member: ConsumerMember, now: Now) -> None:
        """Give a member that has to give partitions up its rebalance timeout for that, and stop when it has."""
        eviction = Eviction("revoke", group_id, member.member_id, member.standing.epoch)
        if member.is_classic or member.standing.state is not MemberState.UNREVOKED:
            self._end(eviction.key)
        else:
            self._set(eviction, member.profile.rebalance_timeout_ms, now)

    def expect_rejoin(self, group_id: str, member: ConsumerMember, now: Now) -> None:
        """A classic member was told to join again; telling it twice gives it no more time."""
        eviction = Eviction("rejoin", group_id, member.member_id)
        if not self._timers.has(eviction.key) and not self.is_overdue(eviction):
            self._set(eviction, member.profile.rebalance_timeout_ms, now)

    def expect_sync(self, group_id: str, member: ConsumerMember, now: Now) -> None:
        """A classic member has joined and has to fetch its assignment."""
        self._end(_key("rejoin", group_id, member.member_id))
        self._set(Eviction("sync", group_id, member.member_id), member.profile.rebalance_timeout_ms, now)

    def has_synced(self, group_id: str, member_id: str) -> None:
        """A classic member has its assignment."""
        self._end(_key("sync", group_id, member_id))

    def is_overdue(self, eviction: Eviction) -> bool:
        """Whether the member still has not done what it was given time for."""
        return eviction.key in self._overdue

    def retry_eviction(self, eviction: Eviction, now: Now) -> None:
        """An eviction could not be written."""
        due = now.monotonic + RETRY_MS / 1000
        self._timers.set(("retry", *eviction.key), due, partial(self._evict, eviction))

    def forget(self, group_id: str, member_id: str) -> None:
        """The member is gone."""
        for kind in KINDS:
            key = _key(kind, group_id, member_id)
            self._end(key)
            self._timers.cancel(("retry", *key))

    def resolve_regexes(self, group_id: str, sees: Sees, now: Now) -> None:
        """Have the group's patterns resolved, behind what is being answered now, to topics its caller sees."""
        self._timers.set(("regex", group_id), now.monotonic, partial(self._refresh_regexes, group_id, sees))

    def is_resolving(self, group_id: str) -> bool:
        """Whether they are about to be."""
        return self._timers.has(("regex", group_id))

    def _set(self, eviction: Eviction, timeout_ms: int, now: Now) -> None:
        key = eviction.key
        self._overdue.discard(key)
        self._timers.set(key, now.monotonic + timeout_ms / 1000, partial(self._on_deadline, eviction))

    def _end(self, key: tuple[str, ...]) -> None:
        self._overdue.discard(key)
        self._timers.cancel(key)

    def _on_deadline(self, eviction: Eviction, now: Now) -> None:
        self._overdue.add(eviction.key)
        self._evict(eviction, now)


def _key(kind: str, group_id: str, member_id: str) -> tuple[str, ...]:
    return ("member", kind, group_id, member_id)
