"""The engine of a worker or a replay: takes fetched records, runs handlers, decides outcomes. Knows no Kafka client.

A record goes through: backlog (fetched) -> window (taken, read) -> lane -> ready -> a runner -> an outcome -> outbox.
Its offset is finished once the outbox says that the outcome is durable. Runners are long-lived tasks, as many as the
concurrency allows; each takes the next ready job when it is free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import structlog
from logqueue_schemas.job_status import TERMINAL, State

from logqueue.clock import Clock
from logqueue.jobs.errors import JobCancelled, Snooze, UnknownJobType, classify
from logqueue.jobs.topics import TopicKind
from logqueue_consumers.control.cancelled import cancelled
from logqueue_consumers.counts import Counts
from logqueue_consumers.crashes.watch import CrashWatch
from logqueue_consumers.gates import EndedHook, Fate, Gatekeeper
from logqueue_consumers.intake.intake import Intake
from logqueue_consumers.intake.job_reader import JobReader, SchemaNotRead
from logqueue_consumers.intake.parked import ParkedJobs
from logqueue_consumers.intake.schema_waits import SchemaWaits
from logqueue_consumers.job import Job
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.outcome import LiveRules, Outcome, ShadowRules
from logqueue_consumers.partitions.partition import OwnedPartition, Standing
from logqueue_consumers.partitions.shard import Shards
from logqueue_consumers.retrying.notes import note
from logqueue_consumers.retrying.retries import Retries
from logqueue_consumers.retrying.waiting import WaitingRoom
from logqueue_consumers.running.runner import Interrupted, RunnerPool
from logqueue_consumers.writing.outbox import Outbox, sort_out

if TYPE_CHECKING:
    from collections import deque

    from logqueue.jobs.context import ContextServices
    from logqueue.jobs.control import Cancel
    from logqueue_consumers.dispatch.dispatcher import Dispatcher
    from logqueue_consumers.uniqueness.gate import UniqueGate

log = structlog.get_logger(__name__)

# What hangs on an enumeration is looked up by a function of Python.
GOES_ON, OVER, OWNED, SUCCEEDED = Fate.GOES_ON, Fate.OVER, Standing.OWNED, State.SUCCEEDED


class JobEngine:
    """Runs the jobs of the partitions it is given. All methods belong to one event loop."""

    def __init__(
        self,
        *,
        reader: JobReader,
        rules: LiveRules | ShadowRules,
        limits: WorkerLimits,
        clock: Clock,
        random: Random,
        make_outbox: Callable[[Callable[[Sequence[Outcome]], None]], Outbox],
        group: str,
        refresh_schemas: Callable[[], Awaitable[None]],
    ) -> None:
        self._rules = rules
        self._is_shadow = rules.is_shadow
        self._limits = limits
        self._clock = clock
        self._schemas = SchemaWaits(reader, refresh_schemas, self._route)
        self.records = Intake(reader, limits=limits, clock=clock, route=self._route, is_shadow=rules.is_shadow)
        self.shards = Shards()
        self._waiting = WaitingRoom(
            clock=clock, limits=limits, retry_due=self._turn_comes, record_due=self._route, on_due=self._room_came
        )
        self._gatekeeper = Gatekeeper(
            route=self._route,
            go_on=self._turn_comes,
            end=self._end,
            wake=lambda: self.runners.wake(),
            rules=rules,
            clock=clock,
            limit=limits.max_held,
        )
        self.gates = self._gatekeeper.gates
        """Asked, in this order, about every job that could run."""
        self.ended_hooks: list[EndedHook] = []
        """Told of every outcome."""
        self.durable_hooks: list[Callable[[Sequence[Outcome]], None]] = []
        """Told of outcomes, many at a time, when the log has them."""
        self._parked = ParkedJobs()
        self.parked_end: Callable[[Job], Outcome | None] | None = None
        """Asked about jobs whose type is unknown: how they end, if somebody wants that. See `review`."""
        self.may_run_early: Callable[[Job], bool] | None = None
        """Asked about jobs that are not due; see `hasten`."""
        self.intake: UniqueGate | None = None
        """Asked first, about every record in the order of the log, before its time: is it the same job again?"""
        self.counts = Counts()
        self.changed = asyncio.Event()
        """Set when there may be room for more records."""
        self.outbox = make_outbox(self._on_durable)
        self.started = self.outbox.start
        """To be called when a handler begins."""
        self.runners = RunnerPool(self, limits=limits, clock=clock, group=group, is_shadow=rules.is_shadow)
        self.outbox.is_waited_for = self._waits_for_flush
        self.runners.on_dry = self._ran_dry
        self._ready: deque[Job] | Dispatcher = self.runners.ready
        self.crash_watch = CrashWatch(self._ready)
        self._retries = Retries(
            rules=rules,
            limits=limits,
            clock=clock,
            random=random,
            counts=self.counts,
            waiting=self._waiting,
            crash_watch=self.crash_watch,
            end=self._end,
            write=self._write,
        )

    # --- records in ---

    def open(self, partition: OwnedPartition) -> None:
        """Work on this partition from now on."""
        self.records.partitions.add(partition)
        self.shards.join(partition, self._clock.monotonic())
        self.crash_watch.add(partition)

    def deliver(self, partition: OwnedPartition, records: Sequence[Any]) -> None:
        """Records of a partition, in the order of their offsets."""
        if self.records.deliver(partition, records):
            self.crash_watch.discard(partition)
        self.runners.wake()

    @property
    def running_count(self) -> int:
        """Jobs whose handler runs now."""
        return self.runners.running_count

    @property
    def delayed_count(self) -> int:
        """Jobs that wait in memory for their time."""
        return len(self._waiting)

    def running_jobs(self) -> list[tuple[Job, float]]:
        """The running jobs, each with the time (of the monotonic clock) when it must have ended."""
        return self.runners.running_jobs()

    @property
    def steps(self) -> int:
        """Grows with every record taken and every attempt that ends: a number that stands still is a standstill."""
        counts = self.counts
        ended = counts.finished + counts.retried + counts.parked + counts.scheduled + counts.interrupted
        return ended + sum(partition.window.high for partition in self.records.partitions)

    @property
    def lost_threads(self) -> int | None:
        """How many threads there are, if all are held by plain handlers that ran out of time; else None."""
        return self.runners.lost_threads

    @property
    def held_count(self) -> int:
        """Jobs that wait for a gate."""
        return self._gatekeeper.held_count

    @property
    def ready_count(self) -> int:
        """Jobs that wait for a runner."""
        return len(self._ready)

    def _route(self, job: Job) -> None:
        if self.intake is not None and (verdict := self.intake.check(job)) is not None:
            self._gatekeeper.obey_at_intake(verdict, job)
            return
        headers = job.headers
        if headers.expires_ms is not None and not self._is_shadow and headers.expires_ms <= self._clock.time_ms():
            self._end(Outcome.of(job, State.EXPIRED, self._now_us(), finishes=True))
        elif job.problem is not None:
            self._reject(job, job.problem)
        elif (
            headers.not_before_ms is not None
            and headers.not_before_ms > self._clock.time_ms()
            and not self._is_early(job)
        ):
            self._delay(job, headers.not_before_ms)
        elif (not self.gates or self._gatekeeper.ask(job) is GOES_ON) and (
            job.lane is None or job.partition.lanes.enter(job.lane, job)
        ):
            if self.crash_watch.is_on:
                self._hand_out_watched(job)
            else:
                self._ready.append(job)

    def _hand_out_watched(self, job: Job) -> None:
        """It may start, unless it is one that ends its process: nothing of its lane runs."""
        if (crash := self.crash_watch.verdict(job)) is not None:
            log.error("job ends its process", id=job.id, type=job.type, message=str(crash))
            self._end(self._rules.dead(job, crash, crash.error_class, now_us=self._now_us()), job)
        else:
            self.crash_watch.hold(job)

    def use(self, dispatcher: Dispatcher) -> None:
        """From now on it decides which of the ready jobs is next, instead of their arrival."""
        ready = list(self._ready)
        self._ready.clear()
        dispatcher.adopt(runner.job for runner in self.runners.busy())
        self._ready = self.runners.ready = self.crash_watch.ready = dispatcher
        self.runners.on_ended = dispatcher.ended
        dispatcher.extend(ready)
        self.wake()

    def pause_queues(self, queues: frozenset[str]) -> None:
        """Take no more records of these queues, and again those of the others."""
        self.records.paused_queues = queues
        self._room_came(True)

    def wake(self) -> None:
        """Jobs may have become ready."""
        self.runners.wake()

    # --- gates ---

    def recheck(self, reason: Hashable) -> None:
        """What held these jobs back may be gone: the gates are asked again."""
        self._gatekeeper.recheck(reason)

    def review(self) -> None:
        """A gate may answer differently from now on: it is asked about every job that waits in memory.

        Jobs that are not due yet, or behind another one of their lane, can only be finished by this: whether they must
        be held is asked when their turn comes.
        """
        keeper = self._gatekeeper
        keeper.recheck_all()
        ready = list(self._ready)
        self._ready.clear()
        suspects = self.crash_watch.withdraw(keeper.would_finish) if self.crash_watch.is_on else []
        for job in [*ready, *self._waiting.retries.remove(keeper.would_finish), *suspects]:
            self._turn_comes(job)
        behind = [job for partition in self.records.partitions for job in partition.lanes.withdraw(keeper.would_finish)]
        for job in [*self._waiting.records.remove(keeper.would_finish), *behind]:
            keeper.ask(job)
        if self.parked_end is not None:
            for outcome in self._parked.take(self.parked_end):
                self._end(outcome)
        self.runners.wake()

    def _turn_comes(self, job: Job | None) -> None:
        """A job is at the head of its lane: it starts unless a gate says no, which may give the turn to the next."""
        while job is not None:
            fate = self._gatekeeper.ask(job, has_lane=True) if self.gates else GOES_ON
            if fate is GOES_ON:
                if self.crash_watch.is_on:
                    self._hand_out_watched(job)
                else:
                    self._ready.append(job)
            if fate is not OVER:
                return
            job = self._next_of_lane(job)

    def _reject(self, job: Job, problem: Exception) -> None:
        """The job cannot run here."""
        if isinstance(problem, SchemaNotRead):
            self._schemas.add(job)
        elif not isinstance(problem, UnknownJobType):
            self._end(self._rules.dead(job, problem, classify(problem), now_us=self._now_us()))
        elif job.partition.kind is TopicKind.PARKED and not self._is_shadow:
            if self.parked_end is not None and (outcome := self.parked_end(job)) is not None:
                self._end(outcome)
            else:
                self._parked.keep(job)
        else:
            self._end(self._rules.parked(job, problem, now_us=self._now_us()))

    def _delay(self, job: Job, due_ms: int) -> None:
        """Not yet due: near times are waited for in memory (of whoever has the retry topic), far ones by a keeper."""
        if job.due_ms == due_ms and self._retries.wait_on(job, due_ms):
            return
        now_us = self._now_us()
        is_near = due_ms - now_us // 1000 <= self._limits.memory_retry_delay_s * 1000
        is_kept = job.partition.kind is TopicKind.RETRY and not self._is_shadow
        if not (is_kept and is_near and self._waiting.hold_record(job, due_ms)):
            self._end(self._rules.scheduled(job, due_ms=due_ms, now_us=now_us, is_near=is_near and not is_kept))

    def _is_early(self, job: Job) -> bool:
        return self.may_run_early is not None and self.may_run_early(job)

    # --- time ---

    def hasten(self) -> None:
        """`may_run_early` may answer differently from now on: ask it about every job that waits for its time."""
        self._waiting.hasten(self._is_early)

    def _room_came(self, was_full: bool) -> None:
        if was_full:
            self.records.pump_all()
            self.changed.set()
        self.runners.wake()

    def _waits_for_flush(self) -> bool:
        """Whether there are more jobs than may be in hand, and all of these have ended."""
        return self.runners.is_dry and self.records.lacks_room()

    def _ran_dry(self) -> None:
        if self.outbox.is_lingering and self.records.lacks_room():
            self.outbox.hurry()

    # --- outcomes; called by the runners ---

    def ends_expired(self, job: Job) -> bool:
        """End a job that has waited (for its lane, a limit, a retry, a runner) until after its expiry."""
        if self._is_shadow or job.headers.expires_ms is None or job.headers.expires_ms > self._clock.time_ms():
            return False
        job.is_over = True
        self._end(Outcome.of(job, State.EXPIRED, self._now_us(), finishes=True), job)
        return True

    def succeeded(self, job: Job, result: bytes | None) -> None:
        """The handler returned; `result` is its JSON."""
        job.is_over = True
        # Each job comes here, so it is made in C alone.
        outcome = Outcome(job, SUCCEEDED, self._clock.time_ms() * 1000, True, job.attempt, job.started_us, result)
        if job.sent:
            outcome.more = job.sent
        self.counts.succeeded += 1
        lane, partition = job.lane, job.partition
        if lane is not None and partition.standing is OWNED and (following := partition.lanes.leave(lane)) is not None:
            self._turn_comes(following)
        self._write(outcome)

    def failed(self, job: Job, error: BaseException) -> None:
        """The handler raised, or its time was up."""
        job.is_over = True
        if job.cancel is not None or isinstance(error, JobCancelled):
            self._end(cancelled(job, job.cancel, error, now_us=self._now_us()), job)
        elif isinstance(error, Snooze):
            self._retries.snoozed(job, error)
        else:
            self._retries.failed(job, error)

    def interrupted(self, job: Job, reason: Interrupted) -> None:
        """The worker stops or lost the partition: the job goes back, its attempt unchanged."""
        job.is_over = True
        self.counts.interrupted += 1
        log.info("job interrupted", id=job.id, type=job.type, attempt=job.attempt, reason=reason.value)

    def _end(self, outcome: Outcome, job: Job | None = None) -> None:
        """An outcome other than success that finishes the record; `job` when it held a lane."""
        self.counts.count(outcome.state)
        if job is not None:
            self._turn_comes(self._next_of_lane(job))
        self._write(outcome)

    def _write(self, outcome: Outcome) -> None:
        if outcome.job.headers.holds is not None and outcome.state in TERMINAL and not outcome.is_silent:
            self._rules.release_schedule(outcome)
        self.outbox.add(outcome)
        if self.ended_hooks:
            for hook in self.ended_hooks:
                hook(outcome.job, outcome)

    @staticmethod
    def _next_of_lane(job: Job) -> Job | None:
        """The job is over; the one whose turn comes."""
        if job.lane is None or job.partition.standing is not OWNED:
            return None
        return job.partition.lanes.leave(job.lane)

    def _on_durable(self, outcomes: Sequence[Outcome]) -> None:
        """The outbox wrote these: finish their offsets and take more."""
        for hook in self.durable_hooks:
            hook(outcomes)
        finished, others = sort_out(outcomes)
        if others:
            note(others)
        for partition, jobs in finished.items():
            if partition.standing is Standing.LOST:
                continue
            window = partition.window
            partition.bytes_in_hand -= sum([job.size for job in jobs])
            if (share := partition.share) is not None:
                for job in jobs:
                    share.finished(job.tenant, job.offset)
            offsets = [job.offset for job in jobs]
            if partition.carried:
                for offset in offsets:
                    partition.carried.pop(offset, None)
                    window.remember(offset)
            else:
                window.finish_many(offsets)
            if partition.retried:
                for offset in offsets:
                    partition.retried.pop(offset, None)
            if partition.watch is not None:
                self.crash_watch.finished(partition, offsets)
        self.records.pump_all()
        self.runners.wake()
        self.changed.set()

    # --- stopping ---

    def stop(self, partitions: Iterable[OwnedPartition]) -> None:
        """No further job of these partitions starts; those that wait for a retry go to the retry topic."""
        for partition in partitions:
            partition.is_stopping = True
            partition.backlog.clear()
        keep = [job for job in self._ready if not job.partition.is_stopping]
        self._ready.clear()
        self._ready.extend(keep)
        self.crash_watch.drop_stopping()
        self._waiting.records.remove(lambda job: job.partition.is_stopping)
        self._gatekeeper.drop_stopping()
        self._schemas.drop_stopping()
        self._parked.drop_stopping()
        for job in self._waiting.retries.remove(lambda job: job.partition.is_stopping):
            outcome = self._rules.hand_on(job, now_us=self._now_us())
            if outcome is not None:
                self._write(outcome)

    async def wait_idle(self, partitions: Iterable[OwnedPartition], timeout_s: float, hurry: asyncio.Event) -> bool:
        """Wait until no job of these partitions runs; false when the time was not enough or `hurry` was set."""
        return await self.runners.wait_idle(set(partitions), timeout_s, hurry)

    def interrupt(self, partitions: Iterable[OwnedPartition], reason: Interrupted) -> int:
        """Cancel the running jobs of these partitions; returns how many."""
        return self.runners.interrupt(set(partitions), reason)

    def cancel_running(self, find: Callable[[Job], Cancel | None]) -> int:
        """Cancel the running jobs for which there is a cancel; returns how many.

        The task of an `async` or isolated handler is cancelled. A thread cannot be: its job's context says so.
        """
        return self.runners.cancel(find)

    def serve(self, make_services: Callable[[Job], ContextServices]) -> None:
        """What the contexts of handlers are made with."""
        self.runners.make_services = make_services

    def running(self, partition: OwnedPartition) -> list[Job]:
        """The running jobs of a partition."""
        return [runner.job for runner in self.runners.busy() if runner.job.partition is partition]

    def is_blocked(self, job: Job) -> bool:
        """Whether a limit or a pause keeps a job from starting now."""
        return self.records.is_blocked is not None and self.records.is_blocked(job)

    async def wait_over(self, job: Job, timeout_s: float) -> bool:
        """Wait until the job's attempt has ended; false when time is up. Its partition may be gone by then."""
        return await self.runners.wait_over(job, timeout_s)

    def start_at_once(self, jobs: Collection[Job]) -> None:
        """Jobs that a commit has named may start."""
        self.crash_watch.release(jobs)
        self.runners.wake()

    def resume(self) -> None:
        """Jobs that waited for suspects go on."""
        self.crash_watch.resume()
        self.runners.wake()

    def forget(self, partition: OwnedPartition, gone: set[Job]) -> None:
        """Another member finished these jobs of a partition that came back: nothing of them is written here."""
        partition.held = [outcome for outcome in partition.held if outcome.job not in gone]
        self.runners.interrupt_jobs(gone, Interrupted.LOST)

    def release(self, partition: OwnedPartition) -> None:
        """The partition came back: write what its jobs came to meanwhile."""
        held, partition.held = partition.held, []
        for outcome in held:
            self.outbox.add(outcome)

    def close(self, partition: OwnedPartition) -> None:
        """The partition is gone: forget it, and what its jobs come to."""
        partition.standing = Standing.LOST
        partition.is_stopping = True
        partition.backlog.clear()
        partition.held.clear()
        self.records.partitions.discard(partition)
        self.shards.leave(partition)
        self.crash_watch.discard(partition)
        self._parked.drop_stopping()
        self.interrupt([partition], Interrupted.LOST)

    async def run(self) -> None:
        """Run the outbox and the runners until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.outbox.run())
                tasks.create_task(self._schemas.run(self.wake))
                tasks.create_task(self.runners.run())
        finally:
            self._gatekeeper.stop()
            self._waiting.stop()

    def _now_us(self) -> int:
        return self._clock.time_ms() * 1000
