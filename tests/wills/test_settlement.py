"""What settling a will does in the log, and what it must leave alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from logqueue_consumers.transactions.wire import LogClient
from logqueue_consumers.wills.settlement import leave, settle
from logqueue_consumers.wills.will import Membership, Will

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.topics import TopicSpec
from tests.consumers.conftest import Log, until
from tests.wills.test_killed_workers import members

TIMEOUT_MS = 60_000


@asynccontextmanager
async def topic_of(log: Log) -> AsyncIterator[str]:
    spec = TopicSpec(name=f"{log.name}.things", partitions=1, configs={})
    await ensure_topics(log.settings, [spec])
    yield spec.name


@asynccontextmanager
async def writing(log: Log, transactional_id: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=log.settings.bootstrap,
        transactional_id=transactional_id,
        transaction_timeout_ms=TIMEOUT_MS,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def joined(log: Log, group: str, topic: str) -> AsyncIterator[str]:
    """A member that is never heard of again for as long as its session lasts."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=log.settings.bootstrap,
        group_id=group,
        session_timeout_ms=TIMEOUT_MS,
        heartbeat_interval_ms=TIMEOUT_MS // 2,
    )
    await consumer.start()
    try:
        yield consumer._coordinator.member_id
    finally:
        await consumer.stop()


async def carried_out(log: Log, will: Will, *, own_id: str | None = None) -> None:
    async def at_once() -> None:
        return

    await settle(will, log.settings, transaction_timeout_ms=TIMEOUT_MS, own_id=own_id, before_leaving=at_once)


async def stable_end(log: Log, topic: str) -> int:
    """Where committed records end."""
    async with AIOKafkaConsumer(
        bootstrap_servers=log.settings.bootstrap, isolation_level="read_committed", group_id=None
    ) as reader:
        place = TopicPartition(topic, 0)
        return int((await reader.end_offsets([place]))[place])


def test_the_place_and_the_transactions_of_the_dead_are_free(log: Log) -> None:
    async def main() -> None:
        async with (
            topic_of(log) as topic,
            joined(log, log.name, topic) as member_id,
            writing(log, f"{log.name}-own") as own,
            writing(log, f"{log.name}-place") as placed,
        ):
            for producer in (own, placed):
                await producer.begin_transaction()
                await producer.send_and_wait(topic, b"x", partition=0)
            assert await stable_end(log, topic) == 0
            place = Membership(group=log.name, member_id=member_id, transactional_ids=(f"{log.name}-place",))
            await carried_out(log, Will(worker="h:1", transactional_id=f"{log.name}-own", memberships=(place,)))
            await until(lambda: stable_end(log, topic), lambda end: end == 4)  # with both markers
            assert await members(log, log.name) == []
            for producer in (own, placed):
                with pytest.raises(KafkaError):
                    await producer.commit_transaction()

    asyncio.run(main())


def test_the_next_owner_of_a_place_is_not_fenced_by_a_will_that_comes_late(log: Log) -> None:
    async def main() -> None:
        async with topic_of(log) as topic, writing(log, f"{log.name}-place") as heir:
            place = Membership(group=log.name, member_id="long gone", transactional_ids=(f"{log.name}-place",))
            await heir.begin_transaction()
            await heir.send_and_wait(topic, b"x", partition=0)
            await carried_out(log, Will(worker="h:1", memberships=(place,)))
            await heir.commit_transaction()
            assert len(await log.read(topic)) == 1

    asyncio.run(main())


def test_who_took_the_transactional_id_over_does_not_fence_itself(log: Log) -> None:
    async def main() -> None:
        async with topic_of(log) as topic, writing(log, f"{log.name}-own") as heir:
            await heir.begin_transaction()
            await heir.send_and_wait(topic, b"x", partition=0)
            await carried_out(log, Will(worker="h:1", transactional_id=f"{log.name}-own"), own_id=f"{log.name}-own")
            await heir.commit_transaction()
            assert len(await log.read(topic)) == 1

    asyncio.run(main())


def test_leaving_a_group_twice_is_no_error(log: Log) -> None:
    async def main() -> None:
        async with topic_of(log) as topic, joined(log, log.name, topic) as member_id:
            client = LogClient(log.settings)
            await client.start()
            try:
                await leave(client, log.name, member_id=member_id)
                await leave(client, log.name, member_id=member_id)
                await leave(client, log.name, instance_id="nobody")
                assert await members(log, log.name) == []
            finally:
                await client.stop()

    asyncio.run(main())
