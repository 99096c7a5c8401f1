"""Who waits for a job goes on waiting with another reader, or is told, where the reader of states has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from logqueue_schemas.avro import content_id
from logqueue_schemas.job_status import SCHEMA, JobStatus, State, StatusCodec

from logqueue.clock import SystemClock
from logqueue.ids import JobId
from logqueue.jobs import watcher
from logqueue.jobs.client import JobClient
from logqueue.jobs.connection import new_reader, read_nothing
from logqueue.jobs.errors import BrokerUnreachable, RegistryUnreachable
from logqueue.jobs.handle import UNKNOWN_OFFSET, JobHandle
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import STATUS_PARTITIONS
from logqueue.jobs.watcher import StatusWatcher
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, produced

WAIT_S = 60.0
STATUS = "jobs.status"
CODEC = StatusCodec(content_id(SCHEMA))
Readers = list[AIOKafkaConsumer]


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> Readers:
    """The readers that watchers have made."""
    made: Readers = []

    def make(settings: Settings) -> AIOKafkaConsumer:
        made.append(new_reader(settings))
        return made[-1]

    monkeypatch.setattr(watcher, "new_reader", make)
    return made


def handle(number: int) -> JobHandle:
    return JobHandle(
        id=JobId(f"job-{number}"), type="t", queue="mail", tenant=f"tenant-{number}", topic="jobs.mail", partition=0,
        offset=UNKNOWN_OFFSET, created_ms=SystemClock().time_ms(), client=cast(JobClient, None),
    )  # fmt: skip


def end(bootstrap: str, job: JobHandle, codec: StatusCodec = CODEC) -> None:
    """Write that a job has succeeded."""
    status = JobStatus(
        id=job.id, type=job.type, queue=job.queue, tenant=job.tenant, group="app", state=State.SUCCEEDED, rank=5,
        at=job.created_ms * 1000, topic=job.topic, partition=0, offset=0,
    )  # fmt: skip
    records = batch(codec.encode(status), key=job.tenant.encode(), at_ms=job.created_ms)
    with Wire(bootstrap) as wire:
        produced(wire, STATUS, records, partition=partition_of(job.tenant.encode(), STATUS_PARTITIONS))


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_so():
            await asyncio.sleep(0.005)


async def end_fetching(reader: AIOKafkaConsumer) -> None:
    """As aiokafka's fetcher ends: woken by an assignment that is gone by then."""
    reader.unsubscribe()
    await turns()
    reader.assign([KafkaPartition(STATUS, 0)])
    reader.unsubscribe()
    await turns()
    read_nothing(reader)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def watching(broker: EmbeddedBroker) -> AsyncIterator[StatusWatcher]:
    watched = StatusWatcher(Settings(bootstrap=broker.bootstrap), clock=SystemClock())
    try:
        yield watched
    finally:
        await watched.close()


def test_waits_go_on_with_another_reader_where_fetching_has_ended(tmp_path: Path, readers: Readers) -> None:
    async def scenario() -> None:
        async with watching(broker) as watched:
            jobs = [handle(number) for number in range(8)]
            waits = [asyncio.ensure_future(watched.wait(job, timeout_s=WAIT_S / 2)) for job in jobs]
            places = {partition_of(job.tenant.encode(), STATUS_PARTITIONS) for job in jobs}
            await until(lambda: readers and len(readers[0].assignment()) == len(places))
            end(broker.bootstrap, jobs[0])
            assert (await waits[0]).has_succeeded
            await end_fetching(readers[0])
            for job in jobs[1:]:
                end(broker.bootstrap, job)
            assert all(state.has_succeeded for state in await asyncio.gather(*waits))
            late = await watched.status(jobs[3])
            assert late is not None
            assert late.has_succeeded
            assert len(readers) == 2

    with EmbeddedBroker(tmp_path) as broker:
        asyncio.run(scenario())


def test_waits_are_told_where_no_other_reader_can_be_had(
    tmp_path: Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(settings: Settings) -> AIOKafkaConsumer:
        raise BrokerUnreachable("nobody answers")

    async def scenario() -> None:
        async with watching(broker) as watched:
            job = handle(1)
            waiting = asyncio.ensure_future(watched.wait(job, timeout_s=WAIT_S))
            await until(lambda: readers and readers[0].assignment())
            await end_fetching(readers[0])
            with monkeypatch.context() as patched:
                patched.setattr(watcher, "new_reader", refuse)
                with pytest.raises(BrokerUnreachable, match="nobody answers"):
                    await waiting
            end(broker.bootstrap, job)
            assert (await watched.wait(job, timeout_s=WAIT_S)).has_succeeded, "the next wait has a reader again"

    with EmbeddedBroker(tmp_path) as broker:
        asyncio.run(scenario())


def test_a_status_whose_schema_cannot_be_read_at_the_moment_is_not_passed_over(
    tmp_path: Path, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = 77
    known: dict[int, Any] = {}
    refusals = [RegistryUnreachable("away"), RegistryUnreachable("away still")]

    async def refresh() -> None:
        if refusals:
            raise refusals.pop()
        known[newer] = SCHEMA

    async def scenario() -> None:
        async with watching(broker) as watched:
            monkeypatch.setattr(watched, "_registry", SimpleNamespace(refresh=refresh))
            monkeypatch.setattr(watched, "_codec", StatusCodec(content_id(SCHEMA), schema_of=known.get))
            job = handle(1)
            waiting = asyncio.ensure_future(watched.wait(job, timeout_s=WAIT_S / 2))
            await until(lambda: readers and readers[0].assignment())
            end(broker.bootstrap, job, StatusCodec(newer))
            assert (await waiting).has_succeeded
            assert not refusals

    with EmbeddedBroker(tmp_path) as broker:
        asyncio.run(scenario())
