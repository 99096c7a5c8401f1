"""Records as a consumer of ours is given them: small, and made in C. Knows aiokafka's fetcher.

aiokafka makes a dataclass with a dictionary of eleven fields for each record. That costs as much as reading it from its
batch, and again when it is dropped, long after it has left the processor's cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords

from logqueue.jobs.headers import compact_headers


class Record(msgspec.Struct, frozen=True, gc=False):
    """A consumed record, with the fields of aiokafka's that anybody here asks for."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """Milliseconds since the epoch."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class _LeanRecords(PartitionRecords):  # type: ignore[misc]
    def __iter__(self) -> Iterator[Record]:
        records: Iterator[Record] = self._records_iterator  # a call of Python less for each record
        return records

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Record:
        headers = record.headers
        return Record(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            compact_headers(headers) if headers else (),
        )


class _Fetched(OrderedDict[TopicPartition, Any]):
    """What a fetcher keeps until it is asked for: records not read yet, or errors."""

    def __setitem__(self, tp: TopicPartition, fetched: Any) -> None:
        if type(fetched) is FetchResult:
            fetched._partition_records.__class__ = _LeanRecords
        super().__setitem__(tp, fetched)


def lean_records(consumer: AIOKafkaConsumer) -> AIOKafkaConsumer:
    """The consumer itself, which hands out `Record`s once it has started. It must be one without deserializers."""
    start = consumer.start

    async def start_lean() -> None:
        await start()
        consumer._fetcher._records = _Fetched(consumer._fetcher._records)

    consumer.start = start_lean
    return consumer
