"""Records as transactional batches, one list per partition, with sequence numbers (KIP-98). No IO."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from logqueue_consumers.writing.outgoing import Outgoing

COMPRESSIONS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
SEQUENCE_LIMIT = 2**31
_MAGIC = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it goes over the wire, and the places of its records in what was to be written."""

    content: bytes | bytearray
    places: tuple[int, ...]


class Session:
    """A producer id and epoch, with the next sequence number of each partition."""

    __slots__ = ("epoch", "producer_id", "sequences")

    def __init__(self, producer_id: int, epoch: int) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self.sequences: dict[TopicPartition, int] = {}


def build_batches(
    session: Session,
    records: Sequence[Outgoing],
    *,
    compression: str,
    batch_bytes: int,
    max_records: int | None = None,
) -> dict[TopicPartition, list[Batch]]:
    """Batches of at most `batch_bytes` (one record may be larger) and `max_records`, in order within each partition.

    Takes the sequence numbers from the session. Every record has a partition.
    """
    queues: dict[TopicPartition, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        assert record.partition is not None, "placed before"
        queues[record.topic, record.partition].append(place)
    built = {}
    for place, queue in queues.items():
        tp = TopicPartition(*place)
        built[tp] = list(_batches(session, tp, records, queue, COMPRESSIONS[compression], batch_bytes, max_records))
    return built


def _batches(
    session: Session,
    tp: TopicPartition,
    records: Sequence[Outgoing],
    queue: list[int],
    compression: int,
    batch_bytes: int,
    max_records: int | None,
) -> Iterator[Batch]:
    position = 0
    while position < len(queue):
        sequence = session.sequences.get(tp, 0)
        builder = DefaultRecordBatchBuilder(
            _MAGIC,
            compression,
            is_transactional=1,
            producer_id=session.producer_id,
            producer_epoch=session.epoch,
            base_sequence=sequence,
            batch_size=batch_bytes,
        )
        append = builder.append
        start = position
        limit = len(queue) if max_records is None else min(len(queue), start + max_records)
        while position < limit:
            record = records[queue[position]]
            if append(position - start, record.timestamp_ms, record.key, record.value, record.headers) is None:
                assert position > start, "the first record of a batch is taken whatever its size"
                break
            position += 1
        session.sequences[tp] = (sequence + position - start) % SEQUENCE_LIMIT
        yield Batch(builder.build(), tuple(queue[start:position]))
