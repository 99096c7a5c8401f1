"""Lanes: which jobs must wait for which. One job of a lane runs at a time, lanes run beside each other. No IO.

The order of a queue decides the lane: `tenant` gives each tenant of a partition its own lane, `partition` one lane for
all, `none` no lane at all. A job keeps its lane while it waits for a retry in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

J = TypeVar("J")


class Lanes(Generic[J]):
    """Jobs in arrival order per lane; only a lane's head may run."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[J] | None] = {}

    def enter(self, lane: Hashable, job: J) -> bool:
        """The job arrives; true when the lane was free and the job may run now."""
        waiting = self._waiting
        if lane not in waiting:
            waiting[lane] = None
            return True
        queue = waiting[lane]
        if queue is None:
            queue = waiting[lane] = deque()
        queue.append(job)
        return False

    def is_busy(self, lane: Hashable) -> bool:
        """Whether a job of the lane runs or waits for a retry."""
        return lane in self._waiting

    def leave(self, lane: Hashable) -> J | None:
        """The running job is over; returns the next of its lane, which may run now, or None."""
        queue = self._waiting[lane]
        if queue:
            return queue.popleft()
        del self._waiting[lane]
        return None

    def withdraw(self, is_gone: Callable[[J], bool]) -> list[J]:
        """Remove and return jobs behind running ones for which `is_gone` holds."""
        gone: list[J] = []
        for queue in self._waiting.values():
            if queue:
                leaving = [job for job in queue if is_gone(job)]
                if leaving:
                    gone += leaving
                    staying = [job for job in queue if job not in leaving]
                    queue.clear()
                    queue.extend(staying)
        return gone

    def clear(self, lane: Hashable) -> list[J]:
        """Drop a lane whose partition was lost; returns the jobs in it that never started."""
        return list(self._waiting.pop(lane, None) or ())

    @property
    def busy_count(self) -> int:
        """Lanes with a running job."""
        return len(self._waiting)

    @property
    def waiting_count(self) -> int:
        """Jobs behind a running one."""
        return sum(len(queue) for queue in self._waiting.values() if queue)
