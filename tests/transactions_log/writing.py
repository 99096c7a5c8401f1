"""Writing transactions into a log, and reading them as a client does, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

from logqueue.records import Record, build_batch, iterate_batches, read_records
from logqueue.records.control import ControlType, parse_marker
from logqueue.storage import AppendResult, LogDirectory, Origin, PartitionLog
from tests.storage.workload import NOW, PLAIN, open_directory


def new_log(folder: Path, **properties: str) -> tuple[LogDirectory, PartitionLog]:
    """A data folder with one log, whose segments are small."""
    directory = open_directory(folder)
    directory.create_topic("plain", partitions=1, properties={"segment.bytes": "500", **properties})
    return directory, directory.logs[PLAIN]


def reopen(folder: Path) -> tuple[LogDirectory, PartitionLog]:
    directory = open_directory(folder)
    return directory, directory.logs[PLAIN]


def produce(
    log: PartitionLog,
    producer: int,
    sequence: int,
    *,
    epoch: int = 0,
    count: int = 1,
    transactional: bool = True,
    version: int = 1,
) -> AppendResult:
    """Append a client's batch."""
    batch = build_batch(
        [Record(timestamp_ms=NOW, value=b"%d/%d" % (producer, sequence + index)) for index in range(count)],
        producer_id=producer,
        producer_epoch=epoch,
        base_sequence=sequence,
        transactional=transactional,
    )
    if transactional and log.open_transaction(producer) is None:
        log.producer_state.verifications.begin(producer, epoch, sequence, epochs_change=version > 1, now_ms=NOW)
    return log.append(batch, leader_epoch=0, now_ms=NOW)


def coordinate(log: PartitionLog, producer: int, *, epoch: int = 0, transactional: bool = True) -> AppendResult:
    """Append a coordinator's batch, which has no sequence."""
    batch = build_batch(
        [Record(timestamp_ms=NOW, value=b"offsets")],
        producer_id=producer,
        producer_epoch=epoch,
        transactional=transactional,
    )
    return log.append(batch, leader_epoch=0, now_ms=NOW, origin=Origin.COORDINATOR)


def end(
    log: PartitionLog, producer: int, *, commit: bool, epoch: int = 0, coordinator_epoch: int = 0, version: int = 1
) -> AppendResult:
    """Append a marker."""
    return log.append_marker(
        producer,
        epoch,
        commit=commit,
        coordinator_epoch=coordinator_epoch,
        leader_epoch=0,
        now_ms=NOW,
        transaction_version=version,
    )


def read_committed(log: PartitionLog, *, offset: int, max_bytes: int = 10_000) -> list[int]:
    """Offsets of the records that a client shows which reads committed records from `offset` to the end (KIP-98).

    The client passes over the batches of a producer from the first offset it was told to the next abort marker.
    """
    shown: list[int] = []
    stable = log.last_stable_offset
    while offset < stable:
        part = log.read(offset=offset, max_bytes=max_bytes, max_offset=stable)
        coming = sorted(log.aborted_transactions(offset, part.next_offset), key=lambda each: each.first_offset)
        aborted: set[int] = set()
        content = log.read_bytes(part)
        for position, header in iterate_batches(content):
            while coming and coming[0].first_offset <= header.last_offset:
                aborted.add(coming.pop(0).producer_id)
            records = list(read_records(content, position))
            if header.is_control:
                marker = parse_marker(records[0])
                assert marker is not None
                if marker.control_type is ControlType.ABORT:
                    aborted.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in aborted):
                shown += [record.offset for record in records if record.offset >= offset]
        assert part.next_offset > offset
        offset = part.next_offset
    return shown
