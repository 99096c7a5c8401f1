"""How many worker processes there should be. Sans-IO: loads and times go in, a number comes out.

| grows                                                   | shrinks                                                   |
|---------------------------------------------------------|-----------------------------------------------------------|
| jobs have waited for `wait_seconds` or longer, and did   | no job waits as long, and half of the workers that would  |
| so for `grow_after`, while jobs ran or ended: twice as   | remain could hold what runs, for `shrink_after`: one less |
| many workers                                            |                                                           |

Between two changes lie `pause` seconds at least: each costs a rebalance. Jobs that wait because they are paused or held
by a limit make nothing grow: where nothing moves, more workers would not either. A constant load comes to rest: after
growing past what it needs the number shrinks no further than to where the same rule would not make it grow again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleLimits:
    """The bounds of scaling; `least` == `most` is a fixed number. Times in seconds."""

    least: int
    most: int
    wait_seconds: float = 2.0
    grow_after: float = 5.0
    shrink_after: float = 60.0
    pause: float = 15.0

    def __post_init__(self) -> None:
        assert 1 <= self.least <= self.most, "there is a worker, and no bound is below another"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What there is to do at one moment. `capacity` is what one worker may run at once."""

    queued: int
    oldest_seconds: float | None
    running: int
    ended: int
    """Jobs ended so far: only its growth counts."""
    capacity: int


class Scaler:
    """Decides for one set of workers."""

    def __init__(self, limits: ScaleLimits, *, now: float) -> None:
        self.wanted = limits.least
        self._limits = limits
        self._changed_at = now
        self._busy_since: float | None = None
        self._spare_since: float | None = None
        self._ended: int | None = None
        self._moved_at = -math.inf

    def decide(self, load: Load, now: float) -> int:
        """The number of workers that there should be from now on."""
        limits = self._limits
        if load.running or (self._ended is not None and load.ended > self._ended):
            self._moved_at = now
        self._ended = load.ended
        waits = load.queued > 0 and (load.oldest_seconds or 0.0) >= limits.wait_seconds
        is_busy = waits and now - self._moved_at <= limits.grow_after
        is_spare = not waits and load.running <= (self.wanted - 1) * load.capacity / 2
        self._busy_since = _since(self._busy_since, is_busy, now)
        self._spare_since = _since(self._spare_since, is_spare, now)
        if now - self._changed_at < limits.pause:
            return self.wanted
        if _lasts(self._busy_since, now, limits.grow_after):
            self._change(min(self.wanted * 2, limits.most), now)
        elif _lasts(self._spare_since, now, limits.shrink_after):
            self._change(max(self.wanted - 1, limits.least), now)
        return self.wanted

    def _change(self, wanted: int, now: float) -> None:
        if wanted != self.wanted:
            self.wanted, self._changed_at = wanted, now
            self._busy_since = self._spare_since = None


def _since(before: float | None, holds: bool, now: float) -> float | None:
    if not holds:
        return None
    return now if before is None else before


def _lasts(since: float | None, now: float, seconds: float) -> bool:
    return since is not None and now - since >= seconds
