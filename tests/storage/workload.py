"""Batches, folders and readings that the tests of this room share."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from logqueue.clock import ManualClock
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch, check_crc, iterate_batches, read_records
from logqueue.records.batch import HEADER_SIZE, LENGTH_PREFIX, compute_crc
from logqueue.records.record import write_record
from logqueue.storage import Environment, LogDirectory, PartitionLog

NOW = 1_700_000_000_000
PLAIN = TopicPartition("plain", 0)
IDEMPOTENT = TopicPartition("idempotent", 0)
DOOMED = TopicPartition("doomed", 0)


def batch_of(number: int, *, count: int = 1, size: int = 60, **options: int) -> bytearray:
    """A batch whose content tells its number."""
    records = [
        Record(timestamp_ms=NOW + number, key=b"%d" % number, value=b"%d.%d " % (number, index) + b"v" * size)
        for index in range(count)
    ]
    return build_batch(records, **options)  # type: ignore[arg-type]


def batch_that_tells(max_timestamp: int, *records: Record, deltas: Sequence[tuple[int, int]]) -> bytearray:
    """A batch from NOW on whose header tells any largest time, with any deltas of times and offsets in its records."""
    body = bytearray()
    for record, (timestamp_delta, offset_delta) in zip(records, deltas, strict=True):
        write_record(body, record, timestamp_delta=timestamp_delta, offset_delta=offset_delta)
    batch = build_batch([record._replace(timestamp_ms=NOW) for record in records])[:HEADER_SIZE] + body
    struct.pack_into(">i", batch, 8, len(batch) - LENGTH_PREFIX)
    struct.pack_into(">q", batch, 35, max_timestamp)
    struct.pack_into(">I", batch, 17, compute_crc(batch, 0, len(batch)))
    return batch


def read_all(log: PartitionLog) -> list[tuple[int, bytes | None]]:
    """Every record that can be read, as (offset, value); checks checksums and rising offsets on the way."""
    found: list[tuple[int, bytes | None]] = []
    for chunk in log.iterate_batches(offset=log.log_start_offset, chunk_bytes=1000):
        for position, header in iterate_batches(chunk):
            check_crc(chunk, position, header)
            found += [(record.offset, record.value) for record in read_records(chunk, position, header)]
    offsets = [offset for offset, _ in found if offset >= log.log_start_offset]
    assert offsets == list(range(log.log_start_offset, log.log_end_offset))
    return found


def open_directory(folder: Path, environment: Environment | None = None) -> LogDirectory:
    return LogDirectory.open(folder, clock=ManualClock(time_ms=NOW), environment=environment)


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
