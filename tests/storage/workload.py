"""Batches, folders and readings that the tests of this room share."""

from __future__ import annotations

import shutil
from pathlib import Path

from logqueue.clock import ManualClock
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch, check_crc, iterate_batches, read_records
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
