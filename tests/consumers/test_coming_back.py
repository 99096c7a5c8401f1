"""A partition that goes and comes back is read again: whatever waited of it in memory is forgotten when it goes."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from logqueue_consumers.engine import JobEngine
from logqueue_consumers.intake.job_reader import SchemaNotRead
from logqueue_consumers.job import Job
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.outcome import LiveRules, Outcome
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow

from logqueue.clock import ManualClock
from logqueue.jobs.errors import Undecodable, UnknownJobType
from logqueue.jobs.headers import Origin
from logqueue.jobs.topics import TopicKind, TopicNames
from tests.loops import in_loop


class Record(msgspec.Struct):
    offset: int
    value: bytes | None = b"{}"
    key: bytes = b"t"
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


class Bench:
    """An engine whose records cannot be run, and whose schema topic is read when the test says so."""

    def __init__(self, kind: TopicKind) -> None:
        self.is_read = asyncio.Event()
        self.may_be_read = asyncio.Event()
        self.ended: list[int] = []
        outbox = SimpleNamespace(
            start=None, run=asyncio.Event().wait, add=lambda outcome: self.ended.append(outcome.job.offset)
        )
        self.engine = JobEngine(
            reader=self,  # type: ignore[arg-type]
            rules=LiveRules(TopicNames(), group="g"),
            limits=WorkerLimits(),
            clock=ManualClock(),
            random=Random(0),
            make_outbox=lambda _: outbox,  # type: ignore[arg-type, return-value]
            group="g",
            refresh_schemas=self.refresh,
        )
        self.partition = OwnedPartition("jobs.q", 0, kind=kind, queue="q", order="none", window=PartitionWindow(0))
        self.engine.open(self.partition)

    def read(self, record: Any, partition: OwnedPartition, *, is_last_try: bool = False) -> Job:
        job = Job.of(record, partition, id=f"j{record.offset}", tenant="t", origin=Origin("q", 0, record.offset, "g"))
        if partition.kind is TopicKind.PARKED:
            job.problem = UnknownJobType("t", queue="q")
        else:
            job.problem = Undecodable("no schema") if is_last_try else SchemaNotRead(5)
        return job

    async def refresh(self) -> None:
        self.is_read.set()
        await self.may_be_read.wait()

    def arrive(self, *offsets: int) -> None:
        self.engine.deliver(self.partition, [Record(offset) for offset in offsets])

    def go_and_come_back(self) -> None:
        self.engine.stop([self.partition])
        self.partition.reopen(0, [], running=[], ended=[])
        self.engine.open(self.partition)


@pytest.mark.parametrize("is_being_read", [False, True], ids=["waits", "is being read for"])
@in_loop
async def test_a_job_that_waits_for_a_schema_when_its_partition_goes_ends_once(is_being_read: bool) -> None:
    bench = Bench(TopicKind.JOBS)
    bench.arrive(0, 1)
    running = asyncio.create_task(bench.engine.run())
    if is_being_read:
        await bench.is_read.wait()
    bench.go_and_come_back()
    bench.arrive(0, 1)
    bench.may_be_read.set()
    async with asyncio.timeout(10):
        while len(bench.ended) < 2:
            await asyncio.sleep(0)
    for _ in range(20):  # and no more come
        await asyncio.sleep(0)
    assert bench.ended == [0, 1]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@in_loop
async def test_parked_jobs_do_not_pile_up_over_rebalances() -> None:
    bench = Bench(TopicKind.PARKED)
    asked: list[int] = []

    def end(job: Job) -> Outcome | None:
        asked.append(job.offset)
        return None

    bench.arrive(0, 1)
    for _ in range(3):
        bench.go_and_come_back()
        bench.arrive(0, 1)
    bench.engine.parked_end = end
    bench.engine.review()
    assert sorted(asked) == [0, 1]
