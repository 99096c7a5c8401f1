"""The app: where jobs and queues are declared, and the door to sending and waiting."""

from __future__ import annotations

import asyncio
import builtins
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Never, ParamSpec, Self, TypeVar

from logqueue.clock import Clock, SystemClock
from logqueue.jobs.definition import (
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    DEFAULT_TIMEOUT_S,
    JobDefinition,
    Queue,
    define_job,
)
from logqueue.jobs.durations import Duration
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition, InvalidSetting, UnknownJobType, UnknownQueue
from logqueue.jobs.limits import Limit, check_limits
from logqueue.jobs.partitioning import DEFAULT_TENANT
from logqueue.jobs.retry import Retry
from logqueue.jobs.settings import PROCESSINGS, Settings, load_settings
from logqueue.jobs.topics import JOBS_PARTITIONS, TopicSpec, check_group, unique_specs
from logqueue.jobs.unique import Unique

if TYPE_CHECKING:
    from logqueue.jobs.breaker import Breaker
    from logqueue.jobs.client import JobClient
    from logqueue.jobs.flow_client import FlowClient
    from logqueue.jobs.flows import Workflow
    from logqueue.jobs.handle import JobHandle
    from logqueue.jobs.schedules import Schedule
    from logqueue.jobs.sending import PreparedJob

P = ParamSpec("P")
R = TypeVar("R")


class App:
    """A named set of jobs that one consumer group runs.

        app = App("shop")

        @app.job("email.send", queue="emails", retry=Retry(attempts=6, first="1s", cap="10m"), timeout="5m")
        async def send_email(ctx, *, to: str, body: str) -> dict: ...

        async with app:
            job = await send_email.send(tenant="acme", to="a@b.c", body="hi")
            state = await job.wait(timeout=30)

    `group` is the consumer group of its workers (default: the name). `settings` default to `LOGQUEUE_*` and
    `logqueue.toml`, read when the app first needs the log. The connection is opened by the first send and belongs to
    the event loop that made it; `async with app` or `await app.close()` ends it. `processing` is "exactly_once"
    (outcome, follow-up jobs and committed offset in one transaction) or "at_least_once"; it comes before the setting.
    """

    def __init__(
        self,
        name: str,
        *,
        group: str | None = None,
        processing: str | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = check_group(name)
        self.group = check_group(group) if group is not None else self.name
        self.clock: Clock = clock if clock is not None else SystemClock()
        if processing is not None and processing not in PROCESSINGS:
            raise InvalidDefinition(f"App {name!r}: processing {processing!r} is not one of {', '.join(PROCESSINGS)}")
        self.processing = processing
        self._settings = settings
        self._jobs: dict[str, JobDefinition[..., Any]] = {}
        self._queues: dict[str, Queue] = {}
        self._schedules: dict[str, Schedule] = {}
        self._client: JobClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def jobs(self) -> Mapping[str, JobDefinition[..., Any]]:
        """The jobs by type."""
        return MappingProxyType(self._jobs)

    @property
    def queues(self) -> Mapping[str, Queue]:
        """The queues by name: those declared, and those that jobs name."""
        return MappingProxyType(self._queues)

    def queue_of(self, job: JobDefinition[..., Any]) -> Queue:
        """The queue of one of the app's jobs."""
        return self._queues[job.queue]

    @property
    def settings(self) -> Settings:
        """Where the log is; read from environment and file at the first use unless given."""
        if self._settings is None:
            self._settings = load_settings()
        return self._settings

    def configure(self, settings: Settings) -> None:
        """Replace the settings; only before the app has connected."""
        if self._client is not None:
            raise InvalidDefinition(f"App {self.name!r} is connected already: configure it before it sends")
        self._settings = settings

    @contextmanager
    def placed_on(self, settings: Settings, *, group: str, clock: Clock, has_schedules: bool = True) -> Iterator[None]:
        """For a while the app belongs to another log, group and time: for tests of the app that runs elsewhere."""
        before = self._settings, self.group, self.clock, self._client, self._loop
        self._settings, self.group, self.clock, self._client, self._loop = settings, group, clock, None, None
        schedules, self._schedules = self._schedules, self._schedules if has_schedules else {}
        try:
            yield
        finally:
            self._settings, self.group, self.clock, self._client, self._loop = before
            self._schedules = schedules

    def queue(
        self,
        name: str,
        *,
        order: str = "tenant",
        default_type: str | None = None,
        partitions: int = JOBS_PARTITIONS,
        priorities: Mapping[str, float] | None = None,
        default_priority: str = DEFAULT_PRIORITY,
        limits: Iterable[Limit] = (),
        weights: Mapping[str, float] | None = None,
        fair: bool = True,
        spread: int = 1,
    ) -> Queue:
        """Declare a queue that is not as the defaults have it; see `Queue`. Once per name."""
        if name in self._queues and self._queues[name] != Queue(name=name):
            raise InvalidDefinition(f"Queue {name!r} is declared twice in app {self.name!r}")
        declared = Queue(
            name=name,
            order=order,
            default_type=default_type,
            partitions=partitions,
            priorities=_mapping(priorities, "priorities", name),
            default_priority=default_priority,
            limits=check_limits(limits),
            weights=_mapping(weights, "weights", name),
            fair=fair,
            spread=spread,
        )
        self._queues[name] = declared
        return declared

    def job(
        self,
        type: str,  # noqa: A002 - CloudEvents' word
        *,
        queue: str = DEFAULT_QUEUE,
        retry: Retry | None = None,
        timeout: Duration = DEFAULT_TIMEOUT_S,
        isolation: str | None = None,
        version: int | str | None = None,
        unique: Unique | None = None,
        limits: Iterable[Limit] = (),
        breaker: Breaker | None = None,
        arguments: builtins.type[Any] | str | Path | None = None,
        **elsewhere: Never,
    ) -> Callable[[Callable[P, R]], JobDefinition[P, R]]:
        """Declare the decorated function (async or plain) as the handler of a job type.

        Its keyword parameters are the job's arguments and their annotations are checked, when sending and before
        running. A first parameter called `ctx` (or annotated JobContext) is given the job's context.

        `isolation="process"` runs it in a process of its own from a bounded pool: for handlers that are CPU-bound, may
        crash, or must be stopped hard when their time is up (a thread cannot be). What that means: an async one is
        cancelled and killed 4 s later; a plain one has an exception raised in it and is killed 2 s later, where one
        that takes ctx sees `ctx.cancelled` for 2 s before that. The time to start a process does not count.

        `version` of the handler's code is kept with every status, so that a replay can ask for what ran under it.
        `unique` keeps one of equal jobs.
        `limits` bound what runs of this type, beside those of its queue. `breaker` pauses the type, and all that name
        the same breaker, while what they depend on fails.

        `arguments` is a pydantic or msgspec model that the handler takes as its one parameter (its annotation alone
        does too), or the name of an `.avsc` file beside the handler's, whose fields are its parameters: such jobs are
        sent as Avro, and their schema may only change so that all older jobs can be read.
        """

        if callable(type):
            raise InvalidDefinition('@app.job takes the job\'s type: @app.job("email.send")')
        for name in elsewhere:
            raise InvalidDefinition(f"Job {type!r}: @app.job takes no {name}={_belongs(name, queue)}")

        def register(handler: Callable[P, R]) -> JobDefinition[P, R]:
            if type in self._jobs:
                raise InvalidDefinition(f"Job type {type!r} is declared twice in app {self.name!r}")
            definition = define_job(
                self,
                handler,
                type_=type,
                queue=queue,
                retry=retry if retry is not None else Retry(),
                timeout=timeout,
                isolation=isolation,
                version=version,
                unique=unique,
                limits=limits,
                breaker=breaker,
                arguments=arguments,
            )
            self._jobs[type] = definition
            self._queues.setdefault(queue, Queue(name=queue))
            return definition

        return register

    def schedule(
        self,
        name: str,
        *,
        job: JobDefinition[..., Any],
        cron: str | None = None,
        every: Duration | None = None,
        tz: str = "UTC",
        tenant: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        missed: str = "latest",
        cap: int = 100,
        overlap: str = "allow",
        jitter: Duration = 0,
    ) -> Schedule:
        """Run a job again and again: `app.schedule("nightly", cron="0 3 * * *", tz="Europe/Berlin", job=clean_up)`.

        `cron` has five fields (six with seconds first), `every` is a duration counted from 1970. Workers publish the
        schedules at start; names are unique on the log. For `missed`, `cap`, `overlap` and `jitter` see `Schedule`. The
        handler finds the time of its run in `ctx.scheduled_at`. Raises InvalidDefinition, InvalidArguments.
        """
        from logqueue.jobs.prepared import check_definition
        from logqueue.jobs.schedules import new_schedule
        from logqueue.jobs.sending import check_tenant

        check_definition(job, f"Schedule {name!r}")
        if name in self._schedules:
            raise InvalidDefinition(f"Schedule {name!r} is declared twice in app {self.name!r}")
        given = dict(arguments or {})
        try:
            job.codec.encode(given)
        except InvalidArguments as error:
            raise InvalidArguments(f"Schedule {name!r}: its arguments: {error}", field=error.field) from None
        declared = self._schedules[name] = new_schedule(
            name,
            type=job.type,
            queue=job.queue,
            arguments=given,
            tenant=check_tenant(tenant) if tenant is not None else DEFAULT_TENANT,
            app=self.name,
            cron=cron,
            every=every,
            timezone=tz,
            missed=missed,
            cap=cap,
            overlap=overlap,
            jitter=jitter,
        )
        return declared

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """The schedules by name."""
        return MappingProxyType(self._schedules)

    def work_queues(self, names: Iterable[str] | None) -> list[str]:
        """The queues that a worker is to run, each once (None: all); UnknownQueue, or InvalidSetting for none."""
        chosen = list(self._queues) if names is None else list(dict.fromkeys(names))
        for name in chosen:
            if name not in self._queues:
                raise UnknownQueue(name, app=self.name, known=self._queues)
        if not chosen:
            raise InvalidSetting(f"App {self.name!r} declares no job: there is nothing to work on")
        return chosen

    def find(self, type_: str | None, *, queue: str) -> JobDefinition[..., Any]:
        """The handler of a record of `queue`; `type_` None means the queue's default type. UnknownJobType if none."""
        known = self._queues.get(queue)
        name = type_ if type_ is not None else (known.default_type if known is not None else None)
        definition = self._jobs.get(name) if name is not None else None
        if definition is None or definition.queue != queue:
            raise UnknownJobType(name, queue=queue)
        return definition

    def check(self) -> None:
        """Whether the declarations fit together; InvalidDefinition names the first that does not."""
        breakers: dict[str | None, Breaker] = {}
        for job in self._jobs.values():
            if job.breaker is not None and breakers.setdefault(job.breaker.name, job.breaker) != job.breaker:
                raise InvalidDefinition(f"Job {job.type!r}: its breaker {job.breaker.name!r} is another one elsewhere")
            self._check_dispatch(job)
        for queue in self._queues.values():
            default = queue.default_type
            if default is not None and (default not in self._jobs or self._jobs[default].queue != queue.name):
                raise InvalidDefinition(f"Queue {queue.name!r}: its default type {default!r} is no job of this queue")

    def _check_dispatch(self, job: JobDefinition[..., Any]) -> None:
        if job.unique is not None and self._queues[job.queue].spread > 1:
            raise InvalidDefinition(
                f"Job {job.type!r} is unique per tenant, and queue {job.queue!r} spreads a tenant over several owners"
            )
        for limit in job.limits:
            if limit.argument is not None and limit.argument not in job.codec.names:
                raise InvalidDefinition(f"Job {job.type!r} has no argument {limit.argument!r} to be limited by")

    def topic_specs(self, queues: Iterable[str] | None = None) -> list[TopicSpec]:
        """Every topic that the app (or some of its queues) needs."""
        names = self.settings.topics
        specs = names.shared_specs()
        for name in self._queues if queues is None else queues:
            queue = self._queues[name]
            for priority in (None, *queue.priority_topics):
                specs.append(names.jobs_spec(name, partitions=queue.partitions, priority=priority))
            specs.extend(names.group_specs(name, self.group, partitions=queue.partitions))
        return unique_specs(specs)

    def describe(self) -> list[dict[str, Any]]:
        """The descriptions of all jobs (see JobDefinition.describe)."""
        return [definition.describe() for definition in self._jobs.values()]

    async def client(self) -> JobClient:
        """The app's connection to the log in the running event loop, opened if there is none."""
        from logqueue.jobs.client import JobClient

        loop = asyncio.get_running_loop()
        self._check_loop()
        if self._client is not None and self._loop is not loop:
            self._client = None  # that loop is over
        if self._client is None:
            self._client, self._loop = (
                JobClient(self.settings, partitions_of=self.partitions_of, clock=self.clock),
                loop,
            )
        return self._client

    async def send_many(self, jobs: Iterable[PreparedJob]) -> list[JobHandle]:
        """Put many jobs on the log at once: `await app.send_many(job.prepare(tenant=t, n=n) for ...)`.

        Whole batches per partition instead of a request per job: about ten times the rate of single sends. Jobs of
        one tenant keep their order. Handles come in the order of the jobs. If a batch is refused, BulkSendFailed has
        the confirmed ones, which stay on the log.
        """
        client = await self.client()
        return await client.send_many(jobs)

    def workflow(self, name: str) -> Workflow:
        """A workflow to be built: `app.workflow("onboarding").add("a", job.prepare(...)).add("b", ..., after="a")`."""
        from logqueue.jobs.flows import Workflow

        return Workflow(self, name)

    async def flow_client(self) -> FlowClient:
        """Sends workflows and waits for them, over the app's connection."""
        from logqueue.jobs.flow_client import FlowClient

        return FlowClient(await self.client(), clock=self.clock)

    async def close(self) -> None:
        """Wait (bounded) for what is on its way, and end the connection. The app can be used again.

        InvalidDefinition in another event loop than the one that uses the app, unless that one is over.
        """
        self._check_loop()
        client, self._client = self._client, None
        if client is not None and not self._loop_is_over():
            await client.close()

    async def __aenter__(self) -> Self:
        await self.client()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def partitions_of(self, queue: str) -> int:
        """How many partitions the topic of a queue is created with."""
        declared = self._queues.get(queue)
        return declared.partitions if declared is not None else JOBS_PARTITIONS

    def _check_loop(self) -> None:
        if self._client is None or self._loop is asyncio.get_running_loop() or self._loop_is_over():
            return
        raise InvalidDefinition(f"App {self.name!r} is in use by another event loop: use one app per loop")

    def _loop_is_over(self) -> bool:
        return self._loop is None or self._loop.is_closed()

    def __repr__(self) -> str:
        return f"App({self.name!r}, group={self.group!r}, jobs={sorted(self._jobs)})"


def _belongs(option: str, queue: str) -> str:
    """Where an option goes that `App.job` does not take: to the queue, or to one sending."""
    from difflib import get_close_matches

    if option in inspect.signature(App.queue).parameters:
        return f": it belongs to the queue, app.queue({queue!r}, {option}=...)"
    if option in inspect.signature(JobDefinition.with_).parameters:
        return f": it belongs to a sending, job.with_({option}=...).send(...)"
    close = get_close_matches(option, inspect.signature(App.job).parameters, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}=?" if close else ""


def _mapping(given: Mapping[str, float] | None, what: str, queue: str) -> dict[str, float]:
    if given is not None and not isinstance(given, Mapping):
        raise InvalidDefinition(
            f'Queue {queue!r}: {what}={given!r} is not a mapping such as {{"high": 6, "normal": 3}}'
        )
    return dict(given or {})
