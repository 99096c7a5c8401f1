"""Idempotent producers: what follows, what is a duplicate, what is refused, and that a restart remembers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.records import Record, build_batch, parse_header
from logqueue.records.batch import MAX_SEQUENCE
from logqueue.records.control import ControlType, EndTransactionMarker, marker_record
from logqueue.storage import (
    AppendResult,
    InvalidProducerEpoch,
    InvalidTxnState,
    LogDirectory,
    Origin,
    OutOfOrderSequence,
    PartitionLog,
)
from logqueue.storage.producer_snapshot import format_snapshot, parse_snapshot
from logqueue.storage.producer_state import ProducerState
from tests.storage.workload import NOW, PLAIN, open_directory


@pytest.fixture
def log(tmp_path: Path) -> PartitionLog:
    return new_directory(tmp_path).logs[PLAIN]


def new_directory(folder: Path) -> LogDirectory:
    directory = open_directory(folder)
    directory.create_topic("plain", partitions=1, properties={"segment.bytes": "400"})
    return directory


def produce(log: PartitionLog, sequence: int, *, count: int = 1, epoch: int = 0, producer: int = 7) -> AppendResult:
    batch = build_batch(
        [Record(timestamp_ms=NOW, value=b"v")] * count,
        producer_id=producer,
        producer_epoch=epoch,
        base_sequence=sequence,
    )
    return log.append(batch, leader_epoch=0, now_ms=NOW)


def test_batches_in_sequence_are_appended(log: PartitionLog) -> None:
    assert produce(log, 0, count=3).base_offset == 0
    assert produce(log, 3).base_offset == 3
    assert produce(log, 0, producer=8).base_offset == 4


def test_any_of_the_last_five_batches_is_answered_with_its_first_offset(log: PartitionLog) -> None:
    first = [produce(log, 2 * number, count=2) for number in range(6)]
    for number in range(1, 6):
        again = produce(log, 2 * number, count=2)
        assert again.is_duplicate
        assert again[:2] == first[number][:2]
    assert log.log_end_offset == 12


def test_an_older_duplicate_is_out_of_order(log: PartitionLog) -> None:
    for number in range(6):
        produce(log, number)
    with pytest.raises(OutOfOrderSequence):
        produce(log, 0)


def test_a_gap_is_out_of_order_and_changes_nothing(log: PartitionLog) -> None:
    produce(log, 0)
    with pytest.raises(OutOfOrderSequence):
        produce(log, 2)
    assert produce(log, 1).base_offset == 1


def test_an_unknown_producer_starts_anywhere(log: PartitionLog) -> None:
    assert produce(log, 1234).base_offset == 0
    assert produce(log, 1235).base_offset == 1


def test_sequences_go_on_at_zero_after_the_largest(log: PartitionLog) -> None:
    produce(log, MAX_SEQUENCE - 1, count=2)
    assert produce(log, 0).base_offset == 2
    wrapping = produce(log, 1, count=1)
    assert wrapping.base_offset == 3
    assert produce(log, 0).is_duplicate


def test_a_batch_may_wrap_in_its_middle(log: PartitionLog) -> None:
    produce(log, MAX_SEQUENCE, count=3)
    assert produce(log, 2).base_offset == 3
    assert produce(log, MAX_SEQUENCE, count=3).is_duplicate


def test_a_new_epoch_starts_at_zero_and_fences_the_old_one(log: PartitionLog) -> None:
    produce(log, 0)
    with pytest.raises(OutOfOrderSequence):
        produce(log, 1, epoch=1)
    assert produce(log, 0, epoch=1).base_offset == 1
    with pytest.raises(InvalidProducerEpoch):
        produce(log, 1, epoch=0)


def test_a_plain_batch_inside_an_open_transaction_is_refused(log: PartitionLog) -> None:
    batch = build_batch(
        [Record(timestamp_ms=NOW)], producer_id=7, producer_epoch=0, base_sequence=0, transactional=True
    )
    log.append(batch, leader_epoch=0, now_ms=NOW)
    with pytest.raises(InvalidTxnState):
        produce(log, 1)


def test_a_restart_remembers_producers(tmp_path: Path) -> None:
    directory = new_directory(tmp_path)
    for number in range(10):
        produce(directory.logs[PLAIN], number)
    directory.close()
    directory = open_directory(tmp_path)
    log = directory.logs[PLAIN]
    assert produce(log, 9).is_duplicate
    with pytest.raises(OutOfOrderSequence):
        produce(log, 11)
    assert produce(log, 10).base_offset == 10
    directory.close()


def test_snapshots_stay_for_the_last_two_segments_and_for_what_a_recovery_would_check(tmp_path: Path) -> None:
    directory = new_directory(tmp_path)
    log = directory.logs[PLAIN]

    def names() -> list[int]:
        directory.purge()
        return sorted(int(path.stem) for path in (tmp_path / "plain-0").glob("*.snapshot"))

    for number in range(16):
        produce(log, number)
    assert names() == [5, 10, 15]
    log.flush()
    log.advance_recovery_point(force=True)
    for number in range(16, 30):
        produce(log, number)
    assert names() == [15, 20, 25]
    for _ in range(2):
        directory.close()
        directory = open_directory(tmp_path)
        assert names() == [20, 25, 30]
    directory.close()


def test_idle_producers_are_forgotten_but_not_in_a_transaction(log: PartitionLog) -> None:
    produce(log, 0, producer=1)
    state = log.producer_state
    header = parse_header(
        build_batch([Record(timestamp_ms=NOW)], producer_id=2, producer_epoch=0, base_sequence=0, transactional=True)
    )
    state.update(header)
    assert state.expire(now_ms=NOW + 999, after_ms=1000) == 0
    assert state.expire(now_ms=NOW + 1000, after_ms=1000) == 1
    assert [entry.producer_id for entry in state] == [2]
    assert state.first_open_transaction == 0


def test_a_marker_ends_the_transaction_and_is_replayed(tmp_path: Path) -> None:
    directory = new_directory(tmp_path)
    log = directory.logs[PLAIN]
    marker = EndTransactionMarker(ControlType.COMMIT, 4)
    data = build_batch([Record(timestamp_ms=NOW)], producer_id=2, producer_epoch=1, base_sequence=0, transactional=True)
    log.append(data, leader_epoch=0, now_ms=NOW, origin=Origin.COORDINATOR)
    assert log.producer_state.first_open_transaction == 0
    control = build_batch(
        [marker_record(marker, timestamp_ms=NOW)],
        producer_id=2,
        producer_epoch=1,
        transactional=True,
        control=True,
    )
    log.append(control, leader_epoch=0, now_ms=NOW, origin=Origin.COORDINATOR)
    directory.close()
    (tmp_path / ".kafka_cleanshutdown").unlink()
    (tmp_path / "plain-0/00000000000000000002.snapshot").unlink()
    directory = open_directory(tmp_path)
    entry = directory.logs[PLAIN].producer_state.get(2)
    assert entry is not None
    assert (entry.coordinator_epoch, entry.transaction_start, entry.last_sequence) == (4, -1, 0)
    directory.close()


@given(
    st.dictionaries(
        st.integers(0, 2**62),
        st.tuples(st.integers(0, 32766), st.integers(0, MAX_SEQUENCE), st.integers(1, 50), st.booleans()),
        max_size=8,
    )
)
def test_a_snapshot_gives_back_the_last_batch_of_each_producer(
    producers: dict[int, tuple[int, int, int, bool]],
) -> None:
    state = ProducerState()
    for producer_id, (epoch, sequence, count, transactional) in producers.items():
        batch = build_batch(
            [Record(timestamp_ms=NOW)] * count,
            base_offset=100,
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=sequence,
            transactional=transactional,
        )
        state.update(parse_header(batch))
    again = parse_snapshot(format_snapshot(state))
    assert again is not None
    for entry in state:
        other = again.get(entry.producer_id)
        assert other is not None
        assert (entry.epoch, entry.transaction_start, list(entry.batches), entry.last_timestamp_ms) == (
            other.epoch,
            other.transaction_start,
            list(other.batches),
            other.last_timestamp_ms,
        )
    assert len(again) == len(state)
