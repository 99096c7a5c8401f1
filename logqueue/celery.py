"""Celery's words over an app, for code that moves over: `@celery.task`, `.delay`, `.apply_async`, `AsyncResult`.

    from logqueue.celery import Celery

    celery = Celery("shop")

    @celery.task(bind=True, max_retries=3, default_retry_delay=60)
    def send_email(self, to: str, body: str) -> None:
        try:
            smtp(to, body)
        except OSError as error:
            raise self.retry(exc=error)

    send_email.delay("a@b.c", "hi").get(timeout=30)

`celery.app` is the App that `logqueue worker` runs. docs/migrating-from-celery.md says what differs. Calls block, as
Celery's do: a thread of its own speaks to the log. Async code has `task.definition.send`.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import math
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial, wraps
from typing import Any, Final, NoReturn, TypeVar

from logqueue.ids import JobId
from logqueue.jobs.app import App
from logqueue.jobs.client import JobClient
from logqueue.jobs.context import JobContext
from logqueue.jobs.definition import DEFAULT_QUEUE, DEFAULT_TIMEOUT_S, JobDefinition
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition, WaitTimeout
from logqueue.jobs.handle import JobHandle, JobState
from logqueue.jobs.job_ids import time_of_id
from logqueue.jobs.partitioning import DEFAULT_TENANT
from logqueue.jobs.retry import Retry
from logqueue.jobs.settings import Settings

T = TypeVar("T")

STATES: Final = {
    "running": "STARTED",
    "retrying": "RETRY",
    "succeeded": "SUCCESS",
    "dead": "FAILURE",
    "cancelled": "REVOKED",
    "expired": "REVOKED",
}
"""Celery's word for ours; everything else is PENDING."""
READY: Final = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
DEFAULT_RETRY_DELAY_S: Final = 180.0
DEFAULT_MAX_RETRIES: Final = 3
MAX_BACKOFF_S: Final = 600.0
WAIT_ROUND_S: Final = 3600.0
"""`get` without a timeout waits in rounds of this."""
START_TIMEOUT_S: Final = 10.0


class MaxRetriesExceeded(Exception):
    """`self.retry` was called without an exception, and no retry was left."""


class RetryAsked(Exception):
    """What `self.retry` raises: the attempt failed, and the next one is to begin after a while."""

    status_code = 503  # a job's retry policy obeys what such an error asks for

    def __init__(self, countdown_s: float, reason: BaseException | None) -> None:
        super().__init__("asked for a retry" if reason is None else f"{type(reason).__name__}: {reason}")
        self.headers = {"Retry-After": str(max(0, math.ceil(countdown_s)))}


class Request:
    """`self.request` of a bound task."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: JobContext) -> None:
        self._ctx = ctx

    @property
    def id(self) -> str:
        """The task's id: the same in every attempt."""
        return self._ctx.job_id

    @property
    def retries(self) -> int:
        """How many attempts were before this one."""
        return self._ctx.attempt - 1

    @property
    def tenant(self) -> str:
        """Whose job it is."""
        return self._ctx.tenant


class BoundTask:
    """`self` of a bound task; `context` is the job's context, with all that Celery has no word for."""

    __slots__ = ("_delay_s", "context", "max_retries", "name", "request")

    def __init__(self, ctx: JobContext, name: str, *, delay_s: float) -> None:
        self.context = ctx
        self.name = name
        self.request = Request(ctx)
        self.max_retries = ctx.max_attempts - 1
        self._delay_s = delay_s

    def retry(self, *, exc: BaseException | None = None, countdown: float | None = None) -> NoReturn:
        """End this attempt and try again after `countdown` seconds (default: default_retry_delay); always raises.

        When no retry is left it raises `exc` itself, or MaxRetriesExceeded.
        """
        if self.context.is_last_attempt:
            raise exc if exc is not None else MaxRetriesExceeded(f"{self.name} after {self.max_retries} retries")
        raise RetryAsked(self._delay_s if countdown is None else countdown, exc) from exc


class Task:
    """A task: call it to run it here, `.delay` or `.apply_async` to have it run by a worker."""

    def __init__(
        self,
        celery: Celery,
        function: Callable[..., Any],
        definitions: Mapping[str, JobDefinition[..., Any]],
        *,
        is_bound: bool,
    ) -> None:
        self.definition = next(iter(definitions.values()))
        """The job of the task's first queue."""
        self.name = self.definition.type
        self._celery = celery
        self._function = function
        self._definitions = definitions
        self._is_bound = is_bound
        parameters = list(inspect.signature(function).parameters.values())
        self._signature = inspect.Signature(parameters[1:] if is_bound else parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function here and now. A bound one needs its `self` from you: pass a BoundTask, or a fake."""
        return self._function(*args, **kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Put the task on the log; returns when it is durable."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        expires: float | datetime | None = None,
        queue: str | None = None,
        task_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        tenant: str | None = None,
    ) -> AsyncResult:
        """Put the task on the log with options; times are seconds, datetimes without a zone are UTC.

        Raises InvalidArguments, BrokerUnreachable, SendFailed. `tenant` is ours: tasks of one tenant run in order.
        """
        definition = self._definition_of(queue)
        try:
            arguments = dict(self._signature.bind(*args, **(kwargs or {})).arguments)
        except TypeError as error:
            raise InvalidArguments(f"{self.name}: {error}") from None
        sending = definition.with_(
            tenant=tenant,
            delay=countdown,
            run_at=_aware(eta),
            expires=_aware(expires) if isinstance(expires, datetime) else expires,
            id=task_id,
            headers=headers,
        )
        job = sending.prepare(**arguments)
        handle = self._celery.do(lambda client: client.send(job))
        return AsyncResult(self._celery, handle)

    def __repr__(self) -> str:
        return f"<@task: {self.name} of {self._celery.app.name}>"

    def _definition_of(self, queue: str | None) -> JobDefinition[..., Any]:
        if queue is None:
            return self.definition
        if queue not in self._definitions:
            raise InvalidArguments(
                f"Task {self.name!r} is not declared for queue {queue!r}: @task(queues=[{queue!r}, ...])", field="queue"
            )
        return self._definitions[queue]


class AsyncResult:
    """What became of a task."""

    def __init__(self, celery: Celery, handle: JobHandle) -> None:
        self._celery = celery
        self.handle = handle

    @property
    def id(self) -> str:
        """The task's id, which is the job's."""
        return self.handle.id

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED (cancelled, or expired)."""
        found = self._state()
        return "PENDING" if found is None else STATES.get(str(found.state), "PENDING")

    status = state

    @property
    def result(self) -> Any:
        """What the task returned, the text of its error, or None while it has not ended."""
        found = self._state()
        if found is None or not found.is_terminal:
            return None
        return found.result if found.has_succeeded else found.error_message

    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in READY

    def successful(self) -> bool:
        """Whether it ended well."""
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        """Whether it failed for good."""
        return self.state == "FAILURE"

    def get(self, timeout: float | None = None, *, propagate: bool = True) -> Any:
        """What the task returns, once it has. WaitTimeout (a TimeoutError) after `timeout` seconds.

        JobFailed tells why it failed; with propagate=False the error's text is returned instead.
        """
        state = self._wait(timeout)
        if propagate:
            state.raise_for_state()
        return state.result if state.has_succeeded else state.error_message

    def _wait(self, timeout: float | None) -> JobState:
        seconds = WAIT_ROUND_S if timeout is None else timeout
        while True:
            try:
                return self._celery.do(lambda client: client.wait(self.handle, timeout_s=seconds))
            except WaitTimeout:
                if timeout is not None:
                    raise

    def _state(self) -> JobState | None:
        return self._celery.do(lambda client: client.status(self.handle))

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"


class Celery:
    """An App under Celery's words. `app` takes one that is there, so that both styles live side by side."""

    def __init__(self, name: str = "tasks", *, app: App | None = None, settings: Settings | None = None) -> None:
        self.app = app if app is not None else App(name, settings=settings)
        self._line: _Line | None = None
        self._lock = threading.Lock()

    def task(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        queue: str = DEFAULT_QUEUE,
        queues: Sequence[str] = (),
        bind: bool = False,
        max_retries: int | None = DEFAULT_MAX_RETRIES,
        default_retry_delay: float = DEFAULT_RETRY_DELAY_S,
        autoretry_for: tuple[type[BaseException], ...] = (),
        retry_backoff: float | bool = False,
        retry_backoff_max: float = MAX_BACKOFF_S,
        time_limit: float = DEFAULT_TIMEOUT_S,
    ) -> Any:
        """Declare a task: `@celery.task` or `@celery.task(bind=True, ...)`. The name defaults to module.function.

        `queues` are all that it may be sent to, the first one by default (instead of `queue`). `max_retries` None
        means as many as a job can have. Only `self.retry` and `autoretry_for` retry, as in Celery.
        """
        if function is None:
            options = {key: value for key, value in locals().items() if key not in ("self", "function")}
            return partial(self.task, **options)
        type_ = name if name is not None else f"{function.__module__}.{function.__name__}"
        attempts = 10_000 if max_retries is None else max_retries + 1
        retry = Retry(attempts=attempts, first=0, factor=1.0, cap=0, jitter=0.0, on=RetryAsked)

        def delay_after(retries: int) -> float:
            if not retry_backoff:
                return default_retry_delay
            return min(retry_backoff_max, float(retry_backoff) * 2.0 ** min(retries, 64))

        handler = _handler(function, type_, is_bound=bind, autoretry_for=autoretry_for, delay_after=delay_after)
        definitions = {}
        for place, each in enumerate(queues or (queue,)):
            # A type belongs to one queue: further ones have it under a name of their own.
            declare = self.app.job(
                type_ if place == 0 else f"{type_}@{each}", queue=each, retry=retry, timeout=time_limit
            )
            definitions[each] = declare(handler)
        return Task(self, function, definitions, is_bound=bind)

    def AsyncResult(self, task_id: str, *, tenant: str = DEFAULT_TENANT) -> AsyncResult:  # noqa: N802 - Celery's word
        """The result of a task of which only the id is known (and the tenant, where it had one).

        InvalidArguments for an id that tells no time: those of our own do, ids that you gave do not.
        """
        created_ms = time_of_id(task_id)
        if created_ms is None:
            raise InvalidArguments(f"Task id {task_id!r} tells no time: ask for it with `logqueue job get`", field="id")
        handle = JobHandle(
            id=JobId(task_id),
            type="",
            queue="",
            tenant=tenant,
            topic="",
            partition=-1,
            offset=-1,
            created_ms=created_ms,
            client=self._connected().client,
        )
        return AsyncResult(self, handle)

    def do(self, ask: Callable[[JobClient], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine of the connection in its thread and wait for it."""
        line = self._connected()
        if threading.current_thread() is line.thread:
            raise InvalidDefinition("A blocking call in the thread of the connection would wait for itself")
        return asyncio.run_coroutine_threadsafe(ask(line.client), line.loop).result()

    def close(self) -> None:
        """End the connection; the next call makes a new one."""
        with self._lock:
            line, self._line = self._line, None
        if line is not None and line.pid == os.getpid():
            line.close()

    def _connected(self) -> _Line:
        with self._lock:
            line = self._line
            if line is not None and line.pid == os.getpid() and line.settings != self.app.settings:
                line.close()  # the app has moved to another log: tests place it on theirs
                line = None
            if line is None or line.pid != os.getpid():  # threads do not live on in a forked child
                line = self._line = _Line(self.app)
            return line


class _Line:
    """A connection to the log with a loop and a thread of its own."""

    def __init__(self, app: App) -> None:
        self.pid = os.getpid()
        self.settings = app.settings
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="logqueue-celery", daemon=True)
        self.thread.start()

        async def make() -> JobClient:
            return JobClient(app.settings, partitions_of=app.partitions_of, clock=app.clock)

        self.client = asyncio.run_coroutine_threadsafe(make(), self.loop).result(START_TIMEOUT_S)
        atexit.register(self._at_exit)

    def close(self) -> None:
        atexit.unregister(self._at_exit)
        asyncio.run_coroutine_threadsafe(self.client.close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _at_exit(self) -> None:
        """Programs of Celery's users close nothing."""
        if self.pid == os.getpid():
            self.close()


def _handler(
    function: Callable[..., Any],
    name: str,
    *,
    is_bound: bool,
    autoretry_for: tuple[type[BaseException], ...],
    delay_after: Callable[[int], float],
) -> Callable[..., Any]:
    """The task's function as a handler of ours: the context first, then its own parameters."""

    def bound(ctx: JobContext) -> BoundTask:
        return BoundTask(ctx, name, delay_s=delay_after(ctx.attempt - 1))

    def call(me: BoundTask, arguments: dict[str, Any]) -> Any:
        return function(me, **arguments) if is_bound else function(**arguments)

    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def handler(ctx: JobContext, **arguments: Any) -> Any:
            me = bound(ctx)
            try:
                return await call(me, arguments)
            except autoretry_for as error:
                _again(me, error)

    else:

        @wraps(function)
        def handler(ctx: JobContext, **arguments: Any) -> Any:
            me = bound(ctx)
            try:
                return call(me, arguments)
            except autoretry_for as error:
                _again(me, error)

    parameters = list(inspect.signature(function).parameters.values())
    if is_bound and not parameters:
        raise InvalidDefinition(f"Task {name!r} is bound and has no `self` parameter")
    own = parameters[1:] if is_bound else parameters
    first = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    handler.__signature__ = inspect.Signature([first, *own])  # type: ignore[attr-defined]
    return handler


def _again(me: BoundTask, error: BaseException) -> NoReturn:
    if isinstance(error, RetryAsked):
        raise error
    me.retry(exc=error)


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
