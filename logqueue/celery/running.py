"""A task while it runs in a worker: its `self`, and its function as a handler of ours. No IO."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

from logqueue.jobs.context import JobContext
from logqueue.jobs.errors import InvalidDefinition


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


def handler_of(
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
