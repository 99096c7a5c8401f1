"""A member of a group at the moments that real clients time too seldom: a stop while it joins, a fetch that outlasts a
rebalance. The client is a double."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaConnectionError
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.membership.group_member import GroupMember
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.status.tail import Tail
from logqueue_consumers.writing.outgoing import Outgoing, Refusal

from logqueue.jobs.topics import TopicNames


class Connections:
    async def close(self) -> None:
        return


class Joining:
    """A consumer whose join is under way until it is cancelled; stopping, it still tells of an assignment."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._client = Connections()
        self._listener: Any = None

    def subscribe(self, *, topics: list[str], listener: Any) -> None:
        assert topics
        self._listener = listener

    async def start(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KafkaConnectionError("connection lost while joining") from None

    async def stop(self) -> None:
        await self._listener.on_partitions_assigned([TopicPartition("jobs.q", 0)])


class IdleEngine:
    """No job runs; what it is told of partitions is not what is tested here."""

    def __init__(self) -> None:
        self.outbox = self.records = self
        self.changed = asyncio.Event()

    def stop(self, partitions: Any) -> None:
        assert not list(partitions)

    async def wait_idle(self, *_: Any) -> bool:
        return True

    async def drain(self, _: float) -> bool:
        return True


async def never_written(_: list[Outgoing]) -> list[Refusal]:
    raise AssertionError("nothing has moved")


def member_with(consumer: Joining) -> GroupMember:
    return GroupMember(
        IdleEngine(),  # type: ignore[arg-type]
        lambda: consumer,
        None,  # type: ignore[arg-type]
        group="g",
        topics={"jobs.q": None},  # type: ignore[dict-item]
        orders={},
        limits=WorkerLimits(),
        hurry=asyncio.Event(),
        on_ready=lambda: pytest.fail("a member that stops is not ready"),
        tail=None,
        status_ends=list,
        unwritten_since_ms=lambda: 0,
        write=never_written,
    )


def test_a_member_stopped_while_it_joins_leaves_no_task_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        consumer, stopping = Joining(), asyncio.Event()
        member = member_with(consumer)
        running = asyncio.ensure_future(member.run(stopping))
        await consumer.begun.wait()
        stopping.set()
        await running
        await member.stop(drain_timeout_s=1.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with caplog.at_level(logging.ERROR, logger="asyncio"):
        asyncio.run(main())
    assert not caplog.records


TP = TopicPartition("jobs.q", 0)
END = 10


class Assigned:
    """A consumer with one partition of ten records: `getmany` drains when told, `seek` moves as aiokafka's does."""

    def __init__(self) -> None:
        self.position = 0
        self.fetching = asyncio.Event()
        self.drain = asyncio.Event()
        self.at = "never"
        self._client = Connections()
        self._listener: Any = None
        # What aiokafka knows of the partition: its state is the consumer itself.
        self._subscription = SimpleNamespace(
            is_assigned=lambda tp: tp == TP,
            subscription=SimpleNamespace(assignment=SimpleNamespace(state_value=lambda _: self)),
        )
        self.has_valid_position = True
        self.highwater = self.lso = END
        self.has_bad_neighbour = False

    def reach(self, moment: str) -> None:
        """The rebalance has come so far: the fetch that waits is answered at the moment of the test."""
        if moment == self.at:
            self.drain.set()

    def subscribe(self, *, topics: list[str], listener: Any) -> None:
        self._listener = listener

    async def start(self) -> None:
        await self._listener.on_partitions_assigned([TP])

    async def stop(self) -> None:
        return

    async def getmany(self, *partitions: TopicPartition, **_: Any) -> dict[TopicPartition, list[Any]]:
        if partitions and TP not in partitions:  # none named: all
            await asyncio.sleep(0)
            return {}
        self.fetching.set()
        await self.drain.wait()
        records = [SimpleNamespace(offset=offset) for offset in range(self.position, END)]
        self.position = END
        self.drain.clear()
        if self.has_bad_neighbour:
            self.has_bad_neighbour = False
            self.drain.set()  # the next fetch is answered at once
            raise CorruptRecordException("of another partition, which came after this one")
        return {TP: records} if records else {}

    async def commit(self, _: Any) -> None:
        self.reach("while it commits")
        for _turn in range(5):
            await asyncio.sleep(0)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        assert partition == TP
        self.position = offset


class TakingEngine(IdleEngine):
    """Takes what it is given, by offset."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []
        self.opened = 0
        self.changed.set()

    def fetch_again(self, partition: OwnedPartition) -> int:
        return partition.window.high

    def wants(self, partition: OwnedPartition) -> bool:
        return not partition.is_stopping

    def has_room(self) -> bool:
        return True

    def end_waits(self) -> None:
        """Nobody is waited for."""

    def deliver(self, _: OwnedPartition, records: list[Any]) -> None:
        self.taken += [record.offset for record in records]

    def passed(self, partition: OwnedPartition, position: int) -> None:
        assert partition.is_stopping or len(self.taken) >= position, "no record is passed over"

    def stop(self, partitions: Any) -> None:
        for partition in partitions:
            partition.is_stopping = True

    def running(self, _: OwnedPartition) -> list[Any]:
        return []

    ended_jobs = running

    def open(self, _: OwnedPartition) -> None:
        self.opened += 1

    def release(self, _: OwnedPartition) -> None:
        return

    def forget(self, _: OwnedPartition, gone: set[Any]) -> None:
        assert not gone

    def close(self, _: OwnedPartition) -> None:
        return


class Committed:
    """The group's offsets as the log tells them."""

    def __init__(self, consumer: Assigned) -> None:
        self._consumer = consumer

    async def read(self, _: str, partitions: Any) -> dict[TopicPartition, tuple[int, str]]:
        self._consumer.reach("while offsets are read")
        for _turn in range(5):
            await asyncio.sleep(0)
        return dict.fromkeys(partitions, (0, ""))


def taking_member(
    consumer: Assigned, engine: TakingEngine, on_ready: Callable[[], None], *, tail: Any = None
) -> GroupMember:
    names = TopicNames()
    return GroupMember(
        engine,  # type: ignore[arg-type]
        lambda: consumer,
        Committed(consumer),  # type: ignore[arg-type]
        group="g",
        topics={TP.topic: names.role(TP.topic)},  # type: ignore[dict-item]
        orders={"q": "tenant"},
        limits=WorkerLimits(),
        hurry=asyncio.Event(),
        on_ready=on_ready,
        tail=tail,
        status_ends=list,
        unwritten_since_ms=lambda: 0,
        write=never_written,
    )


@pytest.mark.parametrize("moment", ["while offsets are read", "while it commits", "when all is taken up"])
def test_a_fetch_that_outlasts_a_rebalance_loses_no_record(moment: str) -> None:
    async def main() -> None:
        consumer, engine, stopping = Assigned(), TakingEngine(), asyncio.Event()
        member = taking_member(consumer, engine, lambda: consumer.reach("when all is taken up"))
        running = asyncio.ensure_future(member.run(stopping))
        async with asyncio.timeout(5):
            await consumer.fetching.wait()
        assert engine.opened == 1
        await member.on_partitions_revoked([TP])
        consumer.at = moment
        await member.on_partitions_assigned([TP])
        async with asyncio.timeout(5):
            while not engine.taken:
                await asyncio.sleep(0)
                if engine.opened == 2:
                    consumer.drain.set()  # whoever fetches from now on is answered
        assert engine.taken == list(range(END))
        stopping.set()
        consumer.drain.set()
        await running

    asyncio.run(main())


def test_a_fetch_that_fails_over_another_partition_loses_no_record() -> None:
    async def main() -> None:
        consumer, engine, stopping = Assigned(), TakingEngine(), asyncio.Event()
        member = taking_member(consumer, engine, lambda: None)
        consumer.has_bad_neighbour = True
        running = asyncio.ensure_future(member.run(stopping))
        async with asyncio.timeout(5):
            await consumer.fetching.wait()
        consumer.drain.set()
        async with asyncio.timeout(5):
            while not engine.taken:
                assert member.lag() == END, "what is lost is not passed"
                await asyncio.sleep(0)
        assert engine.taken == list(range(END))
        stopping.set()
        consumer.drain.set()
        await running

    asyncio.run(main())


class StrangeTail:
    """Finds what nobody has thought of, twice."""

    def __init__(self) -> None:
        self.left = 2

    async def read(self, _: Any) -> Tail:
        if self.left:
            self.left -= 1
            raise ValueError("not enough values to unpack (expected 3, got 2)")
        return Tail({}, {}, (), ())


def test_partitions_are_taken_up_in_the_end_whatever_goes_wrong_first() -> None:
    async def main() -> None:
        consumer, engine, stopping, tail = Assigned(), TakingEngine(), asyncio.Event(), StrangeTail()
        ready = asyncio.Event()
        member = taking_member(consumer, engine, ready.set, tail=tail)
        running = asyncio.ensure_future(member.run(stopping))
        async with asyncio.timeout(5):
            await ready.wait()
        assert (tail.left, set(member.partitions)) == (0, {TP})
        stopping.set()
        consumer.drain.set()
        await running

    asyncio.run(main())
