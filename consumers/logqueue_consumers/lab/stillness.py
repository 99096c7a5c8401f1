"""Whether a lab has come to rest: everything on the log is taken, and everything taken is done or waits. Shell.

| waits for          | is at rest                                                                     |
|--------------------|--------------------------------------------------------------------------------|
| a time             | yes, while the clock has not reached it                                        |
| a gate, a limit    | yes (a breaker, a pause, a token): time or a command has to come               |
| its lane           | yes, as the job before it is                                                   |
| the log            | no: outcomes on their way, indexes being read, jobs being named                |
| its handler        | no, for `patience_s` of real time; then it is taken for one that waits         |
| to run alone       | yes, while such a handler runs beside it                                       |

Records in hand that none of these explains are under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from logqueue.jobs.topics import TopicKind
from logqueue_consumers.dispatch.dispatcher import Dispatcher

if TYPE_CHECKING:
    from logqueue_consumers.engine import JobEngine
    from logqueue_consumers.job import Job
    from logqueue_consumers.lab.lab_worker import LabWorker
    from logqueue_consumers.lab.log_reader import LogReader
    from logqueue_consumers.lab.virtual_clock import VirtualClock


class Stillness:
    """Looks at the workers of a lab. `partitions` are all that they read, `control` the commands'."""

    def __init__(
        self,
        workers: Callable[[], Sequence[LabWorker]],
        reader: LogReader,
        clock: VirtualClock,
        *,
        partitions: Sequence[TopicPartition],
        control: TopicPartition,
        patience_s: float,
    ) -> None:
        self._workers = workers
        self._reader = reader
        self._clock = clock
        self._partitions = partitions
        self._control = control
        self._patience_s = patience_s
        self._running: dict[tuple[str, int, int], float] = {}
        """Since when (in the loop's time) each attempt runs: by worker, job and attempt."""

    async def unrest(self) -> str | None:
        """What is still going on, in words; None if nothing is."""
        ends = await self._reader.ends([*self._partitions, self._control])
        found = self._unrest_here() or await self._unread(ends)
        if found is not None:
            return found
        again = await self._reader.ends([*self._partitions, self._control])
        return self._unrest_here() or ("something was written just now" if again != ends else None)

    def patient_with(self) -> list[Job]:
        """Jobs whose handlers do not come to an end by themselves."""
        return [job for worker in self._workers() for job, _ in _running_jobs(worker)]

    def next_deadline_ms(self) -> int | None:
        """When the first of the running jobs runs out of time."""
        ends = [end_s for worker in self._workers() for _, end_s in _running_jobs(worker) if end_s < float("inf")]
        return min((self._clock.wall_ms(end_s) for end_s in ends), default=None)

    def next_keepers_ms(self) -> int | None:
        """When the first of the waiting jobs, schedules or workflows is due."""
        dues = [worker.keepers.next_due() for worker in self._workers() if worker.keepers is not None]
        return min((due for due in dues if due is not None), default=None)

    def _unrest_here(self) -> str | None:
        seen: dict[tuple[str, int, int], float] = {}
        found = None
        for worker in self._workers():
            worker.raise_if_failed()
            if worker.engine is None or worker.member is None or worker.keepers is None:
                return f"{worker} starts"
            running = self._handlers(worker, seen)
            found = found or running or _engine_unrest(worker, worker.engine)
        self._running = seen
        due_ms = self.next_keepers_ms()
        if found is None and due_ms is not None and due_ms <= self._clock.time_ms():
            return "the keepers have something to do"
        return found

    def _handlers(self, worker: LabWorker, seen: dict[tuple[str, int, int], float]) -> str | None:
        now_s, found = asyncio.get_running_loop().time(), None
        for job, deadline_s in _running_jobs(worker):
            key = (job.id, job.attempt, worker.number)
            began_s = seen[key] = self._running.get(key, now_s)
            if now_s - began_s < self._patience_s or deadline_s <= self._clock.monotonic():
                found = f"{job.type} {job.id} runs"
        return found

    async def _unread(self, ends: Mapping[TopicPartition, int]) -> str | None:
        workers = self._workers()
        if not workers:
            return None
        for worker in workers:
            if worker.control_position < ends[self._control]:
                return f"{worker} has commands to read"
        for tp in self._partitions:
            found = None
            for worker in workers:
                at = await worker.position(tp)
                if at is not None:
                    found = max(at, found or 0)
            if found is None:
                return f"{tp.topic}-{tp.partition} has no owner yet"
            if found < ends[tp] and not _is_paused(workers, tp):
                return f"{tp.topic}-{tp.partition} has records to read"
        return None


def _running_jobs(worker: LabWorker) -> list[tuple[Job, float]]:
    return worker.engine.running_jobs() if worker.engine is not None else []


def _engine_unrest(worker: LabWorker, engine: JobEngine) -> str | None:
    if not engine.outbox.is_idle:
        return f"{worker} has outcomes to write"
    if engine.intake is not None and engine.intake.is_loading:
        return f"{worker} reads which unique jobs there are"
    ready = engine.runners.ready
    if len(ready) and engine.running_count < worker.concurrency:
        return f"{worker} has jobs to start"
    behind = sum(partition.lanes.waiting_count for partition in engine.records.partitions)
    queued = ready.waiting_count if isinstance(ready, Dispatcher) else len(ready)
    suspects = engine.crash_watch.suspect_count if engine.running_count else 0
    waiting = suspects + engine.running_count + engine.delayed_count + engine.held_count + behind + queued
    moving = engine.records.unfinished_count - waiting
    return f"{worker} has {moving} records under way" if moving > 0 else None


def _is_paused(workers: Sequence[LabWorker], tp: TopicPartition) -> bool:
    """Whether nothing is taken of the partition's queue, by command."""
    for worker in workers:
        owned = worker.member.partitions.get(tp) if worker.member is not None else None
        if owned is not None and worker.engine is not None and owned.kind is TopicKind.JOBS:
            return owned.queue in worker.engine.records.paused_queues
    return False
