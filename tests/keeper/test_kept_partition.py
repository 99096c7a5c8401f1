"""What a keeper's partition reads and what it writes itself come in one order: that of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.kept_partition import KeeperLimits, KeptPartition
from logqueue_consumers.keeper.machine import KeeperSpec, Place
from logqueue_consumers.writing.outgoing import Outgoing

from logqueue.clock import SystemClock
from logqueue.jobs.settings import Settings
from tests.keeper.test_keepers import Alarms
from tests.loops import in_loop

TOMBSTONE_AT = 1
LATER_MS = 4_102_444_800_000
PATIENCE_S = 60.0


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


@in_loop
async def test_what_waits_again_is_not_forgotten_when_the_answer_to_its_release_comes_late() -> None:
    writer, places = SlowAnswer(), Places()
    kept = KeptPartition(
        KeeperSpec(topic="alarms", make=lambda index, place: Alarms(index, place, "rung")),
        Place(topic="alarms", partition=0, partitions=1, count_of=lambda topic: 1),
        Index.in_memory(),
        settings=Settings(),
        partitions=places,  # type: ignore[arg-type]
        group="keepers",
        clock=SystemClock(),
        limits=KeeperLimits(),
        end_of=lambda at: asyncio.sleep(0, result=TOMBSTONE_AT),
        on_fenced=lambda: None,
    )
    kept._writer, writer.kept = writer, kept  # type: ignore[assignment]
    kept.take([record_of(b"k", b"0", 0)])
    task = asyncio.create_task(kept.run())
    async with asyncio.timeout(PATIENCE_S):
        await writer.is_answered.wait()
    task.cancel()
    await asyncio.wait((task,))
    assert kept.next_due() == LATER_MS
