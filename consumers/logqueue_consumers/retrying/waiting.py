"""Jobs that wait in memory for their time: retries, which keep their lane, and records of the retry topic. One timer.

Retries are timed by the monotonic clock, since their delay counts from now; records by the wall clock, since their
headers name a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from logqueue_consumers.retrying.delay import DelayHeap

if TYPE_CHECKING:
    from logqueue.clock import Clock, Timer
    from logqueue_consumers.job import Job
    from logqueue_consumers.limits import WorkerLimits


class WaitingRoom:
    """Both kinds, within their bounds; `retry_due` and `record_due` are given the jobs whose time has come.

    `on_due` is called after each round, with whether records had filled their part before it.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        limits: WorkerLimits,
        retry_due: Callable[[Job], None],
        record_due: Callable[[Job], None],
        on_due: Callable[[bool], None],
    ) -> None:
        self.retries: DelayHeap[Job] = DelayHeap(limits.max_memory_retries)
        self.records: DelayHeap[Job] = DelayHeap(limits.max_delayed)
        self._clock = clock
        self._retry_due = retry_due
        self._record_due = record_due
        self._on_due = on_due
        self._timer: Timer | None = None
        self._timer_at_s = 0.0

    def __len__(self) -> int:
        return len(self.retries) + len(self.records)

    def hold_retry(self, job: Job, delay_s: float) -> bool:
        """Wait that long; false when there is no room."""
        is_held = self.retries.push(self._clock.monotonic() + delay_s, job)
        self.set_timer()
        return is_held

    def hold_record(self, job: Job, due_ms: int) -> bool:
        """Wait until then; false when there is no room."""
        is_held = self.records.push(due_ms / 1000, job)
        self.set_timer()
        return is_held

    def hasten(self, is_early: Callable[[Job], bool]) -> None:
        """Those for which `is_early` holds need not wait any longer."""
        was_full = self.records.is_full
        for job in self.retries.remove(is_early):
            self._retry_due(job)
        for job in self.records.remove(is_early):
            self._record_due(job)
        self._on_due(was_full)

    def set_timer(self) -> None:
        """Wake when the earliest waiting job may be due."""
        now_s = self._clock.monotonic()
        waits = []
        if (retry_at := self.retries.next_due()) is not None:
            waits.append(retry_at - now_s)
        if (due_at := self.records.next_due()) is not None:
            waits.append(due_at - self._clock.time_ms() / 1000)
        if not waits:
            return
        at_s = now_s + max(0.0, min(waits))
        if self._timer is not None:
            if self._timer_at_s <= at_s:
                return
            self._timer.cancel()
        self._timer_at_s = at_s
        self._timer = self._clock.call_later(at_s - now_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        was_full = self.records.is_full
        for job in self.retries.pop_due(self._clock.monotonic()):
            if not job.partition.is_stopping:
                self._retry_due(job)
        for job in self.records.pop_due(self._clock.time_ms() / 1000):
            if not job.partition.is_stopping:
                self._record_due(job)
        self.set_timer()
        self._on_due(was_full)

    def stop(self) -> None:
        """No more timers."""
        if self._timer is not None:
            self._timer.cancel()
