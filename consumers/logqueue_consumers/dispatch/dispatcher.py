"""The ready jobs of a worker that has limits, priorities, fair shares or pauses. Looks like the deque it stands in for.

The engine and the crash watch append to it, runners take from it and tell when a job is over. What it adds is the time:
when a rate lets the next job start, the runners are woken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import TYPE_CHECKING

from logqueue_consumers.dispatch.ready_queue import ReadyQueue

if TYPE_CHECKING:
    from logqueue.clock import Clock, Timer
    from logqueue_consumers.dispatch.placing import Placing
    from logqueue_consumers.job import Job

MIN_WAIT_S = 0.001
"""Tokens that come faster than this are handed out together."""


class Dispatcher:
    """Ready jobs in the order in which they should start. Its length is how many may be tried now."""

    def __init__(self, placing: Placing, *, concurrency: int, clock: Clock, wake: Callable[[], None]) -> None:
        self._placing = placing
        self._clock = clock
        self._wake = wake
        self._queue = ReadyQueue(concurrency=concurrency)
        self._timer: Timer | None = None
        self._timer_at_s = inf

    # --- as a deque ---

    def __len__(self) -> int:
        return self._queue.active_count

    def __bool__(self) -> bool:
        return self._queue.has_active()

    def __iter__(self) -> Iterator[Job]:
        """Every job that waits, blocked ones with them."""
        return iter(list(self._queue.jobs()))

    def append(self, job: Job) -> None:
        """The job could run."""
        now_s = self._clock.monotonic()
        assert job.definition is not None, "only a job with a handler is ready"
        placed = self._placing.free.get((job.partition.queue, job.definition.type))
        if placed is None:
            if self._placing.is_stale:
                self.replace(now_s)
            placed = self._placing.place(job, now_s)
        self._queue.add(job, placed, now_s)

    def extend(self, jobs: Iterable[Job]) -> None:
        """These jobs could run."""
        for job in jobs:
            self.append(job)

    def popleft(self) -> Job | None:
        """The job to start now; None when none may. It counts as running until `ended`."""
        now_s = self._clock.monotonic()
        job = self._queue.take(now_s)
        if self._queue.fill_s < self._timer_at_s:
            self._set_timer(now_s)
        return job

    def clear(self) -> None:
        """Forget every job that waits."""
        self._queue.drain()

    def is_blocked(self, job: Job) -> bool:
        """Whether a limit or a pause keeps the job from starting at the moment."""
        now_s = self._clock.monotonic()
        if self._placing.is_stale:
            self.replace(now_s)
        return any(not bucket.has_room(now_s) for bucket in self._placing.place(job, now_s).buckets)

    # --- what has happened ---

    def ended(self, job: Job) -> None:
        """The attempt of a job that was taken is over."""
        held = self._queue.ended(job)
        if not held:
            return
        now_s = self._clock.monotonic()
        self._queue.freed(held, now_s)
        if self._queue.fill_s < self._timer_at_s:  # what waited for the end waits for a token now
            self._set_timer(now_s)

    def adopt(self, jobs: Iterable[Job]) -> None:
        """These run already."""
        now_s = self._clock.monotonic()
        for job in jobs:
            self._queue.adopt(job, self._placing.place(job, now_s), now_s)

    def replace(self, now_s: float) -> None:
        """Limits, weights, pauses or the shares of this worker have changed: every job gets its place anew."""
        waiting, running = self._queue.drain(), self._queue.release_all()
        self._placing.refresh(now_s)
        for job in running:
            self._queue.adopt(job, self._placing.place(job, now_s), now_s)
        for job in waiting:
            self._queue.add(job, self._placing.place(job, now_s), now_s)

    @property
    def waiting_count(self) -> int:
        """Jobs that wait, blocked ones with them."""
        return len(self._queue)

    @property
    def blocked_count(self) -> int:
        """Jobs that a limit or a pause holds back."""
        return self._queue.blocked_count()

    def stop(self) -> None:
        """No more timers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- time ---

    def _set_timer(self, now_s: float) -> None:
        """The queue is to be filled earlier than the timer comes."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = at_s = self._queue.fill_s
        self._timer = self._clock.call_later(max(MIN_WAIT_S, at_s - now_s), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at_s = None, inf
        now_s = self._clock.monotonic()
        self._queue.fill(now_s)
        if self._queue.fill_s < inf:
            self._set_timer(now_s)
        self._wake()
