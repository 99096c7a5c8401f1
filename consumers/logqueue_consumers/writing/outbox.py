"""Makes outcomes durable in batches. How (in one transaction or one step after the other) is a delivery's business.

One flush is under way at a time; what happens meanwhile goes with the next, so batches grow with the load by
themselves. An idle worker writes an outcome at once, a busy one lets outcomes collect for a few milliseconds, unless
that is what its next jobs wait for. A job that ends before its start was written needs no `running` status.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog

from logqueue_consumers.job import Job
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.writing.outgoing import Outgoing
from logqueue_consumers.writing.pending import Delivery, Pending, settle

log = structlog.get_logger(__name__)


class Outbox:
    """Outcomes on their way into the log."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        limits: WorkerLimits,
        busy_linger_s: float,
        on_durable: Callable[[Sequence[Outcome]], None],
    ) -> None:
        self._delivery = delivery
        self._limits = limits
        self._busy_linger_s = busy_linger_s
        self._on_durable = on_durable
        self._outcomes: list[Outcome] = []
        self._flushing: Sequence[Outcome] = ()
        self.lock = asyncio.Lock()
        """Held from the moment a flush decides what it writes until its outcomes count as done."""
        self._started: list[Job] = []
        self._emitted: list[Outgoing] = []
        self.is_waited_for: Callable[[], bool] = lambda: False
        """Whether no job can begin until what was added is durable."""
        self._has_outcomes = asyncio.Event()
        self._has_work = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_urgent = False
        self._must_hurry = asyncio.Event()
        self.is_lingering = False
        """Whether it lets outcomes collect at the moment."""

    def add(self, outcome: Outcome) -> None:
        """Write this outcome soon."""
        outcomes = self._outcomes
        if not outcomes:
            self._has_outcomes.set()
            self._has_work.set()
            self._is_idle.clear()
        outcomes.append(outcome)

    def start(self, job: Job) -> None:
        """The job runs; this is written unless it ends first."""
        if not self._started:
            self._has_work.set()
        self._started.append(job)

    def emit(self, records: Sequence[Outgoing]) -> bool:
        """Write records that belong to no outcome with the next flush; false (none is taken) when too many wait."""
        if len(self._emitted) + len(records) > self._limits.max_emitted:
            return False
        self._emitted += records
        self._has_work.set()
        self._is_idle.clear()
        return True

    def hurry(self) -> None:
        """Write what there is without lingering."""
        self._must_hurry.set()

    @property
    def is_idle(self) -> bool:
        """Whether everything that was added is durable."""
        return self._is_idle.is_set()

    def oldest_us(self) -> int | None:
        """The time of the oldest outcome that may not be durable yet; None if all are."""
        if self._is_idle.is_set():
            return None
        return min((outcome.at_us for outcome in (*self._flushing, *self._outcomes)), default=None)

    def ended_jobs(self, partition: OwnedPartition) -> list[Job]:
        """Jobs of a partition whose end is not known to be durable yet."""
        outcomes = [*partition.held, *self._flushing, *self._outcomes]
        return [outcome.job for outcome in outcomes if outcome.finishes and outcome.job.partition is partition]

    async def drain(self, timeout_s: float) -> bool:
        """Wait until everything added so far is durable; false when the time was not enough."""
        self._is_urgent = True
        self._has_outcomes.set()
        self._has_work.set()
        self.hurry()
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        finally:
            self._is_urgent = False
        return True

    async def run(self) -> None:
        """Flush until cancelled."""
        linger_s = 0.0
        while True:
            await self._has_work.wait()
            if not self._outcomes and not self._is_urgent:
                await self._linger_for_outcomes()
            if linger_s and not self._is_urgent and len(self._outcomes) < self._limits.max_flush_outcomes:
                await self._linger(linger_s)
            outcomes, started, emitted = self._outcomes, self._started, self._emitted
            self._outcomes, self._started, self._emitted, self._flushing = [], [], [], outcomes
            self._has_outcomes.clear()
            self._has_work.clear()
            written = await self._flush(Pending(outcomes, started, emitted))
            linger_s = self._busy_linger_s if written >= self._limits.busy_outcomes else 0.0
            if not self._outcomes and not self._emitted:
                self._is_idle.set()

    async def _linger(self, seconds: float) -> None:
        """Let outcomes collect."""
        self._must_hurry.clear()
        if self.is_waited_for():
            return
        self.is_lingering = True
        try:
            async with asyncio.timeout(seconds):
                await self._must_hurry.wait()
        except TimeoutError:
            return
        finally:
            self.is_lingering = False

    async def _linger_for_outcomes(self) -> None:
        """Only starts are to be written: give the jobs a moment to end."""
        try:
            async with asyncio.timeout(self._limits.status_linger_s):
                await self._has_outcomes.wait()
        except TimeoutError:
            return

    async def _flush(self, pending: Pending) -> int:
        """Write until nothing is left to write; returns how much there was."""
        written = 0
        while True:
            async with self.lock:
                pending = settle(pending)
                self._flushing = pending.outcomes
                if not pending.count:
                    return written
                written = written or pending.count
                delivered = await self._delivery.deliver(pending)
                if delivered.durable:
                    self._on_durable(delivered.durable)
            pending = delivered.again


def sort_out(outcomes: Sequence[Outcome]) -> tuple[dict[OwnedPartition, list[Job]], list[Outcome]]:
    """The jobs whose records are finished by these outcomes, by partition; and the outcomes that finish none."""
    finished: dict[OwnedPartition, list[Job]] = defaultdict(list)
    others: list[Outcome] = []
    for outcome in outcomes:
        if outcome.finishes:
            finished[outcome.job.partition].append(outcome.job)
        else:
            others.append(outcome)
    return finished, others
