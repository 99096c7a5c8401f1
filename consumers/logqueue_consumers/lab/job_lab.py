"""JobLab: an app's jobs under test, on a real log, with real workers and a clock that stands still.

    async with JobLab(app) as lab:
        await welcome.send(tenant="acme", to="a@b.c")
        await lab.drain()
        await lab.assert_enqueued("email.send", tenant="acme", to="a@b.c")

Time moves by `advance` only. It goes from one event to the next (a retry that is due, a schedule, a time limit), lets
everything that is due run to its end, and returns at rest. What happens on the log itself (elections, transactions,
fetches) takes real time, milliseconds.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import warnings
from collections import defaultdict, deque
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from aiokafka import TopicPartition

from logqueue.clock import SystemClock
from logqueue.config import LogConfig
from logqueue.errors import LogqueueError
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.control import Command, cancel_command, run_now_command
from logqueue.jobs.durations import Duration, format_duration, parse_duration
from logqueue.jobs.handle import JobHandle
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicKind
from logqueue.testing.embedded import EmbeddedBroker
from logqueue_consumers.control.command_writer import CommandWriter
from logqueue_consumers.lab.enclosure import EnclosedLoop, is_alive
from logqueue_consumers.lab.eviction import evict
from logqueue_consumers.lab.expectations import check_state, check_type, complaint, matches, status_complaint
from logqueue_consumers.lab.lab_worker import LabWorker
from logqueue_consumers.lab.log_reader import LabJob, LogReader
from logqueue_consumers.lab.stillness import Stillness
from logqueue_consumers.lab.virtual_clock import VirtualClock
from logqueue_consumers.limits import WorkerLimits

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue_consumers.job import Job

PATIENCE_S = 0.5
"""Real time that a handler is given to end before the lab goes on without it."""
REST_TIMEOUT_S = 30.0
"""Real time in which a lab comes to rest, or says why it does not."""
LOOK_S = 0.002
ROUNDING_MS = 1
"""Workers round waits up, so as never to be early: what is due this much later was meant for now."""
MAX_STEPS = 20_000
"""Moments that one `advance` stops at: a schedule of every second for five hours."""
BROKER: dict[str, Any] = {
    "fsync": False,
    "log_defaults": LogConfig(message_timestamp_after_max_ms=2**62),  # the lab's time runs ahead of the log's
    "group_initial_rebalance_delay_ms": 0,
    "offsets_topic_num_partitions": 2,
    "transaction_state_log_num_partitions": 2,
}
LIMITS = WorkerLimits(
    concurrency=100,
    commit_interval_s=0.1,
    heartbeat_interval_ms=100,
    fetch_wait_ms=100,
)


def lab_broker() -> EmbeddedBroker:
    """A broker as labs need it, not started; several labs may share one, with topics of their own."""
    return EmbeddedBroker(**BROKER)


class LabUnrest(LogqueueError):
    """The lab does not come to rest; the text says what goes on."""


class JobLab:
    """The app's jobs on a log of their own, with one worker (or `workers`). Belongs to the running event loop.

    `now` is the time at the start (default: the real one). `patience` is how long, in real time, a handler may take
    before the lab takes it for one that waits: time goes on without it then, up to its time limit, and workers that
    come and go do not wait for it. `limits` bound the workers. `bootstrap` is a log that runs already (the lab uses
    topics and a group of its own there); by default an EmbeddedBroker is started. Other logs refuse records dated an
    hour ahead: give a `now` in the past there. While the lab is open the app sends to it. `schedules=False` leaves out
    the app's schedules: each firing costs `advance` some 50 ms of real time, so a year of an `every="1m"` takes hours.
    """

    def __init__(
        self,
        app: App,
        *,
        now: datetime | None = None,
        workers: int = 1,
        patience: Duration = PATIENCE_S,
        limits: WorkerLimits | None = None,
        bootstrap: str | None = None,
        schedules: bool = True,
    ) -> None:
        if now is not None and now.tzinfo is None:
            raise LogqueueError("the lab's `now` needs a time zone: datetime(2026, 3, 1, tzinfo=UTC)")
        self.app = app
        self.clock = VirtualClock(
            time_ms=SystemClock().time_ms() if now is None else round(now.timestamp() * 1000), is_alive=is_alive
        )
        self._count = workers
        self._patience_s = parse_duration(patience)
        self._limits = limits or replace(
            LIMITS,
            revoke_grace_s=self._patience_s,
            drain_timeout_s=self._patience_s,
            suspect_wait_s=self._patience_s,
            alone_s=self._patience_s,
        )
        self._bootstrap = bootstrap
        self._has_schedules = schedules
        self._stack = AsyncExitStack()
        self._workers: list[LabWorker] = []
        self._started = 0
        self._faults: defaultdict[str, deque[BaseException | type[BaseException]]] = defaultdict(deque)
        self._reader: LogReader | None = None
        self._stillness: Stillness | None = None
        self._writer: CommandWriter | None = None

    # --- life ---

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            settings = self._settings(stack)
            self.app.check()
            group = settings.topic_prefix + self.app.group  # another lab may test the same app on the same log
            stack.enter_context(
                self.app.placed_on(settings, group=group, clock=self.clock, has_schedules=self._has_schedules)
            )
            stack.enter_context(EnclosedLoop())
            stack.callback(self._bury)
            stack.push_async_callback(self.app.close)
            await self.app.client()
            await self._open(stack)
            stack.push_async_callback(self._end_workers)
            for _ in range(self._count):
                await self.start_worker()
            if self._count:
                await self._rest()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _settings(self, stack: AsyncExitStack) -> Settings:
        cache = stack.enter_context(tempfile.TemporaryDirectory(prefix="logqueue-lab-", ignore_cleanup_errors=True))
        bootstrap, prefix = self._bootstrap, f"lab-{uuid4().hex[:12]}."
        if bootstrap is None:
            bootstrap, prefix = stack.enter_context(lab_broker()).bootstrap, ""
        return Settings(bootstrap=bootstrap, topic_prefix=prefix, cache_dir=cache)

    async def _open(self, stack: AsyncExitStack) -> None:
        app, names = self.app, self.app.settings.topics
        specs = [*app.topic_specs(), names.flows_spec(), names.schedules_spec(), names.audit_spec()]
        counts = await ensure_topics(app.settings, specs)
        codec = await SchemaRegistry(app.settings).status_codec()
        self._reader = reader = LogReader(app, counts, codec)
        stack.push_async_callback(reader.stop)
        await reader.start()
        self._writer = CommandWriter(app.settings)
        stack.push_async_callback(self._writer.stop)
        read = (TopicKind.JOBS, TopicKind.RETRY, TopicKind.PARKED)
        topics = [topic for topic in counts if (role := names.role(topic)) is not None and role.kind in read]
        self._stillness = Stillness(
            lambda: self.workers,
            reader,
            self.clock,
            partitions=[
                TopicPartition(topic, number)
                for topic in (*topics, names.flows, names.schedules)
                for number in range(counts[topic])
            ],
            control=TopicPartition(names.control, 0),
            patience_s=self._patience_s,
        )

    async def _end_workers(self) -> None:
        for worker in self.workers:
            await worker.end()

    def _bury(self) -> None:
        """Killed workers have closed nothing: what they leave is let go of here, where nobody is told of it."""
        has_killed, self._workers = any(worker.is_killed for worker in self._workers), []
        if has_killed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()

    # --- workers ---

    @property
    def workers(self) -> list[LabWorker]:
        """Those that run, the oldest first."""
        return [worker for worker in self._workers if worker.is_running]

    async def start_worker(self) -> LabWorker:
        """One more worker joins; returns when it has its partitions."""
        self._started += 1
        worker = LabWorker(self.app, self.clock, number=self._started, limits=self._limits, on_start=self._on_start)
        self._workers.append(worker)
        try:
            await worker.start()
        except BaseException:
            await worker.kill()
            raise
        return worker

    async def stop_worker(self, worker: LabWorker | None = None, *, hurry: bool = False) -> None:
        """End a worker (the oldest) as SIGTERM does: it drains, commits, and leaves its group."""
        await self._one(worker).stop(hurry=hurry)

    async def crash_worker(self, worker: LabWorker | None = None, *, replace: bool = True) -> LabWorker | None:
        """End a worker (the oldest) as `kill -9` does; a new one takes over and is returned, unless `replace` is false.

        Nothing more of it is written: what it ran and had not committed runs again. Handlers see a cancellation (in
        a real process they would see nothing); plain functions go on in their threads, and what becomes of them is
        lost. The log learns of the end at once instead of after the session timeout.
        """
        gone = self._one(worker)
        memberships = gone.memberships
        gone.is_killed = True
        await gone.kill()
        await evict(self.app.settings, memberships)
        return await self.start_worker() if replace else None

    def _one(self, worker: LabWorker | None) -> LabWorker:
        if worker is not None:
            return worker
        if not self.workers:
            raise LogqueueError("no worker runs in this lab")
        return self.workers[0]

    # --- time ---

    @property
    def now(self) -> datetime:
        """The lab's time (UTC)."""
        return datetime.fromtimestamp(self.clock.time_ms() / 1000, UTC)

    async def drain(self) -> None:
        """Let everything run that is due now, and what follows from it; returns at rest.

        Raises LabUnrest for a handler that does not end. Retries and delays are not due: see `advance`.
        """
        await self._rest()
        assert self._stillness is not None, "the lab is open"
        if running := self._stillness.patient_with():
            names = ", ".join(f"{job.type} {job.id}" for job in running)
            raise LabUnrest(f"still running after {format_duration(self._patience_s)} of real time: {names}")

    async def advance(self, duration: Duration) -> None:
        """Move the time on: everything that falls due on the way runs at its time; returns at rest.

        Handlers that wait for something (longer than the lab's patience) are left waiting, and run out of time when
        their timeout has come. `asyncio.sleep` in a handler is real time.
        """
        target_ms = self.clock.time_ms() + round(parse_duration(duration) * 1000)
        await self._rest()
        for _ in range(MAX_STEPS):
            next_ms = self._next_ms()
            if next_ms is None or next_ms > target_ms + ROUNDING_MS:
                break
            await self._move_to(next_ms)
        else:
            raise LabUnrest(
                f"more than {MAX_STEPS} things fell due: it is {self.now.isoformat()}; advance less at once"
            )
        await self._move_to(target_ms)

    def _next_ms(self) -> int | None:
        assert self._stillness is not None, "the lab is open"
        found = (self.clock.next_ms(), self._stillness.next_deadline_ms(), self._stillness.next_keepers_ms())
        return min((at_ms for at_ms in found if at_ms is not None), default=None)

    async def _move_to(self, time_ms: int) -> None:
        self.clock.move_to(time_ms)
        for worker in self.workers:
            if worker.keepers is not None:
                worker.keepers.wake()
        await self._rest()

    async def _rest(self) -> None:
        """Wait until nothing goes on. Two looks must agree: a record may be between two hands."""
        assert self._stillness is not None, "the lab is open"
        loop = asyncio.get_running_loop()
        deadline_s, calm = loop.time() + REST_TIMEOUT_S, 0
        while calm < 2:
            unrest = await self._stillness.unrest()
            calm = calm + 1 if unrest is None else 0
            if unrest is not None:
                if loop.time() > deadline_s:
                    raise LabUnrest(f"the lab did not come to rest within {REST_TIMEOUT_S:g} s: {unrest}")
                await asyncio.sleep(LOOK_S)

    # --- what happens to jobs ---

    def fail_next(self, type_: str, error: BaseException | type[BaseException], *, times: int = 1) -> None:
        """The next attempts of this job type fail with `error` before their handler is called."""
        check_type(type_, (), self.app)
        if not isinstance(error, BaseException) and not (isinstance(error, type) and issubclass(error, BaseException)):
            raise LogqueueError(f"fail_next takes an exception, not {error!r}")
        if times < 1:
            raise LogqueueError(f"fail_next: times={times} is less than 1")
        self._faults[type_].extend([error] * times)

    def _on_start(self, job: Job) -> None:
        faults = self._faults.get(job.type or "")
        if faults:
            raise faults.popleft()

    async def cancel(self, job: JobHandle | LabJob | str, *, reason: str | None = None) -> None:
        """Cancel a job as an operator does; returns when the command is on the log."""
        id_, replay = await self._named(job)
        await self._command(cancel_command(id_, replay=replay, by="lab", at_ms=self.clock.time_ms(), reason=reason))

    async def run_now(self, job: JobHandle | LabJob | str) -> None:
        """Let a job that waits for its time run at once, as an operator does."""
        id_, replay = await self._named(job)
        await self._command(run_now_command(id_, replay=replay, by="lab", at_ms=self.clock.time_ms()))

    async def _command(self, command: Command) -> None:
        assert self._writer is not None, "the lab is open"
        await self._writer.write([command])

    async def _named(self, job: JobHandle | LabJob | str) -> tuple[str, int]:
        found = await self.job(job)
        return found.id, found.status.replay if found.status is not None else 0

    # --- what is there ---

    async def jobs(
        self, type_: str | None = None, *, tenant: str | None = None, state: str | None = None, **args: Any
    ) -> list[LabJob]:
        """The jobs on the log, the oldest first: of a type, a tenant, in a state, with (at least) these arguments."""
        assert self._reader is not None, "the lab is open"
        check_state(state)
        everything = await self._reader.jobs()
        check_type(type_, everything, self.app)
        return [
            job
            for job in everything
            if matches(job, type_=type_, tenant=tenant, args=args) and (state is None or job.state == state)
        ]

    async def job(self, job: JobHandle | LabJob | str) -> LabJob:
        """One job as it is now, by its handle or id. Raises LogqueueError if there is none."""
        id_ = job if isinstance(job, str) else str(job.id)
        found = [each for each in await self.jobs() if each.id == id_]
        if not found:
            raise LogqueueError(f"no job {id_} is on the log")
        return found[0]

    async def assert_enqueued(
        self, type_: str, *, tenant: str | None = None, count: int | None = None, **args: Any
    ) -> list[LabJob]:
        """There is a job of this type with these arguments (or `count` of them); returns those that match.

        Arguments that are not named may be anything, within dictionaries too. What was put on the log counts,
        whatever has become of it since. For arguments called `tenant` or `count` see `jobs`.
        """
        everything = await self.jobs()
        found = [job for job in everything if matches(job, type_=type_, tenant=tenant, args=args)]
        if (not found) if count is None else (len(found) != count):
            raise AssertionError(
                complaint(everything, type_=type_, tenant=tenant, args=args, count=count, found=len(found))
            )
        return found

    async def refute_enqueued(self, type_: str, *, tenant: str | None = None, **args: Any) -> None:
        """There is no such job, once everything that is due has run."""
        await self._rest()
        check_type(type_, await self.jobs(), self.app)
        await self.assert_enqueued(type_, tenant=tenant, count=0, **args)

    async def assert_status(self, job: JobHandle | LabJob | str, state: str, **expected: Any) -> LabJob:
        """The job is in this state at rest; `result`, `attempt` and `error` (a part of its text) may be named too.

        Of a result that is a dictionary the named keys count.
        """
        unknown = expected.keys() - {"result", "attempt", "error"}
        if unknown:
            raise TypeError(f"assert_status compares result, attempt and error, not {', '.join(sorted(unknown))}")
        check_state(state)
        await self._rest()
        found = await self.job(job)
        wrong = status_complaint(found, {"state": state, **expected})
        if wrong is not None:
            raise AssertionError(wrong)
        return found
