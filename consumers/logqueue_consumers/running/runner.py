"""Runners: long-lived tasks that run one ready job after the other, each with its own time limit. Knows no Kafka.

A runner's task is what a handler sees as `asyncio.current_task()`. A job's time limit and an interruption both cancel
that task; the runner tells them apart by the reason it was given and goes on to the next job. A job that sets context
variables uses its task up: the next one of that runner gets a fresh task.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from enum import Enum
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Protocol, cast

import structlog
from msgspec.structs import asdict

from logqueue.clock import Clock
from logqueue.ids import JobId
from logqueue.jobs.context import ContextServices, JobContext
from logqueue.jobs.durations import format_duration
from logqueue.jobs.errors import JobCancelled, JobTimeout, UnserialisableResult
from logqueue.jobs.payload import encode_result
from logqueue_consumers.job import Job
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.running.threads import ThreadPool

if TYPE_CHECKING:
    import msgspec

    from logqueue.jobs.control import Cancel
    from logqueue.jobs.definition import JobDefinition
    from logqueue_consumers.dispatch.dispatcher import Dispatcher
    from logqueue_consumers.processes.isolated import IsolatedJobs

log = structlog.get_logger(__name__)

NO_CONTEXT = cast(JobContext, None)
"""For handlers that take no context: `JobDefinition.invoke` does not look at it."""
SLICE_JOBS = 64
"""Jobs that end without waiting before a runner lets the rest of the loop have a turn."""
SWEEP_S = 0.05
"""How often time limits are looked at: a job is cancelled at most this late."""
CANCEL_AGAIN_S = 5.0
"""A handler that swallows its cancellation is cancelled again this often."""


class Interrupted(Enum):
    """Why a running job was cancelled though its time was not up."""

    STOPPING = "worker stops"
    LOST = "partition lost"
    CANCELLED = "cancelled by command"


class Results(Protocol):
    """Who is told how a job's attempt ended (the engine, and a list in tests)."""

    def ends_expired(self, job: Job) -> bool:
        """A job with an expiry is about to begin: whether it is too late, and the job has ended."""
        ...

    def started(self, job: Job) -> None:
        """The handler begins."""
        ...

    def succeeded(self, job: Job, result: bytes | None) -> None:
        """The handler returned."""
        ...

    def failed(self, job: Job, error: BaseException) -> None:
        """The handler raised or ran out of time."""
        ...

    def interrupted(self, job: Job, reason: Interrupted) -> None:
        """The handler was cancelled from outside."""
        ...


class Runner:
    """One task and the job it runs."""

    __slots__ = ("cancel_again_at_s", "deadline_s", "is_timed_out", "job", "reason", "task", "waiter")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.job: Job | None = None
        self.deadline_s = 0.0
        self.cancel_again_at_s = 0.0
        self.is_timed_out = False
        self.reason: Interrupted | None = None


class RunnerPool:
    """As many runners as the concurrency allows, started when there is work for them."""

    def __init__(self, results: Results, *, limits: WorkerLimits, clock: Clock, group: str, is_shadow: bool) -> None:
        self.ready: deque[Job] | Dispatcher = deque()
        self.on_ended: Callable[[Job], None] | None = None
        """Told of every attempt that is over, however it ended."""
        self.on_start: Callable[[Job], None] | None = None
        """Told of every attempt that begins; what it raises is taken for the handler's."""
        self.on_dry: Callable[[], None] = lambda: None
        """Told when no job runs and none may begin."""
        self.make_services: Callable[[Job], ContextServices] | None = None
        """What the contexts of handlers are made with."""
        self._results = results
        self._limits = limits
        self._clock = clock
        self._group = group
        self._is_shadow = is_shadow
        self._threads = ThreadPool(min(limits.threads, limits.concurrency))
        self._isolated: IsolatedJobs | None = None
        self._runners: list[Runner] = []
        self._idle: list[Runner] = []
        self._tasks: asyncio.TaskGroup | None = None
        self._waiters: list[asyncio.Event] = []
        self._clean = copy_context()

    async def run(self) -> None:
        """Keep the runners until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._clean = copy_context()
                self.wake()
                while True:
                    await asyncio.sleep(SWEEP_S)
                    self._sweep()
        finally:
            self._tasks = None
            self._threads.stop()
            if self._isolated is not None:
                await self._isolated.stop()

    def wake(self) -> None:
        """Give ready jobs to idle runners."""
        if self._tasks is None:
            return
        wanted = len(self.ready)
        while wanted > 0 and self._idle:
            waiter = self._idle.pop().waiter
            assert waiter is not None, "an idle runner waits"
            waiter.set_result(None)
            wanted -= 1
        while wanted > 0 and len(self._runners) < self._limits.concurrency:
            runner = Runner()
            self._runners.append(runner)
            self._start_task(runner)
            wanted -= 1

    def busy(self) -> Iterator[Any]:
        """The runners that run a job now."""
        return (runner for runner in self._runners if runner.job is not None)

    @property
    def running_count(self) -> int:
        """Jobs whose handler runs now."""
        return sum(1 for _ in self.busy())

    def running_jobs(self) -> list[tuple[Job, float]]:
        """The running jobs, each with the time (of the monotonic clock) when it must have ended."""
        return [(runner.job, runner.deadline_s) for runner in self.busy()]

    @property
    def is_dry(self) -> bool:
        """Whether no job runs and none may begin."""
        return len(self._idle) == len(self._runners) and not self.ready

    @property
    def lost_threads(self) -> int | None:
        """How many threads there are, if none of them can be had back; else None."""
        return self._threads.limit if self._threads.abandoned_count >= self._threads.limit else None

    def interrupt(self, partitions: set[OwnedPartition], reason: Interrupted) -> int:
        """Cancel the running jobs of these partitions; returns how many."""
        return self.interrupt_jobs({r.job for r in self.busy() if r.job.partition in partitions}, reason)

    def interrupt_jobs(self, jobs: set[Job], reason: Interrupted) -> int:
        """Cancel these jobs where they run; returns how many."""
        count = 0
        for runner in self.busy():
            if runner.job in jobs and runner.reason is None:
                runner.reason = reason
                self._cancel(runner)
                count += 1
        return count

    def cancel(self, find: Callable[[Job], Cancel | None]) -> int:
        """Cancel the running jobs for which there is a cancel; see `JobEngine.cancel_running`."""
        stopped: set[Job] = set()
        for runner in self.busy():
            job: Job = runner.job
            if job.cancel is None and (cancel := find(job)) is not None:
                job.cancel = cancel
                stopped.add(job)
        cancellable = {
            job for job in stopped if job.definition and (job.definition.is_async or job.definition.is_isolated)
        }
        self.interrupt_jobs(cancellable, Interrupted.CANCELLED)
        return len(stopped)

    async def wait_idle(self, partitions: set[OwnedPartition], timeout_s: float, hurry: asyncio.Event) -> bool:
        """Wait until no job of these partitions runs; false when time is up or `hurry` was set."""
        return await self._wait_until(
            lambda: not any(runner.job.partition in partitions for runner in self.busy()), timeout_s, hurry
        )

    async def wait_over(self, job: Job, timeout_s: float) -> bool:
        """Wait until the attempt of a job that is ready has ended, or will not start; false when time is up."""
        return await self._wait_until(lambda: job.is_over or job.partition.is_stopping, timeout_s, asyncio.Event())

    async def _wait_until(self, holds: Callable[[], bool], timeout_s: float, hurry: asyncio.Event) -> bool:
        """Wait for something that can only change when a job ends; false when time is up or `hurry` was set."""
        loop = asyncio.get_running_loop()  # its own time: a stop or a rebalance waits although a test's clock stands
        deadline_s = loop.time() + timeout_s
        while not holds():
            rest_s = deadline_s - loop.time()
            if rest_s <= 0 or hurry.is_set():
                return False
            ended = asyncio.Event()
            self._waiters.append(ended)
            waits = [asyncio.ensure_future(ended.wait()), asyncio.ensure_future(hurry.wait())]
            try:
                await asyncio.wait(waits, timeout=rest_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                if ended in self._waiters:
                    self._waiters.remove(ended)
        return True

    async def _work(self, runner: Runner) -> None:
        """One runner's life: run ready jobs, wait for more."""
        results = self._results
        turns = SLICE_JOBS
        while True:
            ready = self.ready
            if not ready:
                turns = SLICE_JOBS
                await self._wait_for_jobs(runner)
                continue
            job = ready.popleft()
            if job is None:
                continue
            if job.partition.is_stopping or (job.headers.expires_ms is not None and results.ends_expired(job)):
                self._let_go(runner, job)  # it was taken, and holds what bounds it
            else:
                # Run in place: a coroutine more for each job is a fifth of what a runner costs.
                runner.job = job
                try:
                    result = await self._begin(runner, job)
                    encoded = None if result is None else self._encode(result)
                except asyncio.CancelledError as error:
                    self._after_cancel(runner, job, error)
                except (GeneratorExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # SystemExit and its like end their job, not the worker
                    self._failed(job, error)
                else:
                    results.succeeded(job, encoded)
                finally:
                    runner.job = None
                    if self.on_ended is not None or self._waiters or runner.reason is not None or runner.is_timed_out:
                        self._let_go(runner, job)
                if self._is_marked():
                    # What a job set in context variables must not reach the next one: a fresh task goes on.
                    self._start_task(runner)
                    return
            turns -= 1
            if turns == 0:
                turns = SLICE_JOBS
                await asyncio.sleep(0)

    async def _wait_for_jobs(self, runner: Runner) -> None:
        runner.waiter = asyncio.get_running_loop().create_future()
        self._idle.append(runner)
        if len(self._idle) == len(self._runners):
            self.on_dry()
        await runner.waiter

    def _start_task(self, runner: Runner) -> None:
        assert self._tasks is not None, "runners live while the pool runs"
        runner.task = self._tasks.create_task(self._work(runner), context=self._clean.copy())

    def _is_marked(self) -> bool:
        """Whether the job that ran in the present task left context variables set."""
        try:
            return copy_context() != self._clean
        except Exception:  # two values of a variable that cannot be compared are not the same
            return True

    def _let_go(self, runner: Runner, job: Job) -> None:
        """A job is over: what was asked of it is not asked of the next one, and who waited for its end is told."""
        if runner.reason is not None or runner.is_timed_out:
            self._forget_cancel(runner)
        if self.on_ended is not None:
            self.on_ended(job)
        if self._waiters:
            for waiter in self._waiters:
                waiter.set()

    def _begin(self, runner: Runner, job: Job) -> Awaitable[Any]:
        """Begin; what is awaited for the result is an async handler's own coroutine."""
        definition, arguments = job.definition, job.arguments
        assert definition is not None and arguments is not None, "only a job with a handler and arguments is ready"
        job.started_us = self._clock.time_ms() * 1000
        if job.is_over:
            job.is_over = False  # an attempt before this one was
        runner.deadline_s = self._clock.monotonic() + definition.timeout_s
        if definition.version is not None:
            job.details = {**(job.details or {}), "version": definition.version}
        self._results.started(job)
        if self.on_start is not None:
            self.on_start(job)
        coroutine: Awaitable[Any]
        if definition.is_bare:
            coroutine = definition.handler(**asdict(arguments))
            return coroutine
        ctx = self._context(definition, job) if definition.takes_context else NO_CONTEXT
        if definition.is_isolated:
            return self._call_isolated(runner, definition, ctx, arguments)
        if definition.is_async:
            coroutine = definition.invoke(ctx, arguments)
            return coroutine
        return self._call_in_thread(runner, definition, ctx, arguments)

    async def _call_in_thread(
        self, runner: Runner, definition: JobDefinition[..., Any], ctx: JobContext, arguments: Any
    ) -> Any:
        if self._threads.is_full:
            await self._wait_for_thread(runner, definition)
        result = await self._threads.run(copy_context(), partial(definition.invoke, ctx, arguments))
        return await result if isawaitable(result) else result

    async def _wait_for_thread(self, runner: Runner, definition: JobDefinition[..., Any]) -> None:
        """A job's time begins when there is a thread for it: waiting for others must not use up its attempts."""
        runner.deadline_s = math.inf
        await self._threads.wait_for_one()
        runner.deadline_s = self._clock.monotonic() + definition.timeout_s

    async def _call_isolated(
        self, runner: Runner, definition: JobDefinition[..., Any], ctx: JobContext, arguments: msgspec.Struct
    ) -> Any:
        """Run it in a process; the job's time begins when there is one for it."""
        if self._isolated is None:
            from logqueue_consumers.processes.isolated import IsolatedJobs

            limits = self._limits
            self._isolated = IsolatedJobs(
                definition.app, limit=limits.isolated_processes, grace_s=limits.isolated_grace_s
            )

        def begin() -> None:
            runner.deadline_s = self._clock.monotonic() + definition.timeout_s

        runner.deadline_s = math.inf
        return await self._isolated.run(definition, ctx, arguments, on_start=begin)

    def _context(self, definition: JobDefinition[..., Any], job: Job) -> JobContext:
        origin = job.origin
        return JobContext(
            job_id=JobId(job.id),
            type=definition.type,
            tenant=job.tenant,
            queue=definition.queue,
            group=self._group,
            attempt=job.attempt,
            max_attempts=definition.retry.attempts,
            replay=job.headers.replay,
            replaying=self._is_shadow,
            created_ms=job.created_ms,
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            headers={name: value for name, value in job.record.headers if value is not None},
            _services=None if self.make_services is None else self.make_services(job),
        )

    def _encode(self, result: object) -> bytes:
        """JSON of a result; UnserialisableResult where there is none or it is too large."""
        try:
            encoded = encode_result(result)
        except (TypeError, ValueError, RecursionError) as error:
            raise UnserialisableResult(
                f"the handler returned {type(result).__name__}, no JSON value: {error}"
            ) from None
        if len(encoded) > self._limits.max_result_bytes:
            raise UnserialisableResult(
                f"the handler returned {len(encoded)} bytes of JSON, more than {self._limits.max_result_bytes}:"
                " store large results elsewhere and return where"
            )
        return encoded

    def _failed(self, job: Job, error: BaseException) -> None:
        """Tell of a failure; of its type alone where asking the exception about itself raises: it is the user's own."""
        try:
            self._results.failed(job, error)
        except Exception:
            log.exception("an exception that says nothing of itself", id=job.id, type=job.type)
            self._results.failed(job, RuntimeError(type(error).__name__))

    def _after_cancel(self, runner: Runner, job: Job, error: asyncio.CancelledError) -> None:
        """Tell apart: an interruption, the time limit, the pool's own end, a handler that cancelled itself."""
        assert runner.task is not None and job.definition is not None
        if runner.reason is Interrupted.CANCELLED:
            self._results.failed(job, JobCancelled("cancelled while it ran"))
        elif runner.reason is not None:
            self._results.interrupted(job, runner.reason)
        elif runner.is_timed_out:
            limit = format_duration(job.definition.timeout_s)
            if not job.definition.is_async and not job.definition.is_isolated:
                log.warning(
                    'a plain handler ran out of time: its thread goes on (isolation="process" can be stopped)',
                    type=job.type,
                    id=job.id,
                    timeout=limit,
                    busy_threads=self._threads.busy_count,
                )
            self._results.failed(job, JobTimeout(f"the handler ran longer than its timeout of {limit}"))
        elif runner.task.cancelling():
            raise error
        else:
            self._results.failed(job, RuntimeError("the handler cancelled itself"))

    @staticmethod
    def _forget_cancel(runner: Runner) -> None:
        assert runner.task is not None
        while runner.task.cancelling():
            runner.task.uncancel()
        runner.reason = None
        runner.is_timed_out = False

    def _cancel(self, runner: Runner) -> None:
        assert runner.task is not None
        runner.cancel_again_at_s = self._clock.monotonic() + CANCEL_AGAIN_S
        runner.task.cancel()

    def _sweep(self) -> None:
        """Cancel jobs whose time is up, and again those that swallowed it."""
        now_s = self._clock.monotonic()
        for runner in self._runners:
            if runner.job is None:
                continue
            if runner.is_timed_out or runner.reason is not None:
                if now_s >= runner.cancel_again_at_s:
                    self._cancel(runner)
            elif now_s >= runner.deadline_s:
                runner.is_timed_out = True
                self._cancel(runner)
