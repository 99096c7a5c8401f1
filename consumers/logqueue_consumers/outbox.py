"""Makes outcomes durable in batches: status records, and retry, dead-letter and parked records beside them.

One flush is under way at a time; what happens meanwhile goes with the next, so batches grow with the load by
themselves. An idle worker writes an outcome at once, a busy one lets outcomes collect for a few milliseconds. A job
that ends before its start was written needs no `running` status.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog
from logqueue_schemas.job_status import RANKS, TERMINAL, JobStatus, State, StatusCodec, StatusError, status_key

from logqueue.jobs.topics import TopicKind
from logqueue_consumers.batch_producer import BatchProducer, Outgoing, Refusal
from logqueue_consumers.job import Job
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.partition import OwnedPartition, Standing
from logqueue_consumers.status_tail import record_header

log = structlog.get_logger(__name__)


class Outbox:
    """Outcomes on their way into the log."""

    def __init__(
        self,
        producer: BatchProducer,
        codec: StatusCodec,
        *,
        group: str,
        is_shadow: bool,
        status_topic: str,
        worker: str,
        limits: WorkerLimits,
        on_durable: Callable[[list[Outcome]], None],
    ) -> None:
        self._producer = producer
        self._codec = codec
        self._group = group
        self._is_shadow = is_shadow
        self._status_topic = status_topic
        self._worker = worker
        self._limits = limits
        self._on_durable = on_durable
        self._outcomes: list[Outcome] = []
        self._flushing: list[Outcome] = []
        self._started: list[Job] = []
        self._has_outcomes = asyncio.Event()
        self._has_work = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_urgent = False
        self._sequence = 0

    def add(self, outcome: Outcome) -> None:
        """Write this outcome soon."""
        self._outcomes.append(outcome)
        if not self._has_outcomes.is_set():
            self._has_outcomes.set()
            self._has_work.set()
            self._is_idle.clear()

    def start(self, job: Job) -> None:
        """The job runs; this is written unless it ends first."""
        if not self._started:
            self._has_work.set()
        self._started.append(job)

    @property
    def pending_count(self) -> int:
        """Outcomes not handed to the log yet."""
        return len(self._outcomes)

    def ended_jobs(self, partition: OwnedPartition) -> list[Job]:
        """Jobs of a partition whose end is not known to be durable yet."""
        outcomes = [*partition.held, *self._flushing, *self._outcomes]
        return [outcome.job for outcome in outcomes if outcome.finishes and outcome.job.partition is partition]

    async def drain(self, timeout_s: float) -> bool:
        """Wait until everything added so far is durable; false when the time was not enough."""
        self._is_urgent = True
        self._has_outcomes.set()
        self._has_work.set()
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
                await asyncio.sleep(linger_s)
            outcomes, started = self._outcomes, self._started
            self._outcomes, self._started, self._flushing = [], [], outcomes
            self._has_outcomes.clear()
            self._has_work.clear()
            written = await self._flush(outcomes, started)
            self._flushing = []
            linger_s = self._limits.busy_linger_s if written >= self._limits.busy_outcomes else 0.0
            if not self._outcomes:
                self._is_idle.set()

    async def _linger_for_outcomes(self) -> None:
        """Only starts are to be written: give the jobs a moment to end."""
        try:
            async with asyncio.timeout(self._limits.status_linger_s):
                await self._has_outcomes.wait()
        except TimeoutError:
            return

    async def _flush(self, outcomes: list[Outcome], started: list[Job]) -> int:
        writable: list[Outcome] = []
        for outcome in outcomes:
            standing = outcome.job.partition.standing
            if standing is Standing.OWNED:
                writable.append(outcome)
            elif standing is Standing.REVOKED:
                outcome.job.partition.held.append(outcome)
        writable = await self._move_on(writable)
        records = [self._running_record(job) for job in started if not job.is_over and _is_owned(job.partition)]
        first = len(records)
        records += [self._status_record(outcome) for outcome in writable]
        if not records:
            return 0
        refusals = await self._producer.send(records)
        if refusals:
            refused = _complain(records, refusals)
            writable = [outcome for place, outcome in enumerate(writable, first) if place not in refused]
        self._on_durable(writable)
        return len(records)

    async def _move_on(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Write retry, dead-letter and parked records; returns the outcomes whose statuses may follow.

        A status says that a job's record is finished, so where the job goes on must be durable before it is written.
        """
        moving = [outcome for outcome in outcomes if outcome.topic is not None]
        if not moving:
            return outcomes
        records = [self._moved_record(outcome) for outcome in moving]
        refused = _complain(records, await self._producer.send(records))
        unmoved = {moving[place] for place in refused}
        return [outcome for outcome in outcomes if outcome not in unmoved]

    def _moved_record(self, outcome: Outcome) -> Outgoing:
        job, topic = outcome.job, outcome.topic
        assert topic is not None, "only called for records that move"
        partition = self._producer.partition_of(topic, job.key)
        record = job.record
        return Outgoing(topic, partition, record.key, record.value, outcome.headers, outcome.at_us // 1000)

    def _running_record(self, job: Job) -> Outgoing:
        running = Outcome(job, State.RUNNING, job.started_us, finishes=False)
        return self._status_record(running)

    def _status_record(self, outcome: Outcome) -> Outgoing:
        job, state, failure = outcome.job, outcome.state, outcome.failure
        self._sequence = max(self._sequence + 1, outcome.at_us)
        origin = job.origin
        status = JobStatus(
            id=job.id,
            queue=job.partition.queue,
            tenant=job.tenant,
            group=self._group,
            state=state,
            at=outcome.at_us,
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            type=job.type,
            shadow=self._is_shadow,
            replay=job.headers.replay,
            attempt=outcome.attempt,
            rank=RANKS[state],
            sequence=self._sequence,
            created_at=job.created_ms * 1000,
            started_at=outcome.started_us or None,
            finished_at=outcome.at_us if state in TERMINAL else None,
            due_at=None if outcome.due_ms is None else outcome.due_ms * 1000,
            result=outcome.result,
            error=None if failure is None else StatusError(failure.type, failure.message, failure.error_class),
            worker=self._worker,
        )
        return Outgoing(
            self._status_topic,
            self._producer.partition_of(self._status_topic, job.key),
            status_key(job.id, group=self._group if self._is_shadow else None),
            self._codec.encode(status),
            self._finished_record(outcome),
            outcome.at_us // 1000,
        )

    def _finished_record(self, outcome: Outcome) -> list[tuple[str, bytes]]:
        """Which record a status finishes, where that is not plain from its state and position."""
        partition = outcome.job.partition
        if not outcome.finishes or (outcome.state in TERMINAL and partition.kind is TopicKind.JOBS):
            return NO_HEADERS
        return [record_header(partition.topic, partition.partition, outcome.job.offset)]


NO_HEADERS: list[tuple[str, bytes]] = []


def _complain(records: Sequence[Outgoing], refusals: Sequence[Refusal]) -> set[int]:
    """Log what the log refused; returns the places of these records."""
    for place, error in refusals:
        record = records[place]
        log.error(
            "the log refuses a record: its job is not done and will run again",
            topic=record.topic,
            bytes=len(record.value or b""),
            error=repr(error),
        )
    return {refusal.place for refusal in refusals}


def _is_owned(partition: OwnedPartition) -> bool:
    return partition.standing is Standing.OWNED


def by_partition(outcomes: list[Outcome]) -> dict[OwnedPartition, list[Job]]:
    """The jobs whose records are finished by these outcomes, by partition."""
    finished: dict[OwnedPartition, list[Job]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.finishes:
            finished[outcome.job.partition].append(outcome.job)
    return finished
