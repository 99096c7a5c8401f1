"""A worker under test on a real engine: topics of its own, a log to look at, a worker to start and stop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.metrics import WorkerMetrics
from logqueue_consumers.topics.listing import partition_counts
from logqueue_consumers.worker import Worker, run_worker
from logqueue_schemas.job_status import TERMINAL, JobStatus, StatusCodec

from logqueue import App
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import JOBS_PARTITIONS, STATUS_PARTITIONS
from tests.broker.wire import Wire
from tests.conftest import Engine
from tests.transactions.producing import until_ended

PATIENCE_S = 60.0
"""How long a hang takes to be called one: far above what a loaded machine needs."""
LOOK_EVERY_S = 0.05
PROCESSING = os.environ.get("LOGQUEUE_TEST_PROCESSING")
"""The whole room's tests in one of the two modes; by default in that of a new app."""
FAST = WorkerLimits(commit_interval_s=0.05, session_timeout_ms=6_000, heartbeat_interval_ms=200, revoke_grace_s=3.0)


def neighbours() -> tuple[str, str]:
    """Two tenants who share a partition of every topic of jobs and of their statuses."""
    one, *others = (f"tenant-{number}" for number in range(1_000))
    counts = (JOBS_PARTITIONS, STATUS_PARTITIONS)
    at = [partition_of(one.encode(), count) for count in counts]
    return one, next(name for name in others if [partition_of(name.encode(), count) for count in counts] == at)


@dataclass
class Log:
    """The log as others see it."""

    settings: Settings
    name: str
    codec: StatusCodec | None = field(default=None)

    def app(self) -> App:
        """A new app on this log; its group is unique to the test."""
        return App(self.name, settings=self.settings)

    async def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: list[tuple[str, bytes]] | None = None,
        partition: int | None = None,
    ) -> Any:
        """Write one record as any Kafka client would."""
        async with AIOKafkaProducer(bootstrap_servers=self.settings.bootstrap, acks="all") as producer:
            return await producer.send_and_wait(topic, value, key=key, headers=headers or [], partition=partition)

    async def read(self, topic: str) -> list[Any]:
        """Every record of a topic, partition by partition; those of ended transactions."""
        await self.settled()
        async with self._reading(topic) as reader:
            return await _up_to_the_end(reader)

    async def settled(self) -> None:
        """Wait until transactions that workers have ended are so in every partition: markers follow the answer."""

        def look() -> None:
            with Wire(self.settings.bootstrap) as wire:
                until_ended(wire, self.name)

        await asyncio.to_thread(look)

    @asynccontextmanager
    async def _reading(self, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
        """A reader of the whole topic, at its begin; without partitions where there is no such topic."""
        async with AIOKafkaConsumer(
            bootstrap_servers=self.settings.bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
        ) as reader:
            count = (await partition_counts(self.settings)).get(topic, 0)
            partitions = [TopicPartition(topic, n) for n in range(count)]
            reader.assign(partitions)
            for tp, begin in (await reader.beginning_offsets(partitions)).items():
                reader.seek(tp, begin)
            yield reader

    async def statuses(self) -> list[JobStatus]:
        """Every status record, in the order of the log."""
        codec = await self._codec()
        return [codec.decode(record.value) for record in await self.read(self.settings.topics.status)]

    async def _codec(self) -> StatusCodec:
        if self.codec is None:
            self.codec = await SchemaRegistry(self.settings).status_codec()
        return self.codec

    async def states(self, job_id: str) -> list[str]:
        """The states of one job in the order written."""
        return [str(status.state) for status in await self.statuses() if status.id == job_id]

    async def terminal(self, *, count: int) -> list[JobStatus]:
        """Wait until that many jobs are terminal; their terminal statuses."""
        topic = self.settings.topics.status
        async with asyncio.timeout(PATIENCE_S):
            codec = await self._codec()
            await until(lambda: partition_counts(self.settings), lambda found: topic in found)
            async with self._reading(topic) as reader:
                ended: dict[tuple[int, int], JobStatus] = {}
                keys: set[bytes] = set()
                while True:
                    for record in await _up_to_the_end(reader):
                        status = codec.decode(record.value)
                        if status.state in TERMINAL:
                            ended[record.partition, record.offset] = status
                            keys.add(status.key)
                    if len(keys) >= count:
                        return [ended[place] for place in sorted(ended)]
                    await asyncio.sleep(LOOK_EVERY_S)

    async def committed(self, group: str) -> dict[TopicPartition, tuple[int, str]]:
        """What a group has committed: offset and metadata; those of ended transactions count."""
        await self.settled()
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.bootstrap)
        await admin.start()
        try:
            found = await admin.list_consumer_group_offsets(group)
            return {tp: (at.offset, at.metadata) for tp, at in found.items() if at.offset >= 0}
        finally:
            await admin.close()

    async def done(self, group: str, queue: str) -> int:
        """Sum of the committed offsets of a queue's job topic."""
        topic = self.settings.topics.jobs(queue)
        return sum(offset for tp, (offset, _) in (await self.committed(group)).items() if tp.topic == topic)


async def _up_to_the_end(reader: AIOKafkaConsumer) -> list[Any]:
    """What follows of all its partitions, up to where they end now, partition by partition."""
    records: list[Any] = []
    ends = await reader.end_offsets(reader.assignment())
    while any([await reader.position(tp) < end for tp, end in ends.items()]):
        for batch in (await reader.getmany(timeout_ms=200)).values():
            records += batch
    return sorted(records, key=lambda record: (record.partition, record.offset))


async def until(
    look: Callable[[], Awaitable[Any]], is_enough: Callable[[Any], bool], *, patience_s: float = PATIENCE_S
) -> Any:
    """Look again until it is enough."""
    async with asyncio.timeout(patience_s):
        while not is_enough(found := await look()):
            await asyncio.sleep(LOOK_EVERY_S)
    return found


class RunningWorker:
    """A worker in this process."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.ready = asyncio.Event()
        self.worker: Worker | None = None
        self.task: asyncio.Task[WorkerMetrics] | None = None

    def became_ready(self, worker: Worker) -> None:
        self.worker = worker
        self.ready.set()

    def metrics(self) -> WorkerMetrics:
        assert self.worker is not None
        return self.worker.metrics()

    async def stop(self, *, hurry: bool = False) -> WorkerMetrics:
        """Stop it as a signal (or two) would."""
        if hurry:
            self.hurry.set()
        self.stopping.set()
        assert self.task is not None
        return await self.task


@asynccontextmanager
async def working(app: App, **options: Any) -> AsyncIterator[RunningWorker]:
    """A worker of the app from its first assignment until the block ends."""
    running = RunningWorker()
    options.setdefault("limits", FAST)
    running.task = asyncio.create_task(
        run_worker(
            app,
            settings=app.settings,
            stop=running.stopping,
            hurry=running.hurry,
            on_ready=running.became_ready,
            **options,
        )
    )
    try:
        ready = asyncio.create_task(running.ready.wait())
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait((ready, running.task), return_when=asyncio.FIRST_COMPLETED)
        if running.task.done():
            running.task.result()
        yield running
    finally:
        await running.stop()
        await app.close()


@pytest.fixture
def log(engine: Engine, prefix: str) -> Log:
    """An engine with topics and a group of this test's own."""
    return Log(Settings(bootstrap=engine.bootstrap, topic_prefix=f"{prefix}.", processing=PROCESSING), prefix)
