"""Many deadlines behind one timer of the loop. Knows nothing of what is waiting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Protocol

log = logging.getLogger("logqueue.broker.deadlines")

_STALE_MIN = 1024


class Waiting(Protocol):
    """Something with a deadline (two today: a parked fetch and a group's timer)."""

    is_done: bool

    def on_deadline(self) -> None: ...


class Deadlines:
    """Wakes objects whose time has come; finished ones are forgotten lazily, never cancelled.

    Pushing costs a heap insertion, not a loop timer. Stale entries are swept once they outnumber the live ones.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, after_wake: Callable[[], None]) -> None:
        self._loop = loop
        self._after_wake = after_wake
        self._heap: list[tuple[float, int, Waiting]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf
        """When the timer goes off."""
        self._sweep_at = _STALE_MIN

    def __len__(self) -> int:
        """How many are remembered, finished ones included."""
        return len(self._heap)

    def push(self, deadline: float, waiting: Waiting) -> None:
        """Call `waiting.on_deadline()` at `deadline` (the loop's time) unless it is done by then."""
        heap = self._heap
        heappush(heap, (deadline, next(self._order), waiting))
        if deadline < self._due:
            self._arm(deadline)
        if len(heap) > self._sweep_at:
            heap[:] = [entry for entry in heap if not entry[2].is_done]
            heapify(heap)
            self._sweep_at = max(_STALE_MIN, 2 * len(heap))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._due = None, inf
        self._heap.clear()

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = deadline
        self._timer = self._loop.call_at(deadline, self._wake)

    def _wake(self) -> None:
        self._timer, self._due = None, inf
        heap = self._heap
        now = self._loop.time()
        while heap and (heap[0][2].is_done or heap[0][0] <= now):
            waiting = heappop(heap)[2]
            if not waiting.is_done:
                try:
                    waiting.on_deadline()
                except Exception:  # a bug of one must not stop the clock of all others
                    log.exception("a deadline failed in an unforeseen way; please report this")
        # What was just woken may have armed the timer for something later than what still waits.
        if heap and heap[0][0] < self._due:
            self._arm(heap[0][0])
        self._after_wake()
