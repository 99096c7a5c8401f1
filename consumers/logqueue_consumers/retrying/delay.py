"""Delayed jobs held in memory until they are due: a bounded heap that is never early. No IO, no clock.

The owner asks with its own `now` and learns when to ask again. When the heap is full the owner stops taking records
(or sends the job to the retry topic), so memory has a bound whatever the log holds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

J = TypeVar("J")


class DelayHeap(Generic[J]):
    """At most `limit` jobs, each with the time it is due; times are in whatever unit the owner uses throughout."""

    __slots__ = ("_heap", "_numbers", "limit")

    def __init__(self, limit: int) -> None:
        assert limit > 0, "a heap that holds nothing would stop every delayed job"
        self.limit = limit
        self._heap: list[tuple[float, int, J]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def is_full(self) -> bool:
        return len(self._heap) >= self.limit

    def push(self, due: float, job: J) -> bool:
        """Hold the job until `due`; false (and nothing held) when the heap is full."""
        if self.is_full:
            return False
        heapq.heappush(self._heap, (due, next(self._numbers), job))
        return True

    def pop_due(self, now: float) -> list[J]:
        """Remove and return the jobs with `due <= now`, the earliest first; jobs due together keep their order."""
        jobs = []
        while self._heap and self._heap[0][0] <= now:
            jobs.append(heapq.heappop(self._heap)[2])
        return jobs

    def next_due(self) -> float | None:
        """When the earliest job is due; None when nothing waits."""
        return self._heap[0][0] if self._heap else None

    def remove(self, is_gone: Callable[[J], bool]) -> list[J]:
        """Remove and return the jobs for which `is_gone` holds (their partition was lost, the worker stops)."""
        gone = [entry for entry in sorted(self._heap, key=lambda entry: entry[:2]) if is_gone(entry[2])]
        if gone:
            numbers = {entry[1] for entry in gone}
            self._heap = [entry for entry in self._heap if entry[1] not in numbers]
            heapq.heapify(self._heap)
        return [entry[2] for entry in gone]
