"""Writes records to the log in whole batches until they are durable: acks=all, idempotent, no future per record.

A send ends when every record is acknowledged; a log that is away is waited for. A producer whose session broke (the log
forgot its id, an epoch was fenced) is replaced and what was not acknowledged is sent again, in order within its
partition, so a record may be written twice but never lost. Records the log refuses for good are handed back.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import RecordMetadata

from logqueue.jobs.connection import start_client, stop_client
from logqueue.jobs.errors import BrokerUnreachable
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.settings import Settings
from logqueue_consumers.writing.outgoing import Outgoing as Outgoing
from logqueue_consumers.writing.outgoing import Refusal as Refusal

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S = 5.0
FIRST_BACKOFF_S = 0.1

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_REFUSED = (*_TOO_LARGE, TopicAuthorizationFailedError, InvalidTopicError)


class BatchProducer:
    """One idempotent producer that is replaced when its session breaks."""

    def __init__(self, settings: Settings, *, batch_bytes: int, max_backoff_s: float) -> None:
        self._settings = settings
        self._batch_bytes = batch_bytes
        self._max_backoff_s = max_backoff_s
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[str, int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._is_stopping = False

    async def start(self) -> None:
        """Connect; BrokerUnreachable when no broker answers within the settings' patience."""
        self._producer = await start_client(self._make, self._settings)

    async def stop(self) -> None:
        """Close; records that are not acknowledged within a few seconds are given up (their senders were cancelled)."""
        self._is_stopping = True
        if self._producer is not None:
            await stop_client(self._producer, timeout_s=STOP_TIMEOUT_S)

    async def learn_partitions(self, *topics: str) -> None:
        """Look up how many partitions these topics have; `partition_of` needs it."""
        for topic in topics:
            if topic not in self._partitions:
                self._partitions[topic] = len(await self._current().partitions_for(topic))

    def partition_of(self, topic: str, key: bytes) -> int:
        """The partition that Kafka's default partitioner gives a key (murmur2)."""
        return partition_of(key, self._partitions[topic])

    def end_of(self, topic: str, partition: int) -> int | None:
        """One above the last offset there of a `send` that is over; None if there was none yet.

        While a `send` goes on its caller does not know that anything of it is written.
        """
        return self._ends.get((topic, partition))

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has; `learn_partitions` comes first."""
        return self._partitions[topic]

    async def send(self, records: Sequence[Outgoing]) -> list[Refusal]:
        """Write the records and wait until all are durable; returns those the log refuses for good.

        Waits as long as the log is away: callers bound what they have under way and cancel. A record without a
        partition belongs to a topic that does not exist (see TopicPartitions.place): it is refused.
        """
        wanted: dict[tuple[str, int | None], list[int]] = defaultdict(list)
        for index, record in enumerate(records):
            wanted[record.topic, record.partition].append(index)
        refusals: list[Refusal] = []
        ends: dict[tuple[str, int], int] = {}
        queues: dict[tuple[str, int], list[int]] = {}
        for (topic, partition), places in wanted.items():
            if partition is None:
                refusals += [Refusal(index, UnknownTopicOrPartitionError(topic)) for index in places]
            else:
                queues[topic, partition] = places
        backoff_s = FIRST_BACKOFF_S
        while queues:
            producer = self._current()
            results = await asyncio.gather(
                *(
                    self._send_queue(producer, records, target, queue, refusals, ends)
                    for target, queue in queues.items()
                )
            )
            queues = {target: queue for target, queue in zip(queues, results, strict=True) if queue}
            if queues:
                await asyncio.sleep(backoff_s)
                backoff_s = min(self._max_backoff_s, backoff_s * 2)
                await self._replace(producer)
        for target, end in ends.items():
            self._ends[target] = max(self._ends.get(target, 0), end)
        return refusals

    async def _send_queue(
        self,
        producer: AIOKafkaProducer,
        records: Sequence[Outgoing],
        target: tuple[str, int],
        queue: list[int],
        refusals: list[Refusal],
        ends: dict[tuple[str, int], int],
    ) -> list[int]:
        """Send one partition's records in order; returns those to send again with another producer."""
        sent: list[tuple[Sequence[int], Awaitable[RecordMetadata]]] = []
        position = 0
        try:
            while position < len(queue):
                batch = producer.create_batch()
                end = _fill(batch, records, queue, position)
                future = await producer.send_batch(batch, target[0], partition=target[1])
                sent.append((queue[position:end], future))
                position = end
        except KafkaError as error:
            log.warning("batch not sent", topic=target[0], partition=target[1], error=repr(error))
        outcomes = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        for (indexes, _), outcome in zip(sent, outcomes, strict=True):
            if not isinstance(outcome, BaseException):
                queue = queue[len(indexes) :]
                if outcome.offset >= 0:  # -1: a batch sent twice, whose first copy counts
                    ends[target] = max(ends.get(target, 0), outcome.offset + len(indexes))
                continue
            if not isinstance(outcome, KafkaError):
                raise outcome
            return await self._after_failure(records, target, queue, indexes, outcome, refusals)
        return queue

    async def _after_failure(
        self,
        records: Sequence[Outgoing],
        target: tuple[str, int],
        queue: list[int],
        failed: Sequence[int],
        error: KafkaError,
        refusals: list[Refusal],
    ) -> list[int]:
        """What remains of a partition's queue after its first batch failed for good."""
        log.warning("batch refused", topic=target[0], partition=target[1], records=len(failed), error=repr(error))
        if not isinstance(error, _REFUSED):
            return queue
        if len(failed) == 1 or not isinstance(error, _TOO_LARGE):
            refusals.extend(Refusal(index, error) for index in failed)
            return queue[len(failed) :]
        # One record too many: each goes alone, with a session of its own because the refused batch broke its order.
        for place, index in enumerate(failed):
            try:
                alone = await start_client(self._make, self._settings)
            except BrokerUnreachable as unreachable:
                log.warning("log not reachable", error=str(unreachable))
                return queue[place:]
            try:
                record = records[index]
                batch = alone.create_batch()
                _fill(batch, records, [index], 0)
                await (await alone.send_batch(batch, record.topic, partition=record.partition))
            except _REFUSED as refused:
                refusals.append(Refusal(index, refused))
            except KafkaError:
                return queue[place:]
            finally:
                await stop_client(alone, timeout_s=STOP_TIMEOUT_S)
        return queue[len(failed) :]

    async def _replace(self, broken: AIOKafkaProducer) -> None:
        """Start a new session unless someone else did already."""
        if self._producer is not broken or self._is_stopping:
            return
        await stop_client(broken, timeout_s=STOP_TIMEOUT_S)
        try:
            self._producer = await start_client(self._make, self._settings)
        except BrokerUnreachable as error:
            log.warning("log not reachable", error=str(error))

    def _make(self) -> AIOKafkaProducer:
        compression = self._settings.compression
        return AIOKafkaProducer(
            **self._settings.connection(),
            acks="all",
            enable_idempotence=True,
            compression_type=None if compression == "none" else compression,
            max_batch_size=self._batch_bytes,
        )

    def _current(self) -> AIOKafkaProducer:
        assert self._producer is not None, "start() comes first"
        return self._producer


def _fill(batch: object, records: Sequence[Outgoing], queue: Sequence[int], position: int) -> int:
    """Append records to a batch until it is full; returns the position after the last one taken (at least one)."""
    append = batch.append  # type: ignore[attr-defined]
    start = position
    while position < len(queue):
        record = records[queue[position]]
        if append(timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=record.headers) is None:
            assert position > start, "aiokafka takes the first record of a batch whatever its size"
            break
        position += 1
    return position
