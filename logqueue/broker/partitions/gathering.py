"""Whether a round of fsyncs waits a moment for those who were just answered. No clock, no loop.

Producers that send one batch at a time fall into two groups: while the disk works for the one, the other waits, and so
each request waits for two fsyncs, the other group's and its own. If the next round begins a moment later, all are in
it, and each waits for one (the same idea as PostgreSQL's commit_delay, but it learns by itself whether it pays). That
moment has to be short against the fsync, and those who were answered have to come back.
"""

from __future__ import annotations

WORTHWHILE_SECONDS = 0.0005
"""Rounds below this are not waited for: coming back takes nearly as long."""

SHARE_OF_ROUND = 0.5
MAX_SECONDS = 0.005
"""How long at most, as a share of what the round took and all in all."""

MAX_FAILURES = 8
"""After n rounds in a row that waited in vain, 2 to the power of n rounds do not; n stops here."""


class Gathering:
    """What has been seen of the last rounds. `wanted` is the number of requests that the next one begins with."""

    __slots__ = ("_failures", "_pause", "_worthwhile_seconds", "wanted")

    def __init__(self, *, worthwhile_seconds: float = WORTHWHILE_SECONDS) -> None:
        self._worthwhile_seconds = worthwhile_seconds
        self._failures = 0
        self._pause = 0  # rounds that are not waited for
        self.wanted = 0

    def after_round(self, *, answered: int, waiting: int, seconds: float) -> float:
        """A round is through: how many seconds the next one may wait until there are `wanted` requests; 0 is no wait.

        `answered` were in the round, which took `seconds`; `waiting` have come since it began.
        """
        self.wanted = 0
        if seconds < self._worthwhile_seconds or answered + waiting < 2:
            return 0.0
        if self._pause:
            self._pause -= 1
            return 0.0
        self.wanted = answered + waiting
        return min(seconds * SHARE_OF_ROUND, MAX_SECONDS)

    def met(self) -> None:
        """They have all come."""
        self._failures = 0
        self.wanted = 0

    def expire(self, *, waiting: int) -> None:
        """The time is over, and some have not come; `waiting` others have waited for them."""
        self.wanted = 0
        if waiting:
            self._failures = min(self._failures + 1, MAX_FAILURES)
            self._pause = 2**self._failures
