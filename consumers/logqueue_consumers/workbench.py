"""What a worker and a replay share: topics, schema, producer, engine, and the order of start and end. Shell."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from logqueue.clock import Clock, SystemClock
from logqueue.errors import LogqueueError
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import new_reader
from logqueue.jobs.errors import InvalidSetting
from logqueue.jobs.schema_rules import job_subject
from logqueue.jobs.schema_source import Registry, open_registry, register_declared
from logqueue.jobs.settings import AT_LEAST_ONCE, DEFAULT_PROCESSING, EXACTLY_ONCE, Settings
from logqueue.jobs.topics import TopicKind, TopicSpec
from logqueue_consumers.calm_garbage import calm_garbage_collector
from logqueue_consumers.commits.offset_reader import OffsetReader
from logqueue_consumers.control.breaker_gate import BreakerGate, breakers_of
from logqueue_consumers.control.job_control import JobControl
from logqueue_consumers.control.step_store import StepStore
from logqueue_consumers.control.tail import ControlTail
from logqueue_consumers.engine import JobEngine
from logqueue_consumers.intake.job_reader import JobReader
from logqueue_consumers.limits import MAX_CONCURRENCY, WorkerLimits
from logqueue_consumers.outcome import LiveRules, ShadowRules
from logqueue_consumers.running.context_services import ServiceDesk
from logqueue_consumers.status.moved import MovedRecords
from logqueue_consumers.status.records import StatusRecords
from logqueue_consumers.status.tail import StatusTail
from logqueue_consumers.topics.partition_counts import TopicPartitions
from logqueue_consumers.writing.at_least_once import AtLeastOnce
from logqueue_consumers.writing.batch_producer import BatchProducer
from logqueue_consumers.writing.outbox import Outbox
from logqueue_consumers.writing.outgoing import Outgoing, Refusal
from logqueue_consumers.writing.pending import Delivery

if TYPE_CHECKING:
    from logqueue_schemas.job_status import JobStatus

    from logqueue.jobs.app import App
    from logqueue_consumers.job import Job
    from logqueue_consumers.membership.group_member import GroupMember
    from logqueue_consumers.transactions.exactly_once import ExactlyOnce

log = structlog.get_logger(__name__)

MOVED_TO = frozenset({TopicKind.RETRY, TopicKind.DLQ, TopicKind.PARKED, TopicKind.SCHEDULES})


class Workbench:
    """One engine of an app's jobs in one group, with its connections."""

    def __init__(
        self,
        app: App,
        *,
        group: str,
        rules: LiveRules | ShadowRules,
        settings: Settings,
        limits: WorkerLimits,
        processing: str | None = AT_LEAST_ONCE,
        instance_id: str | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        app.check()
        self.app = app
        self.group = group
        self.settings = settings
        self.limits = limits
        self.clock = clock if clock is not None else SystemClock()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.offsets = OffsetReader(
            settings, max_backoff_s=limits.max_backoff_s, transaction_timeout_ms=limits.transaction_timeout_ms
        )
        self._processing = processing
        self._instance_id = instance_id
        self.transactions: ExactlyOnce | None = None
        """Set in exactly-once mode."""
        self.partitions = TopicPartitions(settings, app.partitions_of)
        self._rules = rules
        self._random = random if random is not None else Random()
        self._producer = BatchProducer(settings, batch_bytes=limits.batch_bytes, max_backoff_s=limits.max_backoff_s)
        self.engine: JobEngine | None = None
        self.encode_status: Callable[[JobStatus], bytes] | None = None
        self.tail: StatusTail | None = None
        self.control: ControlTail | None = None
        """What operators want; None in a shadow run."""
        self.breakers: BreakerGate | None = None
        self.replayed_effect: Callable[[Job, str], Any] | None = None
        """What an effect answers in a replay."""
        self._schema_ids: dict[tuple[str, str], int] = {}  # by queue and type
        self.companions: list[Callable[[], Coroutine[Any, Any, None]]] = []
        """What runs beside the engine from its start to its end; an error of one ends the worker."""

    async def prepare(self, specs: Iterable[TopicSpec], announcements: Iterable[Outgoing] = ()) -> JobEngine:
        """Everything that must be there before the first record is taken; `announcements` are written at once."""
        wanted = list(specs)
        self.partitions.add(await ensure_topics(self.settings, wanted))
        registry = open_registry(self.settings)
        codec = await registry.status_codec()
        await self._register_schemas(registry)
        self.encode_status = codec.encode
        await self._producer.start()
        await self._producer.send(list(announcements))
        status = self.settings.topics.status
        count = self.partitions.count(status)
        records = StatusRecords(
            codec,
            self.partitions,
            group=self.group,
            is_shadow=self._rules.is_shadow,
            status_topic=status,
            worker=self.name,
        )
        reader = JobReader(self.app, self.group, avro=registry.decoder_of)
        self.tail = StatusTail(
            self.settings,
            codec,
            group=self.group,
            partitions=count,
            moved=MovedRecords(reader, records, self.settings.topics, group=self.group),
            moved_to=self._moved_to(wanted),
        )
        delivery = await self._open_delivery(records)
        linger_s = self.limits.busy_linger_s if self.transactions is None else self.limits.transaction_linger_s
        self.engine = JobEngine(
            reader=reader,
            rules=self._rules,
            limits=self.limits,
            clock=self.clock,
            random=self._random,
            group=self.group,
            refresh_schemas=lambda: self._refresh(registry),
            make_outbox=lambda on_durable: Outbox(
                delivery, limits=self.limits, busy_linger_s=linger_s, on_durable=on_durable
            ),
        )
        await self._attend(self.engine)
        return self.engine

    def _moved_to(self, specs: Iterable[TopicSpec]) -> list[TopicPartition]:
        """Where records of this group move to."""
        roles = {spec.name: self.settings.topics.role(spec.name) for spec in specs}
        topics = [name for name, role in roles.items() if role is not None and role.kind in MOVED_TO]
        return [TopicPartition(name, number) for name in topics for number in range(self.partitions.count(name))]

    async def _register_schemas(self, registry: Registry) -> None:
        """The schemas that jobs declare; SchemaRefused, RegistrationFailed for one that may not read all older jobs."""
        for job in self.app.jobs.values():
            if (schema := job.codec.schema) is not None:
                subject = job_subject(self.settings.topics, queue=job.queue, type_=job.type)
                registration = await register_declared(registry, subject, schema.value)
                self._schema_ids[schema.key] = registration.id

    async def _open_delivery(self, records: StatusRecords) -> Delivery:
        wanted = self._processing if self._processing is not None else DEFAULT_PROCESSING
        if wanted == EXACTLY_ONCE:
            from logqueue_consumers.transactions.opening import open_transactions

            self.transactions = await open_transactions(
                self.settings,
                records,
                self.partitions,
                group=self.group,
                instance_id=self._instance_id,
                is_required=self._processing is not None,
                limits=self.limits,
                clock=SystemClock(),  # the log's patience with a transaction is real time, whatever the jobs' is
            )
        if self.transactions is not None:
            self.offsets.own_id = self.transactions.transactional_id
        return self.transactions or AtLeastOnce(self._producer, records, self.partitions)

    async def _attend(self, engine: JobEngine) -> None:
        """Give handlers their services, and operators the engine (a shadow run keeps no steps and obeys nobody)."""
        is_live = not self._rules.is_shadow
        steps = StepStore(self.settings, self._producer, group=self.group) if is_live else None
        desk = ServiceDesk(engine.outbox, self.clock, steps=steps, settings=self.settings)
        desk.schema_ids = self._schema_ids
        desk.replayed_effect = self.replayed_effect
        engine.serve(desk.of)
        engine.durable_hooks.append(desk.on_durable)
        self.companions.append(desk.run)
        self.breakers = BreakerGate(engine, breakers_of(self.app.jobs.values()), self.clock)
        if is_live:
            self.control = control = ControlTail(self.settings)
            await control.start()
            JobControl(engine, control, topic=self.settings.topics.control, clock=self.clock)
            self.companions.append(control.run)

    async def _refresh(self, registry: Registry) -> None:
        """Read the schema topic to its end; tries until the log answers."""
        backoff_s = 0.1
        while True:
            try:
                await registry.refresh()
            except (KafkaError, LogqueueError, TimeoutError) as error:
                log.warning("schemas not read", error=repr(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(self.limits.max_backoff_s, backoff_s * 2)
            else:
                return

    async def write(self, records: list[Outgoing]) -> list[Refusal]:
        """Write records that belong to nothing else and wait until they are durable; returns those refused."""
        return await self._producer.send(records)

    def unwritten_since_ms(self) -> int:
        """No outcome that is not durable yet is older, as far as the outbox has it."""
        oldest_us = self.engine.outbox.oldest_us() if self.engine is not None else None
        return self.clock.time_ms() if oldest_us is None else oldest_us // 1000

    def status_ends(self) -> list[int | None]:
        """Per partition of the status topic: below which offset everything this process wrote is acknowledged."""
        status = self.settings.topics.status
        return [self._producer.end_of(status, number) for number in range(self.partitions.count(status))]

    async def work(self, member: GroupMember, stopping: asyncio.Event) -> None:
        """Run the engine beside the member until `stopping`, then drain."""
        engine = self.engine
        assert engine is not None, "prepare() comes first"
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(work)
                for work in (
                    engine.run(),
                    member.commit_regularly(),
                    member.name_jobs(),
                    *(companion() for companion in self.companions),
                )
            ]
            stopped = asyncio.ensure_future(stopping.wait())
            stopped.add_done_callback(lambda _: member.stop_intake())
            try:
                await member.run(stopping)
                log.info("stopping", group=self.group, running=engine.running_count)
                await member.stop(drain_timeout_s=self.limits.drain_timeout_s)
            finally:
                stopped.cancel()
                for task in running:
                    task.cancel()

    def make_consumer(self, **options: Any) -> AIOKafkaConsumer:
        """A consumer of the group that never commits by itself: an expired or lost commit finds the jobs."""
        limits = self.limits
        return new_reader(
            self.settings,
            group_id=self.group,
            fetch_max_wait_ms=limits.fetch_wait_ms,
            fetch_max_bytes=limits.fetch_bytes,
            max_partition_fetch_bytes=limits.partition_fetch_bytes,
            **options,
        )

    async def stop(self) -> None:
        """Close the connections, each whatever becomes of the others."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._producer.stop)
            if self.transactions is not None:
                stack.push_async_callback(self.transactions.stop)
            stack.push_async_callback(self.offsets.stop)
            if self.control is not None:
                stack.push_async_callback(self.control.stop)


def bounded(
    limits: WorkerLimits | None, *, concurrency: int | None = None, drain_timeout: float | None = None
) -> WorkerLimits:
    """Limits with what a person asked for; InvalidSetting says what is out of bounds."""
    bounds = limits if limits is not None else WorkerLimits()
    if concurrency is not None:
        if not 1 <= concurrency <= MAX_CONCURRENCY:
            raise InvalidSetting(f"concurrency {concurrency} is not 1 to {MAX_CONCURRENCY}")
        bounds = replace(
            bounds,
            concurrency=concurrency,
            # What runs is in hand: many slow jobs at once, maybe all of one partition, need more room than quick ones.
            max_unfinished=max(bounds.max_unfinished, 2 * concurrency),
            max_unfinished_per_partition=max(bounds.max_unfinished_per_partition, concurrency),
        )
    if drain_timeout is not None:
        if drain_timeout < 0:
            raise InvalidSetting(f"drain timeout {drain_timeout} is negative")
        bounds = replace(bounds, drain_timeout_s=drain_timeout)
    return bounds


async def unless(stopping: asyncio.Event, preparation: Coroutine[Any, Any, Any]) -> bool:
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
            # A client that is cancelled while it connects may end with an error of its own, which asyncio would print
            # with a traceback if nobody asked for it.
            if not preparing.cancelled() and (error := preparing.exception()) is not None:
                log.info("the start was cut short", reason=str(error) or type(error).__name__)


@contextmanager
def stop_on_signals(
    stop: asyncio.Event | None, hurry: asyncio.Event | None
) -> Iterator[tuple[asyncio.Event, asyncio.Event]]:
    """The events that end a run: the caller's, or else the first SIGTERM or SIGINT and the second."""
    hurrying = hurry if hurry is not None else asyncio.Event()
    if stop is not None:
        yield stop, hurrying
        return
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            hurrying.set()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        with calm_garbage_collector():  # whoever leaves signals to us leaves us the process
            yield stopping, hurrying
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
