"""Writes what a keeper has decided: one Kafka transaction per batch, under one transactional id. Shell over aiokafka.

`fence` ends whatever a former owner had open and refuses everything that it may still try (KIP-98). After any error it
is unknown whether a transaction was committed: the writer is then of no use until `fence` has been called again, and
its owner has read the topic to its end.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, KafkaError, ProducerFenced

from logqueue.errors import LogqueueError
from logqueue.jobs.connection import start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue_consumers.writing.outgoing import Outgoing

log = structlog.get_logger(__name__)

WRITE_TIMEOUT_S = 20.0
TRANSACTION_TIMEOUT_MS = 30_000
"""After which the log aborts what a dead owner left open, if nobody takes over."""
STOP_TIMEOUT_S = 2.0
BATCH_BYTES = 512 * 1024
MAX_REQUEST_BYTES = 2 * 1024 * 1024
ABORT_TIMEOUT_S = 2.0

Offsets = Mapping[TopicPartition, int]


class NotOwner(LogqueueError):
    """Another process has taken over: its transactions count, ours are refused."""


class NotWritten(LogqueueError):
    """Whether the transaction was committed is unknown (or known: it was not); fence and read before the next one."""


class TransactionalWriter:
    """The one writer of a keeper's partition."""

    def __init__(self, settings: Settings, *, transactional_id: str, group: str) -> None:
        self._settings = settings
        self._id = transactional_id
        self._group = group
        self._producer: AIOKafkaProducer | None = None

    @property
    def is_fenced(self) -> bool:
        """Whether former owners are shut out and this one may write."""
        return self._producer is not None

    async def fence(self) -> None:
        """Become the owner of the transactional id. Raises BrokerUnreachable."""
        await self.stop()
        self._producer = await start_client(self._make, self._settings)

    async def write(self, records: Sequence[Outgoing], *, offsets: Offsets | None = None) -> list[int]:
        """Commit the records (each with its partition), and the group's offsets, in one transaction.

        Returns the offset of each record. Raises NotOwner, or NotWritten; both end the fence.
        """
        producer = self._producer
        assert producer is not None, "fence() comes first"
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await producer.begin_transaction()
                found = await self._send(producer, records)
                if offsets:
                    await producer.send_offsets_to_transaction(dict(offsets), self._group)
                await producer.commit_transaction()
        except BaseException as error:
            self._producer = None
            await _give_up(producer)
            if isinstance(error, (ProducerFenced, InvalidProducerEpoch)):
                raise NotOwner(f"{self._id} belongs to another process now") from None
            # IllegalOperation: aiokafka learnt between two batches that its producer is shut out.
            if isinstance(error, (KafkaError, IllegalOperation, OSError, TimeoutError)):
                raise NotWritten(f"a transaction of {self._id} failed: {error!r}") from error
            raise
        return found

    async def stop(self) -> None:
        """Close the connection; a transaction that is open ends with the next owner, or by its timeout."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_client(producer, timeout_s=STOP_TIMEOUT_S)

    async def _send(self, producer: AIOKafkaProducer, records: Sequence[Outgoing]) -> list[int]:
        places: dict[tuple[str, int], list[int]] = defaultdict(list)
        for place, record in enumerate(records):
            assert record.partition is not None, "records come with their partitions"
            places[record.topic, record.partition].append(place)
        offsets = [-1] * len(records)
        sent = []
        for (topic, partition), queue in places.items():
            position = 0
            while position < len(queue):
                batch, start = producer.create_batch(), position
                while position < len(queue):
                    record = records[queue[position]]
                    at, headers = record.timestamp_ms, record.headers
                    if batch.append(timestamp=at, key=record.key, value=record.value, headers=headers) is None:
                        break
                    position += 1
                sent.append((queue[start:position], await producer.send_batch(batch, topic, partition=partition)))
        results = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        for (queue, _), result in zip(sent, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            if result.offset < 0:
                raise KafkaError("a batch was written twice: where its first copy lies is unknown")
            for number, place in enumerate(queue):
                offsets[place] = result.offset + number
        return offsets

    def _make(self) -> AIOKafkaProducer:
        compression = self._settings.compression
        return AIOKafkaProducer(
            **self._settings.connection(),
            transactional_id=self._id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            compression_type=None if compression == "none" else compression,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_REQUEST_BYTES,
        )


async def _give_up(producer: AIOKafkaProducer) -> None:
    """Abort if that is still possible, so that readers need not wait for the timeout; then close."""
    _hear(producer)
    try:
        async with asyncio.timeout(ABORT_TIMEOUT_S):
            await producer.abort_transaction()
    except (KafkaError, IllegalOperation, OSError, TimeoutError, AssertionError, asyncio.InvalidStateError) as error:
        log.debug("transaction not aborted: the next owner ends it", error=repr(error))
    _hear(producer)
    await stop_client(producer, timeout_s=STOP_TIMEOUT_S)


def _hear(producer: AIOKafkaProducer) -> None:
    """aiokafka leaves errors in futures of its own, and asyncio complains of those that nobody asked for."""
    waiters = [producer._txn_manager._transaction_waiter]
    for batches in producer._message_accumulator._batches.values():
        waiters += [batch._drain_waiter for batch in batches]
    for waiter in waiters:
        if waiter is not None and waiter.done() and not waiter.cancelled():
            waiter.exception()
