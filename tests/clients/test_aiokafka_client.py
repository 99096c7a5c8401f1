"""aiokafka, unmodified, against the embedded broker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

from tests.broker.wire import SENT_AT_MS
from tests.engines.embedded import embedded

WAIT_SECONDS = 30


async def read(consumer: AIOKafkaConsumer, count: int) -> list[ConsumerRecord[Any, Any]]:
    """The next `count` records."""
    records: list[ConsumerRecord[Any, Any]] = []
    async with asyncio.timeout(WAIT_SECONDS):
        while len(records) < count:
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records.extend(batch)
    return records


async def create(bootstrap: str, topic: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        await admin.close()


async def fill(bootstrap: str, topic: str, count: int, *, partitions: int) -> None:
    """Produce count records, spread evenly."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for i in range(count):
            await producer.send(topic, str(i).encode(), partition=i % partitions)
        await producer.flush()


def group_member(bootstrap: str, group: str, **config: Any) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        heartbeat_interval_ms=200,
        **config,
    )


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_keys_headers_and_values_come_back_in_every_compression(bootstrap: str, prefix: str, codec: str | None) -> None:
    sent = [
        (b"k", b"v" * 1000, [("h", b"1"), ("h", b"2")]),
        (None, b"", []),
        (b"tombstone", None, [("empty", b"")]),
    ]

    async def run() -> list[tuple[Any, ...]]:
        await create(bootstrap, prefix, 1)
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", compression_type=codec) as producer:
            for key, value, headers in sent:
                metadata = await producer.send_and_wait(prefix, value, key, headers=headers)
            assert metadata.offset == len(sent) - 1
        consumer = AIOKafkaConsumer(prefix, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        async with consumer:
            return [(r.key, r.value, list(r.headers)) for r in await read(consumer, len(sent))]

    assert asyncio.run(run()) == sent


def test_two_members_share_the_partitions_and_the_second_takes_over_when_the_first_leaves(
    bootstrap: str, prefix: str
) -> None:
    async def run() -> None:
        await create(bootstrap, prefix, 4)
        await fill(bootstrap, prefix, 40, partitions=4)
        first, second = group_member(bootstrap, prefix), group_member(bootstrap, prefix)
        first.subscribe([prefix])
        await first.start()
        seen = [int(r.value) for r in await read(first, 40)]
        await first.commit()
        second.subscribe([prefix])
        await second.start()
        async with asyncio.timeout(WAIT_SECONDS):
            while not (len(first.assignment()) == len(second.assignment()) == 2):
                await first.getmany(timeout_ms=100)
                await second.getmany(timeout_ms=100)
        assert first.assignment() | second.assignment() == {TopicPartition(prefix, p) for p in range(4)}
        await first.stop()
        async with asyncio.timeout(WAIT_SECONDS):
            while len(second.assignment()) < 4:
                await second.getmany(timeout_ms=100)
        await fill(bootstrap, prefix, 4, partitions=4)
        taken = [int(r.value) for r in await read(second, 4)]
        await second.stop()
        assert sorted(seen) == list(range(40))
        assert sorted(taken) == list(range(4))

    asyncio.run(run())


def test_a_group_resumes_from_its_commit_after_the_broker_was_reopened(tmp_path: Path, prefix: str) -> None:
    async def consume(bootstrap: str, count: int, metadata: str) -> list[int]:
        consumer = group_member(bootstrap, prefix)
        consumer.subscribe([prefix])
        async with consumer:
            values = [int(r.value) for r in await read(consumer, count)]
            position = TopicPartition(prefix, 0)
            await consumer.commit({position: (values[count - 1] + 1, metadata)})
            return values

    with embedded(tmp_path) as bootstrap:
        asyncio.run(create(bootstrap, prefix, 1))
        asyncio.run(fill(bootstrap, prefix, 10, partitions=1))
        assert asyncio.run(consume(bootstrap, 10, "first"))[-1] == 9
    with embedded(tmp_path) as bootstrap:
        asyncio.run(fill(bootstrap, prefix, 3, partitions=1))
        assert asyncio.run(consume(bootstrap, 3, "second")) == [0, 1, 2]

        async def offsets() -> tuple[int, str]:
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await admin.start()
            try:
                found = (await admin.list_consumer_group_offsets(prefix))[TopicPartition(prefix, 0)]
                return found.offset, found.metadata
            finally:
                await admin.close()

        assert asyncio.run(offsets()) == (3, "second")


def test_an_idempotent_producer_writes_each_record_once_in_order(bootstrap: str, prefix: str) -> None:
    async def run() -> list[int]:
        await create(bootstrap, prefix, 1)
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=1) as producer:
            sends = [await producer.send(prefix, str(i).encode(), partition=0) for i in range(500)]
            await asyncio.gather(*sends)
        consumer = AIOKafkaConsumer(prefix, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
        async with consumer:
            return [int(r.value) for r in await read(consumer, 500)]

    assert asyncio.run(run()) == list(range(500))


def test_a_topic_is_created_by_the_first_producer(bootstrap: str, prefix: str) -> None:
    async def run() -> int:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            metadata = await producer.send_and_wait(prefix, b"x")
            return metadata.offset

    assert asyncio.run(run()) == 0


def test_offsets_are_found_by_time_and_at_both_ends(bootstrap: str, prefix: str) -> None:
    async def run() -> None:
        await create(bootstrap, prefix, 1)
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            for i in range(10):
                await producer.send_and_wait(prefix, b"x", timestamp_ms=SENT_AT_MS + i * 1000)
        position = TopicPartition(prefix, 0)
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            assert await consumer.beginning_offsets([position]) == {position: 0}
            assert await consumer.end_offsets([position]) == {position: 10}
            found = await consumer.offsets_for_times({position: SENT_AT_MS + 4_500})
            assert (found[position].offset, found[position].timestamp) == (5, SENT_AT_MS + 5_000)
            assert await consumer.offsets_for_times({position: SENT_AT_MS + 10_000}) == {position: None}

    asyncio.run(run())


def test_the_admin_client_creates_describes_grows_and_deletes_topics(bootstrap: str, prefix: str) -> None:
    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(prefix, 2, 1, topic_configs={"retention.ms": "1000"})])
            again = await admin.create_topics([NewTopic(prefix, 2, 1)])
            assert again.topic_errors[0][1] == TopicAlreadyExistsError.errno
            assert prefix in await admin.list_topics()
            await admin.create_partitions({prefix: NewPartitions(3)})
            described = (await admin.describe_topics([prefix]))[0]
            assert len(described["partitions"]) == 3
            await admin.delete_topics([prefix])
            assert prefix not in await admin.list_topics()
            gone = await admin.delete_topics([prefix])
            assert gone.topic_error_codes[0][1] == UnknownTopicOrPartitionError.errno
        finally:
            await admin.close()

    asyncio.run(run())


def test_the_admin_client_lists_describes_and_deletes_groups(bootstrap: str, prefix: str) -> None:
    async def run() -> None:
        await create(bootstrap, prefix, 1)
        consumer = group_member(bootstrap, prefix)
        consumer.subscribe([prefix])
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            async with consumer:
                await consumer.getmany(timeout_ms=200)
                assert (prefix, "consumer") in [tuple(g) for g in await admin.list_consumer_groups()]
                group = (await admin.describe_consumer_groups([prefix]))[0].groups[0]
                assert group[1:4] == (prefix, "Stable", "consumer")
            group = (await admin.describe_consumer_groups([prefix]))[0].groups[0]
            assert group[2] == "Empty"
        finally:
            await admin.close()

    asyncio.run(run())
