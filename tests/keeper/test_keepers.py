"""Keepers: one owner per partition, records in one transaction, nothing twice, everything back from the topic."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.machine import KeeperSpec, Kept, Place
from logqueue_consumers.keeper.writer import NotOwner, NotWritten, TransactionalWriter
from logqueue_consumers.writing.outgoing import Outgoing

from logqueue.clock import SystemClock
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicSpec
from tests.consumers.conftest import Log, until
from tests.keeper.conftest import QUICK, keeping

COMPACT = {"cleanup.policy": "compact"}
PAUSE_MS = 100


class Alarms:
    """A machine: the value is a due time, and when it has come the key is written to `rung`, once.

    An event with the key of an alarm rings it at once.
    """

    def __init__(self, index: Index, place: Place, rung: str) -> None:
        self.index = index
        self.place = place
        self.rung = rung

    def apply(self, record: Kept) -> None:
        if record.value is None:
            self.index.delete(record.key)
        else:
            self.index.put(record.key, b"", due_ms=int(record.value))

    def next_due(self) -> int | None:
        return self.index.next_due()

    def due(self, now_ms: int, limit: int) -> list[Outgoing]:
        return [record for row in self.index.due(now_ms, limit) for record in self._ring(row.key)]

    def put_off(self, now_ms: int) -> None:
        for row in self.index.due(now_ms, 1):
            with self.index.transaction():
                self.index.put_off(row.key, now_ms + PAUSE_MS)

    def events_since(self) -> int | None:
        return 0 if self.index.next_due() is not None else None

    def on_event(self, event: Kept) -> list[Outgoing]:
        return self._ring(event.key) if self.index.get(event.key) is not None else []

    def _ring(self, key: bytes) -> list[Outgoing]:
        return [Outgoing(self.rung, 0, key, b"rung"), Outgoing(self.place.topic, None, key, None)]


def alarms(settings: Settings, *, events: bool = False) -> tuple[list[KeeperSpec], list[TopicSpec]]:
    prefix = settings.topic_prefix
    topic, rung, bells = f"{prefix}alarms", f"{prefix}rung", f"{prefix}bells"
    spec = KeeperSpec(
        topic=topic, make=lambda index, place: Alarms(index, place, rung), events=bells if events else None
    )
    specs = [
        TopicSpec(name=topic, partitions=2, configs=COMPACT),
        TopicSpec(name=rung, partitions=1),
        TopicSpec(name=bells, partitions=2),
    ]
    return [spec], specs


async def rung(log: Log) -> list[bytes]:
    return [record.key for record in await log.read(f"{log.settings.topic_prefix}rung")]


async def rung_count(log: Log, count: int) -> list[bytes]:
    return await until(lambda: rung(log), lambda keys: len(keys) >= count)


def test_what_is_due_is_written_once_with_its_tombstone(log: Log, settings: Settings) -> None:
    async def scenario() -> None:
        specs, topics = alarms(settings)
        async with keeping(settings, specs, topics):
            soon = SystemClock().time_ms() + 300
            for number in range(6):
                await log.produce(specs[0].topic, b"%d" % soon, key=b"k%d" % number, partition=number % 2)
            keys = await rung_count(log, 6)
            assert SystemClock().time_ms() >= soon
            assert sorted(keys) == [b"k%d" % number for number in range(6)]
        latest = {record.key: record.value for record in await log.read(specs[0].topic)}
        assert latest == {b"k%d" % number: None for number in range(6)}

    asyncio.run(scenario())


def test_a_successor_rings_what_is_left_and_nothing_again(log: Log, settings: Settings) -> None:
    async def scenario() -> None:
        specs, topics = alarms(settings)
        later = SystemClock().time_ms() + 3_600_000
        async with keeping(settings, specs, topics):
            await log.produce(specs[0].topic, b"0", key=b"first", partition=0)
            await log.produce(specs[0].topic, b"%d" % later, key=b"later", partition=0)
            await rung_count(log, 1)
        await log.produce(specs[0].topic, b"0", key=b"second", partition=0)
        async with keeping(settings, specs, topics):
            assert await rung_count(log, 2) == [b"first", b"second"]

    asyncio.run(scenario())


def test_a_lost_or_foreign_index_comes_back_from_the_topic(log: Log, settings: Settings, tmp_path: Path) -> None:
    async def scenario() -> None:
        specs, topics = alarms(settings)
        async with keeping(settings, specs, topics):
            await log.produce(specs[0].topic, b"0", key=b"first", partition=0)
            await rung_count(log, 1)
        files = sorted((tmp_path / "cache").rglob("*.db"))
        assert len(files) == 2
        files[0].write_bytes(b"this is no database" * 1000)
        files[1].unlink()
        await log.produce(specs[0].topic, b"0", key=b"second", partition=0)
        async with keeping(settings, specs, topics):
            assert await rung_count(log, 2) == [b"first", b"second"]

    asyncio.run(scenario())


def test_a_record_that_a_machine_stumbles_over_does_not_end_the_keepers(log: Log, settings: Settings) -> None:
    class Stumbling(Alarms):
        stumbles = 0

        def apply(self, record: Kept) -> None:
            if Stumbling.stumbles < 2:
                Stumbling.stumbles += 1
                raise TypeError("int() argument must be a string, not 'NoneType'")
            super().apply(record)

    async def scenario() -> None:
        (spec,), topics = alarms(settings)
        spec = replace(spec, make=lambda index, place: Stumbling(index, place, topics[1].name))
        async with keeping(settings, [spec], topics, limits=replace(QUICK, reopen_s=0.0)):
            await log.produce(spec.topic, b"0", key=b"k", partition=0)
            assert await rung_count(log, 1) == [b"k"]
        assert Stumbling.stumbles == 2

    asyncio.run(scenario())


def test_partitions_are_shared_among_members_and_taken_over(log: Log, settings: Settings) -> None:
    async def scenario() -> None:
        specs, topics = alarms(settings)
        async with keeping(settings, specs, topics) as one:
            async with keeping(settings, specs, topics) as two:

                async def counts() -> tuple[int, int]:
                    return len(list(one.owned)), len(list(two.owned))

                await until(counts, lambda found: found == (1, 1))
                for number in range(4):
                    await log.produce(specs[0].topic, b"0", key=b"k%d" % number, partition=number % 2)
                await rung_count(log, 4)
            for number in range(4, 8):
                await log.produce(specs[0].topic, b"0", key=b"k%d" % number, partition=number % 2)
            assert sorted(await rung_count(log, 8)) == [b"k%d" % number for number in range(8)]

    asyncio.run(scenario())


def test_a_fenced_owner_can_write_nothing(settings: Settings, log: Log) -> None:
    async def scenario() -> None:
        specs, topics = alarms(settings)
        async with keeping(settings, specs, topics):
            pass
        topic = f"{settings.topic_prefix}rung"
        former, present = (TransactionalWriter(settings, transactional_id="x" + topic, group="g") for _ in range(2))
        try:
            await former.fence()
            assert await former.write([Outgoing(topic, 0, b"a", b"1")]) == [0]
            await present.fence()
            refused: Any = None
            try:
                await former.write([Outgoing(topic, 0, b"b", b"2")])
            except NotOwner as error:
                refused = error
            assert refused is not None
            assert not former.is_fenced
            await present.write([Outgoing(topic, 0, b"c", b"3")])
        finally:
            await former.stop()
            await present.stop()
        assert await rung(log) == [b"a", b"c"]

    asyncio.run(scenario())


def test_an_owner_that_is_shut_out_between_two_batches_has_written_nothing(
    settings: Settings, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka says IllegalOperation, which is no KafkaError, once its transaction has been ended behind its back."""
    send_batch = AIOKafkaProducer.send_batch
    batches = 0

    async def shut_out_at_the_second(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise IllegalOperation("Can't send messages while not in transaction")
        return await send_batch(self, *args, **options)

    async def scenario() -> None:
        specs, topics = alarms(settings)
        async with keeping(settings, specs, topics):
            pass
        topic = f"{settings.topic_prefix}rung"
        monkeypatch.setattr(AIOKafkaProducer, "send_batch", shut_out_at_the_second)
        writer = TransactionalWriter(settings, transactional_id="y" + topic, group="g")
        try:
            await writer.fence()
            with pytest.raises(NotWritten):
                await writer.write([Outgoing(topic, 0, b"a", b"1"), Outgoing(specs[0].topic, 0, b"b", b"2")])
            assert not writer.is_fenced
        finally:
            await writer.stop()
        assert await rung(log) == []

    asyncio.run(scenario())


def test_two_owners_at_once_ring_each_alarm_once(log: Log, settings: Settings, prefix: str) -> None:
    """Split brain: another process believes that it owns the same partitions, in a group of its own."""

    async def scenario() -> None:
        specs, topics = alarms(settings)
        from logqueue_consumers.keeper import keepers as module

        async with keeping(settings, specs, topics) as one:
            one_group, module.keepers_group = module.keepers_group, lambda settings: f"{prefix}.other"
            try:
                async with keeping(settings, specs, topics):
                    for number in range(40):
                        await log.produce(specs[0].topic, b"0", key=b"k%d" % number, partition=number % 2)
                    keys = await rung_count(log, 40)
            finally:
                module.keepers_group = one_group
            assert len(list(one.owned)) == 2
        assert sorted(keys) == sorted(b"k%d" % number for number in range(40))
        assert len(await rung(log)) == 40

    asyncio.run(scenario())


def test_events_count_once_across_owners(log: Log, settings: Settings) -> None:
    async def scenario() -> None:
        specs, topics = alarms(settings, events=True)
        later = SystemClock().time_ms() + 3_600_000
        bells = f"{settings.topic_prefix}bells"
        async with keeping(settings, specs, topics):
            for key in (b"a", b"b", b"c"):
                await log.produce(specs[0].topic, b"%d" % later, key=key, partition=1)
            await log.produce(bells, b"", key=b"nobody", partition=1)
            await log.produce(bells, b"", key=b"a", partition=1)
            assert await rung_count(log, 1) == [b"a"]
        await log.produce(bells, b"", key=b"b", partition=1)
        async with keeping(settings, specs, topics):
            assert await rung_count(log, 2) == [b"a", b"b"]

    asyncio.run(scenario())
