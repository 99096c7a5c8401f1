"""Lean consumers in fetch sessions (KIP-227): they read what others read, and name only what has changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from logqueue_consumers.topics.fetch_state import fetch_state

from logqueue.jobs import lean_fetch
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.fetch_session import Asked, FetchSession
from logqueue.jobs.settings import Settings
from logqueue.testing import EmbeddedBroker
from tests.consumers.conftest import Log
from tests.loops import in_loop

PARTITIONS = 6


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Asked]]:
    """What consumers ask from now on."""
    asked: list[Asked] = []

    class Noted(FetchSession):
        def ask(self, *arguments: Any) -> Asked:
            asked.append(super().ask(*arguments))
            return asked[-1]

    monkeypatch.setattr(lean_fetch, "FetchSession", Noted)
    yield asked


def consumer_of(bootstrap: str) -> AIOKafkaConsumer:
    return lean_fetch.lean(
        AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=50,
        )
    )


async def read(consumer: AIOKafkaConsumer, count: int) -> list[tuple[int, int]]:
    """Partition and offset of so many records, by partition."""
    got: list[tuple[int, int]] = []
    while len(got) < count:
        for tp, records in (await consumer.getmany(timeout_ms=500)).items():
            got += [(tp.partition, record.offset) for record in records]
    return sorted(got)


def test_a_consumer_names_what_it_has_read_on_and_reads_everything(log: Log, requests: list[Asked]) -> None:
    @in_loop
    async def reading() -> None:
        spec = log.settings.topics.jobs_spec("sessions", partitions=PARTITIONS)
        await ensure_topics(log.settings, [spec])
        parts = [TopicPartition(spec.name, number) for number in range(PARTITIONS)]
        async with consumer_of(log.settings.bootstrap) as consumer:
            consumer.assign(parts)
            for offset in range(3):
                for number in (0, 3):
                    await log.produce(spec.name, b"x", partition=number)
                assert await read(consumer, 2) == [(0, offset), (3, offset)]
            ends = [fetch_state(consumer, tp).end for tp in parts]
            assert [0 if end is None else end for end in ends] == [3, 0, 0, 3, 0, 0]
            consumer.pause(parts[0])
            await log.produce(spec.name, b"x", partition=0)
            await log.produce(spec.name, b"x", partition=5)
            assert await read(consumer, 1) == [(5, 0)]
            consumer.resume(parts[0])
            assert await read(consumer, 1) == [(0, 3)]
            consumer.seek(parts[3], 1)
            assert await read(consumer, 2) == [(3, 1), (3, 2)]
        assert sum(asked.epoch == 0 for asked in requests) <= 2  # positions are looked up one after the other
        later = [part for asked in requests if asked.epoch for _, named in asked.topics for part in named]
        assert {number for number, _, _ in later} <= {0, 3, 5}
        assert [0] in [numbers for asked in requests for _, numbers in asked.forgotten]

    reading()


def test_another_assignment_begins_another_session(log: Log, requests: list[Asked]) -> None:
    @in_loop
    async def reading() -> None:
        spec = log.settings.topics.jobs_spec("assigned", partitions=2)
        await ensure_topics(log.settings, [spec])
        for number in (0, 1):
            await log.produce(spec.name, b"x", partition=number)
        parts = [TopicPartition(spec.name, number) for number in (0, 1)]
        async with consumer_of(log.settings.bootstrap) as consumer:
            consumer.assign(parts)
            await read(consumer, 2)
            before = len(requests)
            consumer.assign(parts[::-1])
            consumer.seek(parts[0], 1)
            consumer.seek(parts[1], 0)
            assert await read(consumer, 1) == [(1, 0)]
            assert any(asked.epoch == 0 for asked in requests[before:])
            assert fetch_state(consumer, parts[0]).end == 1  # told anew: who knew it before is not there any more

    reading()


def test_a_broker_that_has_started_again_knows_no_session_and_is_read_on(requests: list[Asked]) -> None:
    with EmbeddedBroker(fsync=False) as broker:

        @in_loop
        async def reading() -> None:
            log = Log(Settings(bootstrap=broker.bootstrap), "again")
            spec = log.settings.topics.jobs_spec("again", partitions=2)
            await ensure_topics(log.settings, [spec])
            async with consumer_of(broker.bootstrap) as consumer:
                consumer.assign([TopicPartition(spec.name, number) for number in (0, 1)])
                await log.produce(spec.name, b"x", partition=0)
                assert await read(consumer, 1) == [(0, 0)]
                broker.restart()
                await log.produce(spec.name, b"x", partition=1)
                assert await read(consumer, 1) == [(1, 0)]
            assert sum(asked.epoch == 0 for asked in requests) >= 2

        reading()
