"""Turns: entries in ascending order, cheap where most of them come in that order. No IO.

A tenant that is served, or comes for the first time, mostly goes behind all others: its entry is appended to a run.
Only what belongs before the run's end goes into a heap, so thousands of tenants cost no more than ten.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Generic, TypeVar

E = TypeVar("E", bound=Any)


class Turns(Generic[E]):
    """Entries that can be compared; no two are equal."""

    __slots__ = ("_heap", "_run")

    def __init__(self) -> None:
        self._run: deque[E] = deque()
        self._heap: list[E] = []

    def __len__(self) -> int:
        return len(self._run) + len(self._heap)

    def __iter__(self) -> Iterator[E]:
        """All of them, in no order."""
        return chain(self._run, self._heap)

    def push(self, entry: E) -> None:
        """One more entry."""
        if not self._run or entry > self._run[-1]:
            self._run.append(entry)
        else:
            heapq.heappush(self._heap, entry)

    def pop(self) -> E | None:
        """Remove and return the smallest one; None when there is none."""
        run, heap = self._run, self._heap
        if heap and (not run or heap[0] < run[0]):
            return heapq.heappop(heap)
        return run.popleft() if run else None

    def replace(self, entries: Iterable[E]) -> None:
        """From now on these, in whatever order they come here."""
        self._run = deque(sorted(entries))
        self._heap.clear()

    def clear(self) -> None:
        """Forget them all."""
        self._run.clear()
        self._heap.clear()
