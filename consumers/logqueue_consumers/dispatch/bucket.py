"""A bucket: how many jobs may run at once and start in a time, for one value of one limit. No IO, no clock.

A rate is a token bucket: it fills by `rate` tokens a second up to `burst`, and a start takes one. So in any time of
`t` seconds at most `burst + rate * t` jobs start. A bucket that lets nothing run at all is a pause.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logqueue.jobs.limits import Limit
    from logqueue_consumers.dispatch.flow import Flow

SLOW_RATE = 1.0
"""A bucket that fills slower than this (tokens a second) begins with one token, a faster one with none."""
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a bucket allows; None is no bound. `rate` in tokens a second."""

    running: int | None = None
    rate: float | None = None
    burst: float = 1.0

    @classmethod
    def of(cls, limit: Limit, *, share: float = 1.0) -> Bounds:
        """This share of a limit: what a worker enforces that owns this share of a queue's partitions."""
        from logqueue.jobs.limits import parse_rate

        running = None if limit.running is None else max(1, int(limit.running * share + _EPSILON))
        if limit.rate is None:
            return cls(running=running)
        rate = parse_rate(limit.rate).per_second
        burst = limit.burst if limit.burst is not None else max(1, int(rate))
        return cls(running=running, rate=rate * share, burst=max(1.0, float(int(burst * share + _EPSILON))))


PAUSED = Bounds(running=0)
ONE = Bounds(running=1)


class Bucket:
    """One value's running jobs and tokens, and the flows of jobs that wait for them."""

    __slots__ = ("_at_s", "_bounds", "_tokens", "running", "waiting")

    def __init__(self, bounds: Bounds, since_s: float) -> None:
        """Nothing has started here since `since_s`."""
        self.running = 0
        self.waiting: OrderedDict[Flow, None] = OrderedDict()
        """Flows whose next job this bucket holds back, the longest waiting first."""
        self._bounds = bounds
        self._at_s = since_s
        # Nobody knows what the owner before `since_s` has let start: a full bucket would let a burst through at every
        # change of owners. A slow bucket that began empty might never fill between two of them.
        self._tokens = 1.0 if bounds.rate is not None and bounds.rate < SLOW_RATE else 0.0

    @property
    def bounds(self) -> Bounds:
        return self._bounds

    def change(self, bounds: Bounds, now_s: float) -> None:
        """Other bounds hold from now on; the tokens that are there stay, up to the new burst."""
        self._fill(now_s)
        self._bounds = bounds
        self._tokens = min(self._tokens, bounds.burst)

    def has_room(self, now_s: float) -> bool:
        """Whether one more job may start."""
        bounds = self._bounds
        if bounds.running is not None and self.running >= bounds.running:
            return False
        if bounds.rate is None:
            return True
        self._fill(now_s)
        return self._tokens >= 1.0 - _EPSILON

    def start(self) -> None:
        """A job starts; the caller has looked at `has_room`."""
        self.running += 1
        if self._bounds.rate is not None:
            self._tokens = max(0.0, self._tokens - 1.0)

    def adopt(self) -> None:
        """A job that runs already counts here from now on."""
        self.running += 1

    def end(self) -> None:
        """A job that runs here is over."""
        assert self.running > 0, "what ends has started"
        self.running -= 1

    def filled_at(self, now_s: float) -> float | None:
        """When a token that is missing is there; None when time alone changes nothing."""
        bounds = self._bounds
        if bounds.rate is None or (bounds.running is not None and self.running >= bounds.running):
            return None
        self._fill(now_s)
        missing = 1.0 - self._tokens
        return now_s + missing / bounds.rate if missing > _EPSILON else None

    def is_idle(self, now_s: float) -> bool:
        """Whether forgetting it changes nothing that could let more start."""
        if self.running or self.waiting:
            return False
        if self._bounds.rate is None:
            return True
        self._fill(now_s)
        return self._tokens >= self._bounds.burst - _EPSILON

    def _fill(self, now_s: float) -> None:
        rate = self._bounds.rate
        if rate is not None and now_s > self._at_s:
            self._tokens = min(self._bounds.burst, self._tokens + (now_s - self._at_s) * rate)
        self._at_s = max(self._at_s, now_s)
