"""A job as its handler declares it: type, queue, retry, timeout, and arguments checked against the signature."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import msgspec

from logqueue.jobs.arguments import Arguments, declare_arguments, one_of
from logqueue.jobs.breaker import Breaker
from logqueue.jobs.context import JobContext
from logqueue.jobs.durations import Duration, format_duration, parse_duration
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition
from logqueue.jobs.headers import MAX_TYPE_CHARS
from logqueue.jobs.limits import Limit, check_arguments, check_limits
from logqueue.jobs.payload import ArgumentCodec
from logqueue.jobs.retry import Retry
from logqueue.jobs.sending import MAX_SPREAD, PreparedJob, Sending, encoded, prepare_job, spread_of
from logqueue.jobs.topics import JOBS_PARTITIONS, check_partitions, check_priority, check_queue
from logqueue.jobs.unique import Unique

if TYPE_CHECKING:
    from datetime import datetime

    from logqueue.jobs.app import App
    from logqueue.jobs.handle import JobHandle

P = ParamSpec("P")
R = TypeVar("R")

ArgumentsType = type[Any]

DEFAULT_QUEUE = "default"
DEFAULT_TIMEOUT_S = 300.0
ORDERS = ("tenant", "none", "partition")
ISOLATIONS = ("process",)
DEFAULT_PRIORITY = "normal"
MIN_WEIGHT, MAX_WEIGHT = 0.01, 1000.0
MAX_VERSION_CHARS = 64
CONTEXT_NAME = "ctx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue of an app.

    `order`: "tenant" runs one tenant's jobs one at a time and in order (also those of a group of a workflow),
    "partition" one partition's, "none" neither.
    `default_type` is the type of records that come without `ce_type`. `partitions` counts only when the topic is
    created: Kafka moves no old record when it changes, so tenants would change their partition.

    `priorities` are classes with their weights, {"high": 6, "normal": 3, "low": 1}; jobs that name none are of
    `default_priority`. Each other class has a topic of its own, and order holds within a class. `limits` bound what
    runs, see Limit. `weights` are the shares of tenants beside each other (default 1). `fair` lets tenants take turns
    where the order is "none" (with order "tenant" they do anyway). `spread` gives each tenant's jobs that many
    partition keys, `tenant#1` and so on, so that more than one worker runs them: only with order "none".
    """

    name: str
    order: str = "tenant"
    default_type: str | None = None
    partitions: int = JOBS_PARTITIONS
    priorities: Mapping[str, float] = field(default_factory=dict)
    default_priority: str = DEFAULT_PRIORITY
    limits: tuple[Limit, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    fair: bool = True
    spread: int = 1

    def __post_init__(self) -> None:
        check_queue(self.name)
        check_partitions(self.partitions)
        if self.order not in ORDERS:
            raise InvalidDefinition(f"Queue {self.name!r}: order {self.order!r} is not one of {', '.join(ORDERS)}")
        if self.default_type is not None:
            check_type(self.default_type)
        check_limits(self.limits)
        for name, weight in self.priorities.items():
            _check_weight(weight, f"Queue {self.name!r}: priority {check_priority(name)!r}")
        for tenant, weight in self.weights.items():
            _check_weight(weight, f"Queue {self.name!r}: tenant {tenant!r}")
        if self.priorities and self.default_priority not in self.priorities:
            raise InvalidDefinition(
                f"Queue {self.name!r}: the class {self.default_priority!r} of jobs that name none is not in its"
                " priorities: add it, or name another with default_priority="
            )
        if not 1 <= self.spread <= MAX_SPREAD:
            raise InvalidDefinition(f"Queue {self.name!r}: spread={self.spread!r} is not 1 to {MAX_SPREAD}")
        if self.spread > 1 and self.order != "none":
            raise InvalidDefinition(f'Queue {self.name!r}: spread gives up a tenant\'s order; declare order="none"')

    @property
    def priority_topics(self) -> list[str]:
        """The classes that have topics of their own."""
        return [name for name in self.priorities if name != self.default_priority]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobDefinition(Generic[P, R]):
    """A handler under its job type. A plain call runs the function here; `send` puts a job on the log.

    `takes_context` says whether the first parameter is the JobContext; `codec` turns arguments into bytes and back,
    `args_type` is the msgspec.Struct made from the signature (or the model that the handler takes, `takes_model`),
    `timeout_s` the time that one attempt may take.
    `is_bare` says that its coroutine takes the fields of the arguments and nothing else, in this process.
    `is_isolated` says that it runs in a process of its own, `version` is what its statuses say of the code that ran
    (None: they say nothing).
    """

    app: App
    type: str
    queue: str
    handler: Callable[P, R]
    retry: Retry
    timeout_s: float
    takes_context: bool
    is_async: bool
    args_type: ArgumentsType
    codec: ArgumentCodec
    args_schema: Mapping[str, Any] = field(repr=False)
    is_isolated: bool = False
    version: int | str | None = None
    unique: Unique | None = None
    breaker: Breaker | None = None
    limits: tuple[Limit, ...] = ()
    takes_model: bool = False
    is_bare: bool = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, without any queue."""
        return self.handler(*args, **kwargs)

    def invoke(self, ctx: JobContext, arguments: Any) -> R:
        """Run the function with decoded arguments; the coroutine of an async handler."""
        handler: Callable[..., R] = self.handler
        if self.takes_model:
            return handler(ctx, arguments) if self.takes_context else handler(arguments)
        if self.takes_context:
            return handler(ctx, **msgspec.structs.asdict(arguments))
        return handler(**msgspec.structs.asdict(arguments))

    async def send(self, model: Any = None, /, *, tenant: str | None = None, **arguments: Any) -> JobHandle:
        """Put one job on the log; returns once it is durable there (acks=all).

        Where the handler takes a model, an instance of it may be given instead of its fields.
        Raises InvalidArguments (field named, nothing sent), JobTooLarge, BrokerUnreachable, SendFailed; where the job
        declares an Avro schema also RegistrationFailed and SchemaRefused.
        """
        job = self.prepare(model, tenant=tenant, **arguments)
        client = await self.app.client()
        return await client.send(job)

    def prepare(self, model: Any = None, /, *, tenant: str | None = None, **arguments: Any) -> PreparedJob:
        """The job without sending it, for `App.send_many`; InvalidArguments names the field that is wrong."""
        codec = self.codec
        return prepare_job(
            type=self.type,
            queue=self.queue,
            value=encoded(self, arguments if model is None else one_of(model, arguments)),
            content_type=codec.content_type,
            schema=codec.schema,
            source=self.app.name,
            now_ms=self.app.clock.time_ms(),
            tenant=tenant,
            spread=spread_of(self, self.app.queue_of(self)),
        )

    def with_(
        self,
        *,
        tenant: str | None = None,
        delay: Duration | None = None,
        run_at: datetime | None = None,
        expires: Duration | datetime | None = None,
        id: str | None = None,  # noqa: A002 - the word users know
        headers: Mapping[str, str | bytes] | None = None,
        idempotency_key: str | None = None,
        priority: str | None = None,
        spread: int | None = None,
    ) -> Sending[P, R]:
        """This job with options for one sending: `await job.with_(delay="10m").send(...)`.

        `delay` counts from the sending, `run_at` is an aware datetime (one of the two); `expires` is an aware datetime
        or a duration from the sending after which the job is not begun any more. `id` replaces the generated one.
        `headers` are your own Kafka headers. The same `idempotency_key` is the same job: sent again (same tenant, same
        arguments) it does not run again, and waiting for it gives the state of the first. `priority` is
        one of the queue's classes, `spread` the number of keys instead of the queue's (see Queue).
        """
        return Sending.of(
            self,
            tenant=tenant,
            delay=delay,
            run_at=run_at,
            expires=expires,
            job_id=id,
            headers=_headers(headers) if headers is not None else {},
            idempotency_key=idempotency_key,
            priority=priority,
            spread=spread,
        )

    def describe(self) -> dict[str, Any]:
        """What other processes may know of this job, as plain JSON values (the value stored in `jobs.control`)."""
        queue = self.app.queues[self.queue]
        return {
            "app": self.app.name,
            "group": self.app.group,
            "type": self.type,
            "queue": self.queue,
            "is_default": queue.default_type == self.type,
            "version": 1 if self.version is None else self.version,
            "isolation": "process" if self.is_isolated else None,
            "args_schema": dict(self.args_schema),
            "retry": self.retry.describe(),
            "timeout": format_duration(self.timeout_s),
            "order": queue.order,
            "priorities": dict(queue.priorities),
            "default_priority": queue.default_priority,
            "spread": queue.spread if self.unique is None else 1,
            "queue_limits": [limit.describe() for limit in queue.limits],
            "limits": [limit.describe() for limit in self.limits],
            "unique": None if self.unique is None else self.unique.describe(),
            "breaker": None if self.breaker is None else self.breaker.describe(),
        }


def define_job(
    app: App,
    handler: Callable[P, R],
    *,
    type_: str,
    queue: str,
    retry: Retry,
    timeout: Duration,
    isolation: str | None = None,
    version: int | str | None = None,
    unique: Unique | None = None,
    limits: Iterable[Limit] = (),
    breaker: Breaker | None = None,
    arguments: Arguments = None,
) -> JobDefinition[P, R]:
    """Build the definition of a handler; InvalidDefinition says what about it cannot work."""
    where = f"Job {check_type(type_)!r} ({getattr(handler, '__qualname__', handler)!s})"
    timeout_s = parse_duration(timeout)
    if timeout_s <= 0:
        raise InvalidDefinition(f"{where}: timeout must be more than 0")
    if not isinstance(retry, Retry):
        raise InvalidDefinition(f"{where}: retry={retry!r} is not a Retry(...)")
    if unique is not None and not isinstance(unique, Unique):
        raise InvalidDefinition(f"{where}: unique={unique!r} is not a Unique(...)")
    if breaker is not None and not isinstance(breaker, Breaker):
        raise InvalidDefinition(f"{where}: breaker={breaker!r} is not a Breaker(...)")
    if isolation is not None and isolation not in ISOLATIONS:
        raise InvalidDefinition(f"{where}: isolation {isolation!r} is not one of {', '.join(ISOLATIONS)}")
    if not callable(handler) or inspect.isclass(handler) or not hasattr(handler, "__name__"):
        raise InvalidDefinition(f"{where}: a handler is a function")
    if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
        raise InvalidDefinition(f"{where}: a handler returns its result; generators are not handlers")
    parameters = list(inspect.signature(handler).parameters.values())
    if parameters and parameters[0].name == "self":
        raise InvalidDefinition(f"{where}: its first parameter is `self`, and a handler is a function, not a method")
    hints = _hints(handler, where)
    takes_context = _takes_context(parameters, hints)
    declared = declare_arguments(
        handler,
        parameters[1:] if takes_context else parameters,
        hints,
        arguments,
        where=where,
        type_=type_,
        queue=queue,
    )
    if unique is not None:
        unique.check_fields(declared.codec.names, where)
    checked_limits = check_limits(limits)
    check_arguments(checked_limits, declared.codec.names, where)
    is_async = inspect.iscoroutinefunction(handler)
    return JobDefinition(
        app=app,
        type=type_,
        queue=check_queue(queue),
        handler=handler,
        retry=retry,
        timeout_s=timeout_s,
        breaker=None if breaker is None else breaker.named(type_),
        takes_context=takes_context,
        is_async=is_async,
        args_type=declared.type,
        codec=declared.codec,
        args_schema=declared.schema,
        takes_model=declared.is_model,
        is_bare=is_async and not (takes_context or declared.is_model or isolation is not None),
        is_isolated=isolation is not None,
        version=_version(version, where),
        unique=unique,
        limits=checked_limits,
    )


def _version(version: int | str | None, where: str) -> int | str | None:
    is_number = isinstance(version, int) and not isinstance(version, bool)
    is_text = isinstance(version, str) and 0 < len(version) <= MAX_VERSION_CHARS and version.isprintable()
    if version is None or is_number or is_text:
        return version
    raise InvalidDefinition(f"{where}: version={version!r} is no number and no text of 1 to {MAX_VERSION_CHARS}")


def _check_weight(weight: object, what: str) -> None:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise InvalidDefinition(f"{what}: weight {weight!r} is not a number from {MIN_WEIGHT:g} to {MAX_WEIGHT:g}")


def _headers(given: object) -> Mapping[str, str | bytes]:
    if not isinstance(given, Mapping):
        raise InvalidArguments(f"headers={given!r:.100} is not a mapping of names to text or bytes", field="headers")
    return given


def check_type(name: str) -> str:
    """A job type itself, or InvalidDefinition."""
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_TYPE_CHARS or not name.isprintable():
        raise InvalidDefinition(f"Job type {name!r} is not 1 to {MAX_TYPE_CHARS} printable characters")
    return name


def _hints(handler: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(handler, include_extras=True)
    except Exception as error:  # evaluating annotations runs the user's code: anything may come out
        raise InvalidDefinition(f"{where}: its annotations cannot be evaluated: {error!r}") from None


def _takes_context(parameters: list[inspect.Parameter], hints: dict[str, Any]) -> bool:
    if not parameters:
        return False
    first = parameters[0]
    return first.name == CONTEXT_NAME or hints.get(first.name) is JobContext
