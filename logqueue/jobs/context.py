"""What a handler learns of its job and may do about it: the `ctx` parameter. Facts, and a door to the worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Protocol, TypeVar, cast

import msgspec

from logqueue.ids import JobId
from logqueue.jobs.durations import Duration
from logqueue.jobs.errors import EffectDenied, InvalidDefinition, JobCancelled, Snooze
from logqueue.jobs.headers import SCHEDULED_AT
from logqueue.jobs.partitioning import DEFAULT_TENANT
from logqueue.jobs.times import parse_time, to_datetime

if TYPE_CHECKING:
    from logqueue.jobs.flow_context import After, Results
    from logqueue.jobs.sending import PreparedJob

P = ParamSpec("P")
R = TypeVar("R")


class ContextServices(Protocol):
    """What a worker does for the handler that it runs. Every method may be called from any thread."""

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this job to be cancelled."""
        ...

    def send(self, job: PreparedJob) -> None:
        """Put a follow-up job on the log if this attempt succeeds."""
        ...

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        """Show how far the job has come."""
        ...

    def log(self, line: str) -> None:
        """Add a line to the job's own log."""
        ...

    async def step(self, name: str, call: Callable[[], Any]) -> Any:
        """The kept result of a step, or that of `call`, made durable."""
        ...

    def step_from_thread(self, name: str, call: Callable[[], Any]) -> Any:
        """The same for a handler that runs in a thread: waits there."""
        ...

    def begin_effect(self, name: str) -> str:
        """The key of a call that touches the outside world: its name and its place among the calls of that name."""
        ...

    def record_effect(self, key: str, result: object) -> None:
        """Keep what such a call returned, for replays."""
        ...

    def replayed_effect(self, key: str) -> Any:
        """What such a call returns in a replay; EffectDenied where it returns nothing."""
        ...


class JobContext(msgspec.Struct, frozen=True, kw_only=True):
    """The job that a handler is running.

    `attempt` counts from 1. `replay` is how often an operator sent this job round again. `replaying` says that this
    run belongs to a shadow group: history is run through the handler, and the outside world should not notice.
    `job_id` stays the same over all attempts: hand it on as the idempotency key of whatever the handler calls.

    Made without services (a unit test that calls the handler), nothing is cancelled, progress and log lines go
    nowhere, and steps just run.
    """

    job_id: JobId
    type: str
    tenant: str
    queue: str
    group: str
    attempt: int
    max_attempts: int
    replay: int
    replaying: bool
    created_ms: int
    topic: str
    partition: int
    offset: int
    headers: Mapping[str, bytes]
    _services: ContextServices | None = None

    @property
    def created_at(self) -> datetime:
        """When the job was made (UTC)."""
        return to_datetime(self.created_ms)

    @property
    def scheduled_at(self) -> datetime | None:
        """The time of this run of its schedule (UTC), which may be earlier than now; None for a job of no schedule."""
        found = self.headers.get(SCHEDULED_AT)
        return None if found is None else to_datetime(parse_time(found.decode()))

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure now ends the job."""
        return self.attempt >= self.max_attempts

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this job to be cancelled.

        An `async` handler is cancelled at its next `await` anyway; a plain one has to look, and may end as it likes:
        what it returns then counts, `raise_if_cancelled` makes the job `cancelled`.
        """
        return self._services is not None and self._services.cancelled

    def raise_if_cancelled(self) -> None:
        """Raise JobCancelled if somebody asked for this job to be cancelled."""
        if self.cancelled:
            raise JobCancelled("cancelled while it ran")

    def send(self, job: PreparedJob) -> JobId:
        """Send a follow-up job: `ctx.send(resize.prepare(tenant=ctx.tenant, n=1))`; returns its id.

        It goes on the log with this attempt's success: if the attempt fails it never exists. With exactly-once
        processing it exists exactly once however often the attempt is repeated. In a replay, and without services, it
        goes nowhere. Raises NotPrepared, JobTooLarge, TooManyFollowUps, AttemptOver.
        """
        from logqueue.jobs.prepared import check_prepared

        check_prepared(job, "ctx.send")
        if self._services is not None:
            self._services.send(job)
        return job.id

    @property
    def workflow_id(self) -> str | None:
        """The workflow that the job is a node of."""
        from logqueue.jobs.flow_context import workflow_of

        return workflow_of(self.headers)

    @property
    def results(self) -> Results:
        """What the nodes before this one returned, by node; `.failed`, `.omitted` and `.counts` tell the rest."""
        from logqueue.jobs.flow_context import results_of

        return results_of(self.headers)

    def add(self, name: str, job: PreparedJob, *, after: After = (), on_failure: str = "fail") -> JobId:
        """Add a node to the workflow that this job belongs to: `ctx.add("page-2", fetch.prepare(n=2))`.

        It exists with this attempt's success, and once: a name that is taken is left as it is. It may come after any
        node of the workflow (see `Workflow.add`); the workflow and its callback wait for it. Returns the job's id.
        Raises InvalidDefinition where this job is no node, for a job of another tenant, and after the callback.
        """
        from logqueue.jobs.flow_context import added_node
        from logqueue.jobs.prepared import check_prepared

        check_prepared(job, "ctx.add")
        if job.tenant not in (DEFAULT_TENANT, self.tenant):
            raise InvalidDefinition(f"A workflow belongs to one tenant, {self.tenant!r}, not to {job.tenant!r} as well")
        return self.send(added_node(self.headers, name, job, after=after, on_failure=on_failure))

    def snooze(self, delay: Duration) -> NoReturn:
        """End this attempt and be called again after `delay`, as if this one had not been: raises Snooze.

        A job with `expires` is not begun after that.
        """
        raise Snooze(delay)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Show how far the job has come, in `details.progress`; written at most twice a second: call it freely."""
        if self._services is not None:
            self._services.progress(done, total, message)

    def log(self, line: str) -> None:
        """Add a line to the job's own log, under `details.log`: the newest lines are kept, within a few KiB."""
        if self._services is not None:
            self._services.log(line)

    async def step(self, name: str, function: Callable[P, Awaitable[R] | R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a part of the job once: `order = await ctx.step("charge", charge, card, amount)`.

        Its result (a JSON value) is durable before this returns. Later attempts, in whichever process, get that result
        without running the function. `name` is unique within the job. The function may run again if the process dies
        before its result is durable. Raises StepRefused for a result that is no JSON value or too large.
        """

        async def call() -> Any:
            found = function(*args, **kwargs)
            return await found if isawaitable(found) else found

        if self._services is None:
            result: R = await call()
        else:
            result = await self._services.step(name, call)
        return result

    def effect(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Touch the outside world: `await ctx.effect(mail.send, to, body)`, or without await as `function` is.

        Live this calls the function; the result, if it is a small JSON value, is recorded under `details.effects`. In
        a replay the function is not called: EffectDenied is raised, or None or the recorded result is returned, as the
        replay was asked to (`--effects`). It does not make the call happen once: hand `job_id` on for that.
        """
        services, name = self._services, getattr(function, "__qualname__", type(function).__qualname__)
        if self.replaying:
            if services is None:
                raise EffectDenied(f"{name}: a replay does not touch the outside world")
            value = services.replayed_effect(services.begin_effect(name))
            return cast(R, _ready(value)) if iscoroutinefunction(function) else cast(R, value)
        if services is None:
            return function(*args, **kwargs)
        key = services.begin_effect(name)
        found = function(*args, **kwargs)
        if isawaitable(found):
            return cast(R, _recorded(found, key, services))
        services.record_effect(key, found)
        return found

    def step_sync(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same for plain handlers: `order = ctx.step_sync("charge", charge, card, amount)`."""
        if self._services is None:
            return function(*args, **kwargs)
        result: R = self._services.step_from_thread(name, lambda: function(*args, **kwargs))
        return result


async def _ready(value: Any) -> Any:
    return value


async def _recorded(found: Awaitable[Any], key: str, services: ContextServices) -> Any:
    result = await found
    services.record_effect(key, result)
    return result
