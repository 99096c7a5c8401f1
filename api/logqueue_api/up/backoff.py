"""When a child that ended is started again. Sans-IO: ends and times go in, decisions come out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartLimits:
    """The bounds of restarting.

    A child that was ready for `stable_seconds` has proven itself: its next end counts as the first one again.
    `quick_ends` ends in a row without that end the whole supervisor, unless the child was at its work.
    """

    first_seconds: float = 0.2
    factor: float = 2.0
    cap_seconds: float = 10.0
    stable_seconds: float = 3.0
    quick_ends: int = 6


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It ended `ends` times in a row as soon as it had started."""

    ends: int


class Backoff:
    """The memory of one child's ends."""

    def __init__(self, limits: RestartLimits) -> None:
        self._limits = limits
        self._quick_ends = 0

    def ended(self, *, ready_at: float | None, now: float, is_able: bool = False) -> Restart | GiveUp:
        """The child ended at `now`; it had been ready since `ready_at` (None: it never was).

        `is_able`: it got as far as its work, so that what ends it may be one job. It is not given up.
        """
        if ready_at is not None and now - ready_at >= self._limits.stable_seconds:
            self._quick_ends = 0
        self._quick_ends += 1
        if self._quick_ends >= self._limits.quick_ends and not is_able:
            return GiveUp(self._quick_ends)
        delay = self._limits.first_seconds * self._limits.factor ** (min(self._quick_ends, self._limits.quick_ends) - 1)
        return Restart(min(delay, self._limits.cap_seconds))
