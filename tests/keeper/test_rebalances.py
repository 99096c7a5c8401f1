"""A rebalance comes between any two steps of a keeper: nothing is read twice, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from logqueue_consumers.keeper.keepers import Keepers

from logqueue.jobs.settings import Settings
from tests.loops import in_loop

FIRST, SECOND, NEW = (TopicPartition("kept", number) for number in range(3))


class Partition:
    """A partition in hand that notes what it is given."""

    is_reading = False

    def __init__(self, at: TopicPartition, position: int) -> None:
        self.at = at
        self.position = position
        self.taken: list[Any] = []

    def take(self, records: list[Any]) -> None:
        self.taken += records


class Consumer:
    """Finds records of two partitions once, and tells what anybody sees who runs next."""

    def __init__(self, look: Callable[[], None] = lambda: None) -> None:
        self.sought: list[tuple[TopicPartition, int]] = []
        self.look = look
        self.rounds = 0

    def seek(self, at: TopicPartition, offset: int) -> None:
        self.sought.append((at, offset))

    async def getmany(self, **options: Any) -> dict[TopicPartition, list[Any]]:
        self.rounds += 1
        if self.rounds > 1:
            await asyncio.Event().wait()
        asyncio.get_running_loop().call_soon(self.look)
        return {at: [SimpleNamespace(offset=0)] for at in (FIRST, SECOND)}


def keepers_with(consumer: Consumer, *owned: Partition) -> Keepers:
    keepers = Keepers(Settings(), [], [])
    keepers._consumer = consumer  # type: ignore[assignment]
    keepers._owned = {kept.at: kept for kept in owned}  # type: ignore[misc]
    return keepers


@in_loop
async def test_kept_partitions_read_on_from_their_position_before_anything_is_waited_for() -> None:
    consumer = Consumer()
    keepers = keepers_with(consumer, Partition(FIRST, 7), Partition(SECOND, 9))
    async with keepers._changing:  # others are being closed, which may take seconds
        task = asyncio.create_task(keepers.on_partitions_assigned([FIRST, NEW]))
        await asyncio.sleep(0)
        assert consumer.sought == [(FIRST, 7)]
        task.cancel()
        await asyncio.wait((task,))


@in_loop
async def test_nobody_comes_between_a_fetch_and_the_last_of_its_partitions() -> None:
    first, second = Partition(FIRST, 0), Partition(SECOND, 0)
    seen: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    keepers = keepers_with(Consumer(lambda: seen.set_result((len(first.taken), len(second.taken)))), first, second)
    task = asyncio.create_task(keepers._read())
    assert await seen == (1, 1)
    task.cancel()
    await asyncio.wait((task,))
