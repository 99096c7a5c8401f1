"""Transactions of unmodified clients on each engine: commit, abort, fencing, offsets, both versions of the protocol."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as AioPartition
from aiokafka.errors import ProducerFenced
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.broker.wire import Wire
from tests.clients.kafka_python import forgets_sockets
from tests.conftest import Engine
from tests.transactions.producing import until_ended

with warnings.catch_warnings():
    # It reads its schemas through importlib.resources.read_text.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaProducer

WAIT_SECONDS = 30


def create(engine: Engine, topic: str, partitions: int = 2) -> None:
    admin = AdminClient({"bootstrap.servers": engine.bootstrap})
    for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        future.result(WAIT_SECONDS)


def transactional(engine: Engine, transactional_id: str, **config: Any) -> Producer:
    made = Producer({"bootstrap.servers": engine.bootstrap, "transactional.id": transactional_id, **config})
    made.init_transactions(WAIT_SECONDS)
    return made


@contextmanager
def consumer(engine: Engine, group: str, *, isolation: str = "read_committed") -> Iterator[Consumer]:
    config = {
        "bootstrap.servers": engine.bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "isolation.level": isolation,
        "enable.partition.eof": True,
    }
    opened = Consumer(config)
    try:
        yield opened
    finally:
        opened.close()


def read_all(engine: Engine, topic: str, *, isolation: str = "read_committed", partitions: int = 2) -> list[bytes]:
    """Everything a consumer of this isolation level gets to see, in the order of each partition."""
    with Wire(engine.bootstrap) as wire:
        until_ended(wire, topic)
    found: list[bytes] = []
    with consumer(engine, f"{topic}-{isolation}", isolation=isolation) as source:
        source.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
        ends = 0
        while ends < partitions:
            message = source.poll(WAIT_SECONDS)
            assert message is not None, "no end of the partition was told"
            error = message.error()
            if error is None:
                found.append(message.value())
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ends += 1
    return found


def test_librdkafka_commits_and_aborts(engine: Engine, prefix: str) -> None:
    create(engine, prefix)
    producer = transactional(engine, prefix)
    for n in range(6):
        producer.begin_transaction()
        for partition in range(2):
            producer.produce(prefix, f"{n}-{partition}".encode(), partition=partition)
        if n % 3 == 2:
            producer.flush(WAIT_SECONDS)
            producer.abort_transaction(WAIT_SECONDS)
        else:
            producer.commit_transaction(WAIT_SECONDS)
    kept = [n for n in range(6) if n % 3 != 2]
    assert sorted(read_all(engine, prefix)) == sorted(f"{n}-{p}".encode() for n in kept for p in range(2))
    assert len(read_all(engine, prefix, isolation="read_uncommitted")) == 12


def test_librdkafka_fences_an_older_producer_of_the_same_id(engine: Engine, prefix: str) -> None:
    create(engine, prefix)
    older = transactional(engine, prefix)
    older.begin_transaction()
    older.produce(prefix, b"never", partition=0)
    assert older.flush(WAIT_SECONDS) == 0
    newer = transactional(engine, prefix)
    newer.begin_transaction()
    newer.produce(prefix, b"kept", partition=0)
    newer.commit_transaction(WAIT_SECONDS)
    with pytest.raises(KafkaException) as refused:
        older.commit_transaction(WAIT_SECONDS)
    assert refused.value.args[0].code() == KafkaError._FENCED
    assert read_all(engine, prefix) == [b"kept"]


def test_librdkafka_moves_records_from_topic_to_topic_once(engine: Engine, prefix: str) -> None:
    source_topic, target = f"{prefix}-in", f"{prefix}-out"
    transactional_id = f"{target}-producer"
    create(engine, source_topic)
    create(engine, target)
    feeder = Producer({"bootstrap.servers": engine.bootstrap})
    for n in range(20):
        feeder.produce(source_topic, str(n).encode(), partition=n % 2)
    assert feeder.flush(WAIT_SECONDS) == 0
    producer = transactional(engine, transactional_id)
    moved = attempts = 0
    with consumer(engine, prefix) as source:
        source.subscribe([source_topic])
        while moved < 20:
            batch = [m for m in source.consume(10, 0.3) if m.error() is None]
            if not batch:
                continue
            attempts += 1
            producer.begin_transaction()
            for message in batch:
                producer.produce(target, message.value(), partition=message.partition())
            positions = source.position(source.assignment())
            producer.send_offsets_to_transaction(positions, source.consumer_group_metadata(), WAIT_SECONDS)
            if attempts % 2:
                producer.abort_transaction(WAIT_SECONDS)
                committed = source.committed(source.assignment(), WAIT_SECONDS)
                for position in committed:
                    offset = position.offset if position.offset >= 0 else OFFSET_BEGINNING
                    source.seek(TopicPartition(source_topic, position.partition, offset))
            else:
                producer.commit_transaction(WAIT_SECONDS)
                moved += len(batch)
    assert sorted(map(int, read_all(engine, target))) == list(range(20))


def test_aiokafka_commits_aborts_and_is_fenced(engine: Engine, prefix: str) -> None:
    create(engine, prefix)
    group = f"{prefix}-group"

    async def run() -> None:
        # aiokafka leaves futures behind with the error that it also raised; asyncio would report each of them.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with AIOKafkaProducer(bootstrap_servers=engine.bootstrap, transactional_id=prefix) as older:
            async with older.transaction():
                await older.send_and_wait(prefix, b"a", partition=0)
                await older.send_offsets_to_transaction({AioPartition(prefix, 0): 1}, group)
            with pytest.raises(ZeroDivisionError):
                async with older.transaction():
                    await older.send_and_wait(prefix, b"b", partition=1)
                    raise ZeroDivisionError
            async with (
                AIOKafkaProducer(bootstrap_servers=engine.bootstrap, transactional_id=prefix) as newer,
                newer.transaction(),
            ):
                await newer.send_and_wait(prefix, b"c", partition=0)
            with pytest.raises(ProducerFenced):
                async with older.transaction():
                    await older.send_and_wait(prefix, b"d", partition=0)

    asyncio.run(asyncio.wait_for(run(), 2 * WAIT_SECONDS))
    gc.collect()
    assert sorted(read_all(engine, prefix)) == [b"a", b"c"]
    with consumer(engine, group) as reader:
        assert reader.committed([TopicPartition(prefix, 0)], WAIT_SECONDS)[0].offset == 1


@forgets_sockets
def test_kafka_python_commits_and_aborts(engine: Engine, prefix: str) -> None:
    create(engine, prefix)
    producer = KafkaProducer(bootstrap_servers=engine.bootstrap, transactional_id=prefix)
    try:
        producer.init_transactions()
        for value, commit in ((b"a", True), (b"b", False), (b"c", True)):
            producer.begin_transaction()
            producer.send(prefix, value, partition=0).get(WAIT_SECONDS)
            (producer.commit_transaction if commit else producer.abort_transaction)()
    finally:
        producer.close(5)
    assert read_all(engine, prefix) == [b"a", b"c"]
