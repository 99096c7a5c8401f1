"""The fetch sessions of a broker: as many as there are slots, and who has to go for whom (KIP-227). Knows no fetch.

A new session takes the place of one that was not used for two minutes; or of the smallest that is no larger than itself
and older than two minutes. Sessions of followers are privileged: they push aside any of a consumer.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Generic, Protocol, TypeVar

EVICTION_MS = 120_000
"""As long a session is left alone by others of its kind, from its beginning and from its last use."""
NO_SESSION = 0
_LARGEST_ID = 2**31 - 1


class Cached(Protocol):
    """What the cache keeps (two today: fetch sessions and the stand-ins of tests)."""

    id: int
    is_privileged: bool
    created_ms: float
    used_ms: float

    def __len__(self) -> int:
        """Partitions."""

    def close(self) -> None:
        """It is out of the cache."""


S = TypeVar("S", bound=Cached)


class SessionCache(Generic[S]):
    """Sessions by id. Time comes in as milliseconds, ids from `new_id`, which gives any positive number."""

    def __init__(self, *, slots: int, new_id: Callable[[], int]) -> None:
        self._slots = slots
        self._new_id = new_id
        self._sessions: dict[int, S] = {}
        # Nobody has to go for a session of this rank or less until then: looked for once, not with every fetch.
        self._is_full_until_ms = -inf
        self._refused = (False, 0)

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, session_id: int) -> S | None:
        return self._sessions.get(session_id)

    def make_room(self, *, is_privileged: bool, size: int, now_ms: float) -> bool:
        """Whether there is a slot for a new session of `size` partitions; another one may have to go for it."""
        if len(self._sessions) < self._slots:
            return True
        rank = is_privileged, size
        if not self._sessions or (rank <= self._refused and now_ms < self._is_full_until_ms):
            return False
        goes = self._who_goes(rank, now_ms)
        if goes is None:
            self._refused = rank
            self._is_full_until_ms = self._next_change_ms(now_ms)
            return False
        self.remove(goes.id)
        return True

    def enter(self, session: S, now_ms: float) -> int:
        """Give a session its id, in the room that was made for it."""
        number = self._new_id()
        while number == NO_SESSION or number in self._sessions:
            number = number % _LARGEST_ID + 1
        session.id = number
        session.created_ms = session.used_ms = now_ms
        self._sessions[number] = session
        return number

    def remove(self, session_id: int) -> None:
        """Close a session, if there is one of this id."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.close()

    def _who_goes(self, rank: tuple[bool, int], now_ms: float) -> S | None:
        oldest = min(self._sessions.values(), key=lambda each: each.used_ms)
        if now_ms - oldest.used_ms > EVICTION_MS:
            return oldest
        candidates = (each for each in self._sessions.values() if _may_go(each, for_privileged=rank[0]))
        least = min(candidates, key=_rank, default=None)
        return least if least is not None and _rank(least) <= rank else None

    def _next_change_ms(self, now_ms: float) -> float:
        """Until then no session of now may go that may not go now."""
        ages = (
            min(each.used_ms, each.created_ms if now_ms - each.created_ms <= EVICTION_MS else inf)
            for each in self._sessions.values()
        )
        return min(ages) + EVICTION_MS


def _rank(session: Cached) -> tuple[bool, int]:
    return session.is_privileged, len(session)


def _may_go(session: Cached, *, for_privileged: bool) -> bool:
    return session.used_ms - session.created_ms > EVICTION_MS or (for_privileged and not session.is_privileged)
