"""Fetches that follow one another: every record is read once and in order, and what is not ordinary is aiokafka's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import CorruptRecordException, KafkaConnectionError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from logqueue.jobs.own_request import Answer
from logqueue.jobs.steady_fetch import FetchingEnded, News, fetch_steadily
from tests.loops import in_loop

TOPIC = "t"
NODES = (1, 2)
PARTITIONS = [TopicPartition(TOPIC, number) for number in range(4)]
OUT_OF_RANGE = 1
WAIT_S = 10.0


class Cluster:
    """Two brokers that answer a fetch as soon as there is something, and a client's knowledge of them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._metadata_max_age_ms = 60_000
        self.cluster = self
        self.lead({tp.partition: NODES[tp.partition % 2] for tp in PARTITIONS})
        self.starts = dict.fromkeys(range(len(PARTITIONS)), 0)
        self.ends = dict.fromkeys(range(len(PARTITIONS)), 0)
        self.grown = asyncio.Event()
        self.is_broken = False
        self.damaged: set[int] = set()
        self.plain: list[tuple[int, dict[int, int]]] = []
        """Fetches in aiokafka's way: node, and offsets by partition."""
        self.steady: list[tuple[int, dict[int, int]]] = []
        """Fetches that followed: node, and what they named."""

    def lead(self, leaders: dict[int, int]) -> None:
        self._partitions = {TOPIC: leaders}

    def leader_for_partition(self, tp: TopicPartition) -> int:
        return self._partitions[tp.topic][tp.partition]

    def broker_metadata(self, node: int) -> Any:
        return SimpleNamespace(node=node)

    def force_metadata_update(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def append(self, number: int, count: int = 1) -> None:
        self.ends[number] += count
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()

    async def send(self, node: int, request: Any) -> Any:
        if isinstance(request, OffsetRequest):
            found = [(number, 0, -1, self.starts[number]) for _, parts in request._topics for number, _ in parts]
            return SimpleNamespace(API_VERSION=1, topics=[(TOPIC, found)])
        self.plain.append((node, _offsets(request)))
        return await self._fetch(node, request)

    async def send_news(self, node: int, request: FetchRequest, news: Callable[[], News | None]) -> Any:
        if (changed := news()) is None:
            return None
        self.steady.append((node, {number: offset for _, parts in changed for number, offset, _ in parts}))
        return await self._fetch(node, request)

    async def _fetch(self, node: int, request: FetchRequest) -> Answer:
        wanted = _offsets(request)
        for _ in range(2):
            if self.is_broken:
                raise KafkaConnectionError("cut")
            if found := [
                part for number, offset in sorted(wanted.items()) if (part := self._read(node, number, offset))
            ]:
                return Answer(11, [(TOPIC, found)])
            try:
                async with asyncio.timeout(request._max_wait_ms / 1000):
                    await self.grown.wait()
            except TimeoutError:
                break
        return Answer(11, [])

    def _read(self, node: int, number: int, offset: int) -> tuple[Any, ...] | None:
        end = self.ends[number]
        if self._partitions[TOPIC][number] != node or offset == end:
            return None
        if not self.starts[number] <= offset <= end:
            return (number, OUT_OF_RANGE, -1, -1, -1, None, -1, b"")
        records = _batch(offset, end)
        if number in self.damaged:
            records = records[:-1] + bytes([records[-1] ^ 1])
        return (number, 0, end, end, 0, [], -1, records)


def _offsets(request: FetchRequest) -> dict[int, int]:
    return {number: offset for _, parts in request.topics for number, offset, _ in parts}


def _batch(start: int, end: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for place in range(end - start):
        assert builder.append(place, 0, None, b"%d" % (start + place), []) is not None
    batch = builder.build()
    batch[:8] = start.to_bytes(8, "big")  # the base offset, which the checksum leaves out
    return bytes(batch)


class Bench:
    def __init__(self, cluster: Cluster, subscription: SubscriptionState, fetcher: Any) -> None:
        self.cluster = cluster
        self.subscription = subscription
        self.fetcher = fetcher

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.subscription.assign_from_user(partitions)
        for tp in partitions:
            self.fetcher.seek_to(tp, 0)

    async def read(self, count: int, *of: TopicPartition) -> dict[int, list[int]]:
        """So many records: offsets by partition."""
        got: dict[int, list[int]] = {}
        async with asyncio.timeout(WAIT_S):
            while sum(map(len, got.values())) < count:
                for tp, records in (await self.fetcher.fetched_records(of, 1.0)).items():
                    got.setdefault(tp.partition, []).extend(record.offset for record in records)
        return got

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not is_so():
                await asyncio.sleep(0)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    cluster, subscription = Cluster(), SubscriptionState()
    fetcher = Fetcher(
        cluster,
        subscription,
        fetch_max_wait_ms=50,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        retry_backoff_ms=1,
    )
    sessions: Any = dict.fromkeys(NODES, SimpleNamespace(is_open=True))
    fetch_steadily(SimpleNamespace(_fetcher=fetcher), cluster.send_news, sessions)
    made = Bench(cluster, subscription, fetcher)
    made.assign(PARTITIONS)
    try:
        yield made
    finally:
        async with asyncio.timeout(WAIT_S):
            await fetcher.close()


@in_loop
async def test_of_each_broker_aiokafka_asks_once_and_then_only_what_has_changed_is_named() -> None:
    async with bench() as made:
        cluster = made.cluster
        for offset in range(20):
            for number in (0, 1):
                cluster.append(number)
            assert await made.read(2) == {0: [offset], 1: [offset]}
        assert sorted(cluster.plain) == [(1, {0: 0, 2: 0}), (2, {1: 0, 3: 0})]
        named = [offsets for node, offsets in cluster.steady if node == 1 and offsets]
        assert named == [{0: offset} for offset in range(1, len(named) + 1)]


@in_loop
async def test_what_was_fetched_is_taken_before_more_is_fetched_but_others_do_not_wait_for_ever() -> None:
    async with bench() as made:
        cluster = made.cluster
        cluster.append(0)
        await made.until(lambda: bool(made.fetcher._records))
        cluster.append(0, 5)
        assert await made.read(1, PARTITIONS[0]) == {0: [0]}
        assert await made.read(5, PARTITIONS[0]) == {0: [1, 2, 3, 4, 5]}
        cluster.append(0)
        await made.until(lambda: bool(made.fetcher._records))
        cluster.append(2)  # of the same broker; nobody asks for what is there of 0
        assert await made.read(1, PARTITIONS[2]) == {2: [0]}
        assert await made.read(1, PARTITIONS[0]) == {0: [6]}


@in_loop
async def test_reading_goes_on_from_where_somebody_seeks() -> None:
    async with bench() as made:
        made.cluster.append(0, 3)
        assert await made.read(3) == {0: [0, 1, 2]}
        made.fetcher.seek_to(PARTITIONS[0], 1)
        assert await made.read(2) == {0: [1, 2]}
        made.cluster.append(0)
        await made.until(lambda: bool(made.fetcher._records))
        made.fetcher.seek_to(PARTITIONS[0], 2)  # what was fetched is not what is wanted
        assert await made.read(2) == {0: [2, 3]}


@in_loop
async def test_what_is_paused_is_not_read_until_it_goes_on() -> None:
    async with bench() as made:
        made.cluster.append(0)
        assert await made.read(1) == {0: [0]}
        made.subscription.pause(PARTITIONS[0])
        made.cluster.append(0)
        made.cluster.append(2)
        assert await made.read(1) == {2: [0]}
        made.subscription.resume(PARTITIONS[0])
        assert await made.read(1) == {0: [1]}


@in_loop
async def test_an_offset_that_is_gone_is_looked_up_in_aiokafkas_way() -> None:
    async with bench() as made:
        made.cluster.append(0, 2)
        assert await made.read(2) == {0: [0, 1]}
        made.cluster.starts[0] = 5
        made.cluster.append(0, 6)
        assert await made.read(3) == {0: [5, 6, 7]}


@in_loop
async def test_another_leader_is_asked_once_it_is_known() -> None:
    async with bench() as made:
        made.cluster.append(0)
        assert await made.read(1) == {0: [0]}
        made.cluster.lead({0: 2, 1: 2, 2: 1, 3: 2})
        made.cluster.append(0)
        assert await made.read(1) == {0: [1]}
        assert made.cluster.plain[-1][0] == 2 or (2, {0: 1, 1: 0, 3: 0}) in made.cluster.plain


@in_loop
async def test_a_connection_that_breaks_costs_no_record() -> None:
    async with bench() as made:
        made.cluster.append(0)
        assert await made.read(1) == {0: [0]}
        made.cluster.is_broken = True
        made.cluster.append(0)
        fetches = len(made.cluster.plain)
        await made.until(lambda: len(made.cluster.plain) > fetches)
        made.cluster.is_broken = False
        assert await made.read(1) == {0: [1]}


@in_loop
async def test_another_assignment_ends_what_runs_for_the_one_before() -> None:
    async with bench() as made:
        made.cluster.append(0)
        assert await made.read(1) == {0: [0]}
        made.assign(PARTITIONS[1:2])
        made.cluster.append(0)
        made.cluster.append(1)
        assert await made.read(1) == {1: [0]}
        assert made.cluster.plain[-1] == (2, {1: 0})


@in_loop
async def test_who_waits_for_records_is_told_what_the_coordinator_cannot_mend() -> None:
    async with bench() as made:
        waiting = asyncio.ensure_future(made.fetcher.fetched_records((), WAIT_S))
        await made.until(lambda: bool(made.fetcher._fetch_waiters))
        made.subscription.abort_waiters(KafkaConnectionError("for good"))
        with pytest.raises(KafkaConnectionError, match="for good"):
            await waiting
        assert await made.fetcher.fetched_records((), 0.01) == {}


@in_loop
async def test_of_a_partition_that_can_be_read_nothing_is_passed_over_while_another_cannot() -> None:
    async with bench() as made:
        made.cluster.damaged.add(2)
        made.cluster.append(2)

        async def read_on() -> dict[int, list[int]]:
            async with asyncio.timeout(WAIT_S):
                while True:
                    with suppress(CorruptRecordException):
                        return await made.read(1)

        for offset in range(10):
            made.cluster.append(0)
            assert await read_on() == {0: [offset]}
        with pytest.raises(CorruptRecordException):  # and all the same it is told
            await made.read(1)
        made.cluster.damaged.clear()
        assert await read_on() == {2: [0]}


@pytest.mark.parametrize("reason", ["KeyError", "cancelled"])
@in_loop
async def test_who_waits_for_records_is_told_when_fetching_has_ended(reason: str) -> None:
    async with bench() as made:
        await made.until(lambda: bool(made.cluster.plain))
        if reason == "cancelled":
            made.fetcher.error_future.cancel()
        else:
            made.cluster.lead({})  # what aiokafka's fetcher does not foresee
            made.fetcher.seek_to(PARTITIONS[0], 0)
        with pytest.raises(FetchingEnded, match=reason):
            await made.read(1)
