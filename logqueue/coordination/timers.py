"""Named deadlines: set, move, cancel, take what is due. Knows nothing of groups."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from itertools import count
from typing import NamedTuple, TypeAlias

from logqueue.coordination.effects import Now

Action: TypeAlias = Callable[[Now], None]


class _Timer(NamedTuple):
    deadline: float
    action: Action


class Timers:
    """At most one deadline per key, in seconds of the monotonic clock.

    Moving a deadline later (every heartbeat does) costs a dictionary write: the heap holds one entry per key, and an
    entry that surfaces too early is pushed back with its present deadline.
    """

    __slots__ = ("_heap", "_queued", "_serial", "_timers")

    def __init__(self) -> None:
        self._timers: dict[Hashable, _Timer] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._queued: dict[Hashable, float] = {}  # key -> the deadline its live heap entry carries
        self._serial = count()

    def set(self, key: Hashable, deadline: float, action: Action) -> None:
        """Run `action` once `deadline` has come; replaces what the key had."""
        self._timers[key] = _Timer(deadline, action)
        queued = self._queued.get(key)
        if queued is None or deadline < queued:
            self._push(key, deadline)

    def cancel(self, key: Hashable) -> None:
        """Forget the key's deadline, if it has one."""
        self._timers.pop(key, None)

    def has(self, key: Hashable) -> bool:
        """Whether the key has a deadline."""
        return key in self._timers

    def next_deadline(self) -> float | None:
        """The earliest deadline, None when there is none."""
        self._settle_top()
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> Action | None:
        """The action of the earliest deadline that has come, removed; None when none has."""
        self._settle_top()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._queued[key]
        return self._timers.pop(key).action

    def _push(self, key: Hashable, deadline: float) -> None:
        self._queued[key] = deadline
        heapq.heappush(self._heap, (deadline, next(self._serial), key))

    def _settle_top(self) -> None:
        """Drop entries that are cancelled or replaced, and requeue moved ones, until the top is true."""
        while self._heap:
            deadline, _, key = self._heap[0]
            if self._queued.get(key) != deadline:
                heapq.heappop(self._heap)
                continue
            timer = self._timers.get(key)
            if timer is not None and timer.deadline == deadline:
                return
            heapq.heappop(self._heap)
            del self._queued[key]
            if timer is not None:
                self._push(key, timer.deadline)
