"""What a handler's `ctx` does, done by the worker: cancellation, progress, log lines, steps.

Handlers call from the loop or from a thread. Progress and log lines change the job's details under a lock and are
written with a `running` status at most every `PUBLISH_S`, or with the outcome if that comes first.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec
from logqueue_schemas.job_status import TERMINAL, State

from logqueue.clock import Clock
from logqueue.jobs.effects import effect_key, with_effect
from logqueue.jobs.errors import EffectDenied, StepRefused
from logqueue.jobs.payload import encode_result
from logqueue.jobs.sending import PreparedJob
from logqueue.jobs.settings import Settings
from logqueue_consumers.control.notes import with_line, with_progress
from logqueue_consumers.control.step_store import MAX_NAME_CHARS, MAX_RESULT_BYTES, MAX_STEPS, StepStore
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.partitions.partition import Standing
from logqueue_consumers.running.follow_ups import FollowUps, with_schema_id
from logqueue_consumers.writing.outbox import Outbox

PUBLISH_S = 0.5
"""How often the progress and log lines of running jobs are written."""
STEP_WAIT_S = 60.0
"""How long a thread waits for the log to keep a step's result; then the attempt fails and may be tried again."""


class ServiceDesk:
    """What the services of one worker's jobs share. `steps` is None in a shadow run: there steps just run."""

    def __init__(self, outbox: Outbox, clock: Clock, *, steps: StepStore | None, settings: Settings) -> None:
        self._outbox = outbox
        self.replayed_effect: Callable[[Job, str], Any] | None = None
        """What an effect answers in a shadow run, by its key."""
        self.settings = settings
        self.schema_ids: Mapping[tuple[str, str], int] = {}
        """The ids of the schemas that the app's jobs declare, by queue and type."""
        self.clock = clock
        self.steps = steps
        self.lock = threading.Lock()
        self.loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._noted: set[Job] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ended: list[Job] = []
        self._has_ended = asyncio.Event()

    def of(self, job: Job) -> JobServices:
        """The services of one attempt."""
        return JobServices(self, job)

    def in_loop(self, call: Callable[[], object]) -> None:
        """Do it in the loop, at once where the caller is there."""
        if threading.get_ident() == self._loop_thread:
            call()
        else:
            self.loop.call_soon_threadsafe(call)

    def publish(self, job: Job) -> None:
        """Write the job's details soon."""
        self._noted.add(job)
        if self._timer is None:
            self._timer = self.loop.call_later(PUBLISH_S, self._write)

    def on_durable(self, outcomes: Sequence[Outcome]) -> None:
        """Outcomes that the log has: the steps of jobs that ended are over."""
        if self.steps is not None and self.steps.is_used:
            self._ended += [outcome.job for outcome in outcomes if outcome.state in TERMINAL]
            self._has_ended.set()

    async def run(self) -> None:
        """Withdraw steps of jobs that ended, until cancelled."""
        try:
            while True:
                await self._has_ended.wait()
                self._has_ended.clear()
                ended, self._ended = self._ended, []
                assert self.steps is not None, "only steps end"
                await self.steps.withdraw(ended)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self.steps is not None:
                await self.steps.stop()

    def _write(self) -> None:
        self._timer = None
        noted, self._noted = self._noted, set()
        now_us = self.clock.time_ms() * 1000
        for job in noted:
            if not job.is_over and job.partition.standing is Standing.OWNED:
                self._outbox.add(Outcome.of(job, State.RUNNING, now_us, finishes=False))


class JobServices:
    """The services of one attempt of a job; see `logqueue.jobs.context.ContextServices`."""

    __slots__ = ("_attempt", "_desk", "_effects", "_follow_ups", "_job", "_steps")

    def __init__(self, desk: ServiceDesk, job: Job) -> None:
        self._desk = desk
        self._job = job
        self._attempt = job.attempt
        self._follow_ups = FollowUps(job, desk.settings)
        self._steps: set[str] = set()
        self._effects: Counter[str] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this job to be cancelled."""
        return self._job.cancel is not None

    def send(self, job: PreparedJob) -> None:
        """Put a follow-up job on the log if this attempt succeeds; a shadow run's goes nowhere."""
        if self._desk.steps is not None:
            if job.schema is not None:
                job = with_schema_id(job, self._desk.schema_ids)
            with self._desk.lock:
                self._follow_ups.add(job)

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Show how far the job has come."""
        desk, job = self._desk, self._job
        with desk.lock:
            job.details = with_progress(
                job.details, done=done, total=total, message=message, at_ms=desk.clock.time_ms()
            )
        desk.in_loop(lambda: desk.publish(job))

    def log(self, line: str) -> None:
        """Add a line to the job's own log."""
        desk, job = self._desk, self._job
        with desk.lock:
            job.details = with_line(job.details, line, attempt=self._attempt, at_ms=desk.clock.time_ms())
        desk.in_loop(lambda: desk.publish(job))

    def begin_effect(self, name: str) -> str:
        """The key of a call that touches the outside world."""
        with self._desk.lock:
            if self._effects is None:
                self._effects = Counter()
            number = self._effects[name]
            self._effects[name] += 1
        return effect_key(name, number)

    def record_effect(self, key: str, result: object) -> None:
        """Keep what such a call returned: it is written with the job's next status."""
        with self._desk.lock:
            self._job.details = with_effect(self._job.details, key, result)

    def replayed_effect(self, key: str) -> Any:
        """What such a call returns in a replay."""
        if self._desk.replayed_effect is None:
            raise EffectDenied(f"{key}: a replay does not touch the outside world")
        return self._desk.replayed_effect(self._job, key)

    async def step(self, name: str, call: Callable[[], Any]) -> Any:
        """The kept result of a step, or that of `call`, made durable."""
        is_first = self._begin(name)
        kept = await self._kept(name, is_first)
        if kept is not None:
            return msgspec.json.decode(kept)
        return await self._keep(name, encode_step(name, await call()))

    def step_from_thread(self, name: str, call: Callable[[], Any]) -> Any:
        """The same for a handler that runs in a thread: waits there."""
        is_first = self._begin(name)
        kept = self._wait(self._kept(name, is_first))
        if kept is not None:
            return msgspec.json.decode(kept)
        return self._wait(self._keep(name, encode_step(name, call())))

    def _begin(self, name: str) -> bool:
        """Whether it is the attempt's first step; StepRefused where the name says nothing, or the same twice."""
        if not isinstance(name, str) or not name or len(name) > MAX_NAME_CHARS:
            raise StepRefused(f"a step's name is text of 1 to {MAX_NAME_CHARS} characters, not {name!r:.80}")
        with self._desk.lock:
            if name in self._steps:
                raise StepRefused(f"step {name!r} is there twice in one attempt: its result would be that of the first")
            if len(self._steps) >= MAX_STEPS:
                raise StepRefused(f"a job has at most {MAX_STEPS} steps")
            self._steps.add(name)
            return len(self._steps) == 1

    async def _kept(self, name: str, is_first: bool) -> bytes | None:
        steps = self._desk.steps
        return None if steps is None else await steps.find(self._job, name, is_first=is_first)

    async def _keep(self, name: str, result: bytes) -> Any:
        if self._desk.steps is not None:
            await self._desk.steps.keep(self._job, name, result)
        return msgspec.json.decode(result)

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._desk.loop)
        try:
            return future.result(STEP_WAIT_S)
        except TimeoutError:
            future.cancel()
            raise


def encode_step(name: str, result: object) -> bytes:
    """JSON of a step's result; StepRefused where there is none or it is too large."""
    try:
        encoded = encode_result(result)
    except (TypeError, ValueError, RecursionError) as error:
        raise StepRefused(f"step {name!r} returned {type(result).__name__}, no JSON value: {error}") from None
    if len(encoded) > MAX_RESULT_BYTES:
        raise StepRefused(f"step {name!r} returned {len(encoded)} bytes of JSON, more than {MAX_RESULT_BYTES}")
    return encoded
