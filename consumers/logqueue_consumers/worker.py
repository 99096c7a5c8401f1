"""A worker process: connects an app's handlers with the log, from start to the last commit. Shell.

    await run_worker(app, settings=settings)          # until SIGTERM or Ctrl-C

Order of a start: topics, schema, producer, definitions of the jobs, then membership in the group. Order of a stop: no
more records, running jobs drain, outcomes, commit, leave the group, producer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import structlog
from aiokafka import AIOKafkaConsumer

from logqueue.clock import Clock, SystemClock
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.errors import InvalidSetting
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicRole
from logqueue_consumers.batch_producer import BatchProducer
from logqueue_consumers.definitions import definition_records
from logqueue_consumers.engine import JobEngine
from logqueue_consumers.group_member import GroupMember
from logqueue_consumers.job_reader import JobReader
from logqueue_consumers.limits import MAX_CONCURRENCY, WorkerLimits
from logqueue_consumers.metrics import Counts, WorkerMetrics
from logqueue_consumers.offset_reader import OffsetReader
from logqueue_consumers.outbox import Outbox
from logqueue_consumers.outcome import LiveRules
from logqueue_consumers.sticky_assignor import StickyAssignor

if TYPE_CHECKING:
    from logqueue.jobs.app import App

log = structlog.get_logger(__name__)


async def run_worker(
    app: App,
    *,
    settings: Settings | None = None,
    queues: Iterable[str] | None = None,
    concurrency: int | None = None,
    drain_timeout: float | None = None,
    stop: asyncio.Event | None = None,
    hurry: asyncio.Event | None = None,
    instance_id: str | None = None,
    on_ready: Callable[[Worker], None] | None = None,
    limits: WorkerLimits | None = None,
) -> WorkerMetrics:
    """Run the app's jobs until `stop` is set, by default by SIGTERM or SIGINT; returns what was done.

    `queues` are those to work on (default: all of the app). `drain_timeout` is in seconds: jobs still running then go
    back with their attempt unchanged; `hurry` (a second signal) ends the wait at once. `instance_id` makes the worker
    a static member of the group: restarted under the same id it takes over its partitions at once. `on_ready` is
    called when the worker has its partitions for the first time.

    Raises InvalidSetting, InvalidDefinition, BrokerUnreachable, TopicsNotCreated, RegistrationFailed.
    """
    bounds = limits if limits is not None else WorkerLimits()
    if concurrency is not None:
        if not 1 <= concurrency <= MAX_CONCURRENCY:
            raise InvalidSetting(f"concurrency {concurrency} is not 1 to {MAX_CONCURRENCY}")
        bounds = replace(bounds, concurrency=concurrency)
    if drain_timeout is not None:
        if drain_timeout < 0:
            raise InvalidSetting(f"drain timeout {drain_timeout} is negative")
        bounds = replace(bounds, drain_timeout_s=drain_timeout)
    worker = Worker(
        app,
        settings=settings if settings is not None else app.settings,
        queues=queues,
        limits=bounds,
        instance_id=instance_id,
        on_ready=on_ready,
    )
    stopping = stop if stop is not None else asyncio.Event()
    hurrying = hurry if hurry is not None else asyncio.Event()
    with _signals(stopping, hurrying) if stop is None else _no_signals():
        await worker.run(stopping, hurrying)
    return worker.metrics()


class Worker:
    """One member of an app's consumer group."""

    def __init__(
        self,
        app: App,
        *,
        settings: Settings,
        queues: Iterable[str] | None = None,
        limits: WorkerLimits | None = None,
        instance_id: str | None = None,
        on_ready: Callable[[Worker], None] | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        app.check()
        self._app = app
        self._settings = settings
        self._limits = limits if limits is not None else WorkerLimits()
        self._queues = _checked_queues(app, queues)
        self._instance_id = instance_id
        self._on_ready = on_ready
        self._clock = clock if clock is not None else SystemClock()
        self._random = random if random is not None else Random()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._engine: JobEngine | None = None
        self._member: GroupMember | None = None

    async def run(self, stopping: asyncio.Event, hurry: asyncio.Event) -> None:
        """Work until `stopping`, then drain; `hurry` cuts the draining short."""
        settings, limits = self._settings, self._limits
        producer = BatchProducer(settings, batch_bytes=limits.batch_bytes, max_backoff_s=limits.max_backoff_s)
        offsets = OffsetReader(settings, max_backoff_s=limits.max_backoff_s)
        try:
            if await _unless(stopping, self._prepare(producer, offsets)):
                await self._work(stopping, hurry)
        finally:
            await offsets.stop()
            await producer.stop()

    def metrics(self) -> WorkerMetrics:
        """The worker now (or at its end)."""
        engine, member = self._engine, self._member
        counts = engine.counts if engine is not None else Counts()
        return WorkerMetrics(
            group=self._app.group,
            worker=self.name,
            partitions=len(member.partitions) if member is not None else 0,
            succeeded=counts.succeeded,
            dead=counts.dead,
            parked=counts.parked,
            expired=counts.expired,
            retried=counts.retried,
            interrupted=counts.interrupted,
            running=engine.running_count if engine is not None else 0,
            ready=engine.ready_count if engine is not None else 0,
            delayed=engine.delayed_count if engine is not None else 0,
            unfinished=engine.unfinished_count if engine is not None else 0,
            lag=member.lag() if member is not None else 0,
        )

    async def _prepare(self, producer: BatchProducer, offsets: OffsetReader) -> None:
        """Everything that must be there before the first record is taken."""
        app, names, group = self._app, self._settings.topics, self._app.group
        specs = [*names.shared_specs()]
        for queue in self._queues:
            specs.append(names.jobs_spec(queue, partitions=app.queues[queue].partitions))
            specs.extend(names.group_specs(queue, group))
        await ensure_topics(self._settings, specs)
        registry = SchemaRegistry(self._settings)
        codec = await registry.status_codec()
        await producer.start()
        await producer.learn_partitions(*(spec.name for spec in specs))
        await producer.send(definition_records(app, names, self._clock.time_ms()))
        self._engine = JobEngine(
            reader=JobReader(app, group, avro=registry.decoder_of),
            rules=LiveRules(names, group),
            limits=self._limits,
            clock=self._clock,
            random=self._random,
            group=group,
            make_outbox=lambda on_durable: Outbox(
                producer,
                codec,
                group=group,
                is_shadow=False,
                status_topic=names.status,
                worker=self.name,
                limits=self._limits,
                on_durable=on_durable,
            ),
        )
        self._member = GroupMember(
            self._engine,
            self._make_consumer,
            offsets,
            group=group,
            topics=self._topics(),
            orders={name: app.queues[name].order for name in self._queues},
            limits=self._limits,
            on_ready=self._became_ready,
        )

    async def _work(self, stopping: asyncio.Event, hurry: asyncio.Event) -> None:
        engine, member = self._engine, self._member
        assert engine is not None and member is not None, "prepared before"
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(engine.run()), tasks.create_task(member.commit_regularly())]
            stopped = asyncio.ensure_future(stopping.wait())
            stopped.add_done_callback(lambda _: member.hurry())
            try:
                await member.run(stopping)
                log.info("worker stops", group=self._app.group, running=engine.running_count)
                await member.stop(drain_timeout_s=self._limits.drain_timeout_s, hurry=hurry)
            finally:
                stopped.cancel()
                for task in running:
                    task.cancel()

    def _topics(self) -> dict[str, TopicRole]:
        names, group = self._settings.topics, self._app.group
        roles = {}
        for queue in self._queues:
            for topic in (names.jobs(queue), names.retry(queue, group), names.parked(queue, group)):
                role = names.role(topic)
                assert role is not None, "our own names are recognised"
                roles[topic] = role
        return roles

    def _make_consumer(self) -> AIOKafkaConsumer:
        limits = self._limits
        return AIOKafkaConsumer(
            **self._settings.connection(),
            group_id=self._app.group,
            group_instance_id=self._instance_id,
            enable_auto_commit=False,
            # An expired or lost commit must find the jobs, not skip them.
            auto_offset_reset="earliest",
            partition_assignment_strategy=(StickyAssignor(),),
            session_timeout_ms=limits.session_timeout_ms,
            heartbeat_interval_ms=limits.heartbeat_interval_ms,
            rebalance_timeout_ms=limits.rebalance_timeout_ms,
            fetch_max_wait_ms=limits.fetch_wait_ms,
            fetch_max_bytes=limits.fetch_bytes,
            max_partition_fetch_bytes=limits.partition_fetch_bytes,
        )

    def _became_ready(self) -> None:
        on_ready, self._on_ready = self._on_ready, None
        if on_ready is not None:
            on_ready(self)


def _checked_queues(app: App, queues: Iterable[str] | None) -> list[str]:
    names = list(app.queues) if queues is None else list(dict.fromkeys(queues))
    unknown = [name for name in names if name not in app.queues]
    if unknown:
        known = ", ".join(sorted(app.queues)) or "none"
        raise InvalidSetting(f"App {app.name!r} has no queue {unknown[0]!r}; its queues are: {known}")
    if not names:
        raise InvalidSetting(f"App {app.name!r} declares no job: there is nothing to work on")
    return names


async def _unless(stopping: asyncio.Event, preparation: Coroutine[None, None, None]) -> bool:
    """Run the preparation; false (and it is cancelled) when `stopping` comes first."""
    preparing = asyncio.ensure_future(preparation)
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((preparing, stopped), return_when=asyncio.FIRST_COMPLETED)
        if preparing.done():
            preparing.result()
            return True
        return False
    finally:
        stopped.cancel()
        if not preparing.done():
            preparing.cancel()
            await asyncio.wait((preparing,))


@contextmanager
def _signals(stopping: asyncio.Event, hurry: asyncio.Event) -> Iterator[None]:
    """The first SIGTERM or SIGINT stops, the second hurries."""

    def on_signal() -> None:
        if stopping.is_set():
            hurry.set()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextmanager
def _no_signals() -> Iterator[None]:
    yield
