"""Real Kafka clients under load, as their users tune them for throughput: seconds to produce, seconds to consume."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, Producer
from confluent_kafka import TopicPartition as Assigned
from confluent_kafka.admin import AdminClient, NewTopic

LINGER_MS = 5
BATCH_BYTES = 1_000_000
FETCH_BYTES = 4 << 20
CONSUMED_AT_ONCE = 10_000
PENDING_BATCHES = 8
"""Batches of aiokafka's producer that wait for their acks at a time, for each partition at most one."""
TIMEOUT_SECONDS = 120
ASK_SECONDS = 30
GROUP = "bench"
QUIET = 2
"""Log level: nobody needs to read that a broker has gone which was ended."""


def create_topic(bootstrap: str, name: str, partitions: int) -> None:
    """Make a topic with the log's own settings, and wait until it is there."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": QUIET})
    for made in admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)]).values():
        made.result(timeout=ASK_SECONDS)


class Committed:
    """The sum of a group's positions in a topic, asked again and again."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": QUIET})
        self._group = group
        self._topic = topic

    def __call__(self) -> int:
        (answer,) = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(self._group)]).values()
        found = answer.result(timeout=ASK_SECONDS).topic_partitions
        return sum(max(0, each.offset) for each in found if each.topic == self._topic)


class Sender(Producer):
    """A producer of confluent-kafka for many records, that tells if one of them was not taken in.

    Durable and by tenant, unless the `options` of librdkafka say otherwise.
    """

    def __init__(self, bootstrap: str, options: Mapping[str, object] | None = None) -> None:
        self._failures: list[str] = []
        super().__init__(
            {
                "bootstrap.servers": bootstrap,
                "log_level": QUIET,
                "acks": "all",
                "linger.ms": LINGER_MS,
                "partitioner": "murmur2_random",
                "delivery.report.only.error": True,
                "on_delivery": self._note_failure,
                **(options or {}),
            }
        )

    def put(self, topic: str, value: bytes, key: str | bytes | None = None, **more: Any) -> None:
        """Hand over one record, as soon as there is room for it."""
        while True:
            try:
                return self.produce(topic, value, key, **more)
            except BufferError:
                self.poll(0.01)

    def finish(self, seconds: float = TIMEOUT_SECONDS) -> None:
        """Wait until all are acknowledged. RuntimeError if they are not within `seconds`, or were refused."""
        if left := self.flush(seconds):
            raise RuntimeError(f"{left} records were not acknowledged within {seconds:g} s")
        if self._failures:
            raise RuntimeError(f"{len(self._failures)} records were refused, the first one: {self._failures[0]}")

    def _note_failure(self, error: KafkaError | None, _: object) -> None:
        self._failures.append(str(error))


class Client(Protocol):
    """One client library. RuntimeError or TimeoutError if records are missing at the end."""

    def produce(
        self,
        bootstrap: str,
        topic: str,
        values: Sequence[bytes],
        *,
        count: int,
        partitions: int,
        codec: str,
        acks: int,
    ) -> float:
        """Send `count` records, the values in turn, over the partitions; until all are acknowledged."""
        ...

    def consume(self, bootstrap: str, topic: str, *, partitions: int, count: int) -> float:
        """Read `count` records from the beginning."""
        ...


class Confluent:
    """confluent-kafka (librdkafka)."""

    def produce(
        self,
        bootstrap: str,
        topic: str,
        values: Sequence[bytes],
        *,
        count: int,
        partitions: int,
        codec: str,
        acks: int,
    ) -> float:
        producer = Sender(
            bootstrap,
            {
                "acks": acks,
                "compression.type": codec,
                "batch.size": BATCH_BYTES,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 2_000_000,
            },
        )
        producer.list_topics(topic, timeout=10)
        began = time.perf_counter()
        for number in range(count):
            while True:  # not `put`: a call more for each record is a tenth of what it costs
                try:
                    producer.produce(topic, values[number % len(values)], partition=number % partitions)
                    break
                except BufferError:
                    producer.poll(0.01)
        producer.finish()
        return time.perf_counter() - began

    def consume(self, bootstrap: str, topic: str, *, partitions: int, count: int) -> float:
        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "log_level": QUIET, "group.id": GROUP, "fetch.queue.backoff.ms": 1}
        )
        consumer.assign([Assigned(topic, partition, 0) for partition in range(partitions)])
        seen = 0
        began = time.perf_counter()
        while seen < count:
            messages = consumer.consume(min(CONSUMED_AT_ONCE, count - seen), timeout=10)  # waits for all of them
            if not messages or messages[0].error():
                reason = messages[0].error() if messages else "nothing more within 10 s"
                raise RuntimeError(f"only {seen} of {count} records came: {reason}")
            seen += len(messages)
        took = time.perf_counter() - began
        consumer.close()
        return took


class Aiokafka:
    """aiokafka, in batches: `send` for each record would be its own limit."""

    def produce(
        self,
        bootstrap: str,
        topic: str,
        values: Sequence[bytes],
        *,
        count: int,
        partitions: int,
        codec: str,
        acks: int,
    ) -> float:
        return asyncio.run(_produce(bootstrap, topic, values, count, partitions, codec, acks))

    def consume(self, bootstrap: str, topic: str, *, partitions: int, count: int) -> float:
        return asyncio.run(_consume(bootstrap, topic, partitions, count))


async def _produce(
    bootstrap: str, topic: str, values: Sequence[bytes], count: int, partitions: int, codec: str, acks: int
) -> float:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all" if acks == -1 else acks,
        compression_type=None if codec == "none" else codec,
        linger_ms=LINGER_MS,
        max_batch_size=BATCH_BYTES,
        max_request_size=2 * BATCH_BYTES,
    ) as producer:
        await producer.partitions_for(topic)
        began = time.perf_counter()
        waiting: list[asyncio.Future[object]] = []
        number = filled = 0
        while number < count:
            batch = producer.create_batch()
            while number < count:
                value = values[number % len(values)]
                if batch.append(key=None, value=value, timestamp=None) is None:
                    break
                number += 1
            waiting.append(await producer.send_batch(batch, topic, partition=filled % partitions))
            filled += 1
            if len(waiting) >= PENDING_BATCHES:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
        return time.perf_counter() - began


async def _consume(bootstrap: str, topic: str, partitions: int, count: int) -> float:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, max_partition_fetch_bytes=FETCH_BYTES)
    consumer.assign([TopicPartition(topic, partition) for partition in range(partitions)])
    async with consumer:
        await consumer.seek_to_beginning()
        seen = 0
        began = time.perf_counter()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while seen < count:
                found = await consumer.getmany(timeout_ms=1_000, max_records=CONSUMED_AT_ONCE)
                seen += sum(map(len, found.values()))
        return time.perf_counter() - began


CLIENTS: dict[str, Client] = {"confluent-kafka": Confluent(), "aiokafka": Aiokafka()}
