"""What a keeper's partition reads and what it writes itself come in one order: that of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.kept_partition import IndexAhead, KeeperLimits, KeptPartition
from logqueue_consumers.keeper.machine import KeeperSpec, Place
from logqueue_consumers.keeper.writer import NotWritten
from logqueue_consumers.writing.outgoing import Outgoing

from logqueue.clock import SystemClock
from logqueue.jobs.settings import Settings
from tests.keeper.test_keepers import Alarms
from tests.loops import in_loop

TOMBSTONE_AT = 1
LATER_MS = 4_102_444_800_000
PATIENCE_S = 60.0
GOOD = 40


class SlowAnswer:
    """A writer whose commit is answered when its tombstone was read back, and what somebody wrote behind it."""

    is_fenced = True

    def __init__(self) -> None:
        self.kept: KeptPartition
        self.is_answered = asyncio.Event()

    async def write(self, records: Sequence[Outgoing], *, offsets: object) -> list[int]:
        assert [(record.key, record.value) for record in records] == [(b"k", b"rung"), (b"k", None)]
        self.kept.take([record_of(b"k", None, TOMBSTONE_AT), record_of(b"k", b"%d" % LATER_MS, TOMBSTONE_AT + 2)])
        self.is_answered.set()
        return [0, TOMBSTONE_AT]


class Places:
    """Every topic is known, and the records say where they go."""

    def __contains__(self, topic: str) -> bool:
        return True

    async def learn(self, topics: set[str]) -> None:
        assert not topics

    async def place(self, records: Sequence[Outgoing]) -> Sequence[Outgoing]:
        return records


def record_of(key: bytes, value: bytes | None, offset: int) -> Any:
    return SimpleNamespace(key=key, value=value, headers=(), offset=offset, timestamp=0)


class Refusing:
    """A writer that writes no batch with the key `bad`; the others' records are kept."""

    def __init__(self) -> None:
        self.is_fenced = False
        self.written: list[bytes] = []
        self.refused = 0
        self.is_enough = asyncio.Event()
        self.first_offset = 1_000

    async def fence(self) -> None:
        self.is_fenced = True

    async def stop(self) -> None:
        self.is_fenced = False

    async def write(self, records: Sequence[Outgoing], *, offsets: object) -> list[int]:
        keys = [record.key for record in records if record.topic == "rung" and record.key is not None]
        if b"bad" in keys:
            self.refused += 1
            raise NotWritten("TopicAuthorizationFailed")
        self.written += keys
        if len(self.written) == GOOD:
            self.is_enough.set()
        return [self.first_offset + number for number in range(len(records))]


def kept_with(writer: Any, *, end: int, limits: KeeperLimits | None = None) -> KeptPartition:
    places = Places()
    kept = KeptPartition(
        KeeperSpec(topic="alarms", make=lambda index, place: Alarms(index, place, "rung")),
        Place(topic="alarms", partition=0, partitions=1, count_of=lambda topic: 1),
        Index.in_memory(),
        settings=Settings(),
        partitions=places,  # type: ignore[arg-type]
        group="keepers",
        clock=SystemClock(),
        limits=limits if limits is not None else KeeperLimits(),
        end_of=lambda at: asyncio.sleep(0, result=end),
        on_fenced=lambda: None,
    )
    kept._writer = writer
    return kept


@in_loop
async def test_what_waits_again_is_not_forgotten_when_the_answer_to_its_release_comes_late() -> None:
    writer = SlowAnswer()
    writer.kept = kept = kept_with(writer, end=TOMBSTONE_AT)
    kept.take([record_of(b"k", b"0", 0)])
    task = asyncio.create_task(kept.run())
    async with asyncio.timeout(PATIENCE_S):
        await writer.is_answered.wait()
    task.cancel()
    await asyncio.wait((task,))
    assert kept.next_due() == LATER_MS


@in_loop
async def test_records_before_the_position_are_no_cause_to_forget_what_waits_or_to_act() -> None:
    """They were fetched in vain or the log was made anew: only a rebuild from the topic's beginning can tell."""
    writer = Refusing()
    kept = kept_with(writer, end=2)
    kept.take([record_of(b"waits", b"%d" % LATER_MS, 0), record_of(b"due", b"0", 1)])
    with pytest.raises(IndexAhead):
        kept.take([record_of(b"old", b"0", 0)])
    assert kept.position == 2
    with pytest.raises(IndexAhead):
        await kept.run()
    assert writer.written == []


@in_loop
async def test_an_own_record_before_the_position_tells_that_the_log_was_made_anew() -> None:
    writer = Refusing()
    writer.first_offset = 0
    kept = kept_with(writer, end=8)
    kept.take([record_of(b"due", b"0", 7)])
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(IndexAhead):
            await kept.run()
    assert writer.written == [b"due"]


@in_loop
async def test_one_that_cannot_be_written_does_not_hold_up_the_others() -> None:
    writer = Refusing()
    limits = KeeperLimits(first_backoff_s=0.0, max_backoff_s=0.0, longest_sleep_s=0.01)
    kept = kept_with(writer, end=GOOD + 1, limits=limits)
    keys = [b"k%d" % number for number in range(GOOD)]
    keys.insert(GOOD // 2, b"bad")
    kept.take([record_of(key, b"0", offset) for offset, key in enumerate(keys)])
    task = asyncio.create_task(kept.run())
    async with asyncio.timeout(PATIENCE_S):
        await writer.is_enough.wait()
    task.cancel()
    await asyncio.wait((task,))
    assert sorted(writer.written) == sorted(set(keys) - {b"bad"})
    assert kept.next_due() is not None, "it is tried again"
