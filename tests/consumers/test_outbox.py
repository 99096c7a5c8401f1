"""The outbox against a log that can be told to fail: what is not durable is not done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import ConsumerRecord
from logqueue_consumers.job import Job
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.outcome import LiveRules, Outcome
from logqueue_consumers.partitions.partition import OwnedPartition, Standing
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.status.records import StatusRecords
from logqueue_consumers.writing.at_least_once import AtLeastOnce
from logqueue_consumers.writing.outbox import Outbox
from logqueue_consumers.writing.outgoing import Outgoing, Refusal
from logqueue_schemas.job_status import State, StatusCodec
from msgspec.structs import replace

from logqueue.jobs.headers import Origin
from logqueue.jobs.topics import TopicKind, TopicNames

NAMES = TopicNames()
CODEC = StatusCodec(7)


class FakeLog:
    """Takes records unless told otherwise; a send waits while the gate is shut."""

    def __init__(self) -> None:
        self.sends: list[list[Outgoing]] = []
        self.refused_topics: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()

    def partition_of(self, topic: str, key: bytes) -> int:
        return 0

    async def place(self, records: Sequence[Outgoing]) -> Sequence[Outgoing]:
        return [replace(record, partition=0) for record in records]

    async def send(self, records: Sequence[Outgoing]) -> list[Refusal]:
        self.asked.set()
        await self.gate.wait()
        self.sends.append(list(records))
        return [
            Refusal(place, MessageSizeTooLargeError())
            for place, record in enumerate(records)
            if record.topic in self.refused_topics
        ]

    def states(self) -> list[str]:
        return [
            str(CODEC.decode(record.value or b"").state)
            for records in self.sends
            for record in records
            if record.topic == NAMES.status
        ]


class Bench:
    def __init__(
        self,
        log: FakeLog,
        limits: WorkerLimits = WorkerLimits(),  # noqa: B008 - frozen
        busy_linger_s: float = 0.01,
    ) -> None:
        self.log = log
        self.done: list[Outcome] = []
        self.partition = OwnedPartition(
            "jobs.q", 0, kind=TopicKind.JOBS, queue="q", order="tenant", window=PartitionWindow(0)
        )
        records = StatusRecords(CODEC, log, group="g", is_shadow=False, status_topic=NAMES.status, worker="w:1")
        delivery = AtLeastOnce(log, records, log)  # type: ignore[arg-type]
        self.outbox = Outbox(delivery, limits=limits, busy_linger_s=busy_linger_s, on_durable=self.done.extend)

    def job(self, offset: int) -> Job:
        record = ConsumerRecord("jobs.q", 0, offset, 1_000, 0, b"t", b"{}", None, 1, 2, ())
        job = Job.of(record, self.partition, id=f"j{offset}", tenant="t", origin=Origin("jobs.q", 0, offset, "g"))
        job.started_us = 1_000_000
        return job

    def succeeded(self, offset: int) -> Outcome:
        job = self.job(offset)
        job.is_over = True
        return Outcome.of(job, State.SUCCEEDED, 2_000_000, finishes=True)

    def dead(self, offset: int) -> Outcome:
        return LiveRules(NAMES, "g").dead(self.job(offset), ValueError("no"), "transient", now_us=2_000_000)


async def flushing(bench: Bench, steps: object) -> None:
    task = asyncio.create_task(bench.outbox.run())
    try:
        async with asyncio.timeout(5):
            await steps  # type: ignore[misc]
    finally:
        task.cancel()


def run(steps: object) -> None:
    async def main() -> None:
        bench = Bench(FakeLog())
        await flushing(bench, steps(bench))  # type: ignore[operator]

    asyncio.run(main())


def test_an_outcome_is_done_only_when_the_log_has_it() -> None:
    async def steps(bench: Bench) -> None:
        bench.log.gate.clear()
        bench.outbox.add(bench.succeeded(0))
        await bench.log.asked.wait()
        assert bench.done == []
        assert not await bench.outbox.drain(0.01)
        bench.log.gate.set()
        assert await bench.outbox.drain(5)
        assert [outcome.job.offset for outcome in bench.done] == [0]

    run(steps)


@pytest.mark.parametrize("is_known_before", [True, False])
def test_a_busy_worker_does_not_linger_where_its_next_jobs_wait_for_the_flush(is_known_before: bool) -> None:
    async def main() -> None:
        log = FakeLog()
        bench = Bench(log, busy_linger_s=3_600.0)
        asks = asyncio.Event()
        is_waited_for = is_known_before

        def ask() -> bool:
            asks.set()
            return is_waited_for

        async def steps() -> None:
            bench.outbox.is_waited_for = ask
            busy = WorkerLimits().busy_outcomes
            log.gate.clear()
            for offset in range(busy):
                bench.outbox.add(bench.succeeded(offset))
            await log.asked.wait()
            bench.outbox.add(bench.succeeded(busy))  # while the flush of many is under way
            log.gate.set()
            await asks.wait()
            if not is_known_before:
                await asyncio.sleep(0)
                assert len(bench.done) == busy, "it lingers"
                bench.outbox.hurry()
            while len(bench.done) <= busy:
                await asyncio.sleep(0)

        await flushing(bench, steps())

    asyncio.run(main())


def test_when_the_dead_letter_is_refused_the_job_is_not_done_and_no_status_says_so() -> None:
    async def steps(bench: Bench) -> None:
        bench.log.refused_topics.add(NAMES.dlq("q", "g"))
        bench.outbox.add(bench.dead(0))
        bench.outbox.add(bench.succeeded(1))
        await bench.outbox.drain(5)
        assert [outcome.job.offset for outcome in bench.done] == [1]
        assert bench.log.states() == ["succeeded"]

    run(steps)


def test_a_moved_record_is_durable_before_the_status_that_finishes_the_first() -> None:
    async def steps(bench: Bench) -> None:
        bench.outbox.add(bench.dead(0))
        await bench.outbox.drain(5)
        topics = [[record.topic for record in records] for records in bench.log.sends]
        assert topics == [[NAMES.dlq("q", "g")], [NAMES.status]]

    run(steps)


def test_when_the_status_is_refused_the_job_is_not_done() -> None:
    async def steps(bench: Bench) -> None:
        bench.log.refused_topics.add(NAMES.status)
        bench.outbox.add(bench.succeeded(0))
        await bench.outbox.drain(5)
        assert bench.done == []

    run(steps)


def test_a_start_is_written_only_while_the_job_still_runs() -> None:
    async def steps(bench: Bench) -> None:
        long, short = bench.job(0), bench.job(1)
        bench.outbox.start(long)
        bench.outbox.start(short)
        short.is_over = True
        bench.outbox.add(Outcome.of(short, State.SUCCEEDED, 2_000_000, finishes=True))
        await bench.outbox.drain(5)
        assert bench.log.states() == ["running", "succeeded"]
        bench.outbox.add(Outcome.of(long, State.SUCCEEDED, 3_000_000, finishes=True))
        await bench.outbox.drain(5)
        assert bench.log.states() == ["running", "succeeded", "succeeded"]

    run(steps)


@pytest.mark.parametrize("standing", [Standing.REVOKED, Standing.LOST])
def test_late_results_of_partitions_that_are_not_ours_are_not_written(standing: Standing) -> None:
    async def steps(bench: Bench) -> None:
        outcome = bench.succeeded(0)
        bench.partition.standing = standing
        bench.outbox.add(outcome)
        await bench.outbox.drain(5)
        assert bench.log.sends == []
        assert bench.done == []
        assert bench.partition.held == ([outcome] if standing is Standing.REVOKED else [])

    run(steps)


def test_sequences_only_grow_even_when_the_clock_stands_still() -> None:
    async def steps(bench: Bench) -> None:
        for offset in range(3):
            bench.outbox.add(bench.succeeded(offset))
        await bench.outbox.drain(5)
        (records,) = bench.log.sends
        numbers = [CODEC.decode(record.value or b"").sequence for record in records]
        assert numbers == sorted(set(numbers))

    run(steps)


def test_more_records_of_an_outcome_are_durable_before_its_status() -> None:
    async def steps(bench: Bench) -> None:
        outcome = bench.succeeded(0)
        outcome.add_records([Outgoing("jobs.next", None, b"t", b"{}")])
        bench.outbox.add(outcome)
        await bench.outbox.drain(5)
        topics = [[record.topic for record in records] for records in bench.log.sends]
        assert topics == [["jobs.next"], [NAMES.status]]
        assert bench.done == [outcome]

    run(steps)


def test_what_else_belongs_to_an_outcome_is_durable_before_its_record_moves_on() -> None:
    async def steps(bench: Bench) -> None:
        outcome = bench.dead(0)
        outcome.add_records([Outgoing("jobs.flows", None, b"k", b"v")])
        bench.outbox.add(outcome)
        await bench.outbox.drain(1)
        assert [[record.topic for record in records] for records in bench.log.sends] == [
            ["jobs.flows"],
            [NAMES.dlq("q", "g")],
            [NAMES.status],
        ]

    run(steps)


def test_a_job_of_which_a_further_record_is_refused_does_not_move_on() -> None:
    async def steps(bench: Bench) -> None:
        bench.log.refused_topics = {"jobs.flows"}
        outcome = bench.dead(0)
        outcome.add_records([Outgoing("jobs.flows", None, b"k", b"v")])
        bench.outbox.add(outcome)
        await bench.outbox.drain(1)
        assert [record.topic for records in bench.log.sends for record in records] == ["jobs.flows"]
        assert not bench.done

    run(steps)


def test_the_time_of_the_oldest_outcome_is_known_until_it_is_durable() -> None:
    async def steps(bench: Bench) -> None:
        assert bench.outbox.oldest_us() is None
        bench.log.gate.clear()
        bench.outbox.add(bench.succeeded(0))
        assert bench.outbox.oldest_us() == 2_000_000
        await bench.log.asked.wait()
        assert bench.outbox.oldest_us() == 2_000_000
        bench.log.gate.set()
        await bench.outbox.drain(1)
        assert bench.outbox.oldest_us() is None

    run(steps)


def test_when_one_of_the_further_records_is_refused_the_job_is_not_done() -> None:
    async def steps(bench: Bench) -> None:
        bench.log.refused_topics.add("jobs.next")
        outcome = bench.succeeded(0)
        outcome.add_records([Outgoing("jobs.other", None, b"t", b"{}"), Outgoing("jobs.next", None, b"t", b"{}")])
        bench.outbox.add(outcome)
        await bench.outbox.drain(5)
        assert bench.done == []
        assert bench.log.states() == []

    run(steps)


def test_emitted_records_are_written_without_any_outcome() -> None:
    async def steps(bench: Bench) -> None:
        record = Outgoing("jobs.control", 0, b"k", b"v")
        assert bench.outbox.emit([record])
        await bench.outbox.drain(5)
        assert bench.log.sends == [[record]]

    run(steps)


def test_emitted_records_that_wait_have_a_bound() -> None:
    async def steps(bench: Bench) -> None:
        record = Outgoing("jobs.control", 0, b"k", b"v")
        outbox = Bench(bench.log, WorkerLimits(max_emitted=1)).outbox
        assert outbox.emit([record])
        assert not outbox.emit([record])

    run(steps)
