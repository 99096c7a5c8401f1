"""A clock that a test moves, with its own timers. Knows no jobs.

Timers run in the event loop that set them and in the order of their times. A timer of something that is dead (a worker
that was killed) does not run: `is_alive` is asked in the context in which it was set.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from contextvars import Context, copy_context
from itertools import count
from typing import Any

FIRST_MONOTONIC_S = 1_000.0


class VirtualTimer:
    """A call that comes when the clock is moved to its time."""

    __slots__ = ("args", "at_ms", "call", "context")

    def __init__(self, at_ms: int, call: Callable[..., object] | None, args: tuple[Any, ...], context: Context) -> None:
        self.at_ms = at_ms
        self.call = call
        self.args = args
        self.context = context

    def cancel(self) -> None:
        """It does not come."""
        self.call = None


class VirtualClock:
    """Time stands still between two `move_to`. Reading it is safe from any thread; timers belong to one loop."""

    def __init__(self, *, time_ms: int, is_alive: Callable[[], bool] = lambda: True) -> None:
        self._begin_ms = time_ms
        self._now_ms = time_ms
        self._is_alive = is_alive
        self._timers: list[tuple[int, int, VirtualTimer]] = []
        self._numbers = count()

    def time_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return self._now_ms

    def monotonic(self) -> float:
        """Seconds from an arbitrary moment on."""
        return FIRST_MONOTONIC_S + (self._now_ms - self._begin_ms) / 1000

    def wall_ms(self, monotonic_s: float) -> int:
        """The first millisecond at which the monotonic clock shows at least this."""
        at_ms = self._begin_ms + math.ceil((monotonic_s - FIRST_MONOTONIC_S) * 1000 - 1e-6)
        return at_ms if FIRST_MONOTONIC_S + (at_ms - self._begin_ms) / 1000 >= monotonic_s else at_ms + 1

    def call_later(self, delay_s: float, call: Callable[..., object], *args: Any) -> VirtualTimer:
        """Call it when the clock has moved on by `delay_s`; at once (in the loop's next turn) if that is nothing."""
        at_ms = self.wall_ms(self.monotonic() + max(0.0, delay_s))
        timer = VirtualTimer(at_ms, call, args, copy_context())
        if at_ms <= self._now_ms:
            asyncio.get_running_loop().call_soon(self._run, timer)
        else:
            heapq.heappush(self._timers, (at_ms, next(self._numbers), timer))
        return timer

    def next_ms(self) -> int | None:
        """When the first timer comes; None when there is none."""
        while self._timers and not self._will_run(self._timers[0][2]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def move_to(self, time_ms: int) -> None:
        """It is this late now: timers up to then run, in this turn of the loop."""
        self._now_ms = max(self._now_ms, time_ms)
        while (at_ms := self.next_ms()) is not None and at_ms <= self._now_ms:
            self._run(heapq.heappop(self._timers)[2])

    def _will_run(self, timer: VirtualTimer) -> bool:
        return timer.call is not None and timer.context.run(self._is_alive)

    def _run(self, timer: VirtualTimer) -> None:
        if self._will_run(timer):
            call, timer.call = timer.call, None
            assert call is not None
            timer.context.run(call, *timer.args)
