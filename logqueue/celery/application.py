"""`Celery` over an App, and its tasks. Shell."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

from logqueue.celery.line import Line
from logqueue.celery.result import AsyncResult
from logqueue.celery.running import RetryAsked, handler_of
from logqueue.ids import JobId
from logqueue.jobs.app import App
from logqueue.jobs.client import JobClient
from logqueue.jobs.definition import DEFAULT_QUEUE, DEFAULT_TIMEOUT_S, JobDefinition
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition
from logqueue.jobs.handle import JobHandle
from logqueue.jobs.job_ids import time_of_id
from logqueue.jobs.partitioning import DEFAULT_TENANT
from logqueue.jobs.retry import Retry
from logqueue.jobs.settings import Settings

T = TypeVar("T")

DEFAULT_RETRY_DELAY_S: Final = 180.0
DEFAULT_MAX_RETRIES: Final = 3
MAX_BACKOFF_S: Final = 600.0
_WORKFLOW = ": workflows are made of `task.definition.prepare(...)`, see chain, group and chord of logqueue.jobs.flows"
ELSEWHERE: Final = dict.fromkeys(("s", "si", "signature", "subtask", "chunks", "map", "starmap"), _WORKFLOW) | {
    "apply": ": call the task to run it here and now",
}
"""Words of Celery's tasks that are not here, and what to write."""


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

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a task has no .{name} here" + ELSEWHERE.get(name, ""), name=name, obj=self)

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


class Celery:
    """An App under Celery's words. `app` takes one that is there, so that both styles live side by side."""

    def __init__(self, name: str = "tasks", *, app: App | None = None, settings: Settings | None = None) -> None:
        self.app = app if app is not None else App(name, settings=settings)
        self._line: Line | None = None
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

        handler = handler_of(function, type_, is_bound=bind, autoretry_for=autoretry_for, delay_after=delay_after)
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

    def _connected(self) -> Line:
        with self._lock:
            line = self._line
            if line is not None and line.pid == os.getpid() and line.settings != self.app.settings:
                line.close()  # the app has moved to another log: tests place it on theirs
                line = None
            if line is None or line.pid != os.getpid():  # threads do not live on in a forked child
                line = self._line = Line(self.app)
            return line


def _aware(moment: datetime | None) -> datetime | None:
    """As Celery takes it; what is no datetime goes on as it is, to where it is told."""
    return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) and moment.tzinfo is None else moment
