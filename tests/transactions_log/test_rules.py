"""What a log lets transactional producers and their coordinator do, and what it remembers (KIP-98, KIP-890)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from logqueue.storage import InvalidProducerEpoch, InvalidTxnState, OutOfOrderSequence, PartitionLog
from logqueue.storage.errors import TransactionCoordinatorFenced
from tests.storage.workload import NOW
from tests.transactions_log.writing import coordinate, end, new_log, produce, read_committed


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PartitionLog]:
    directory, log = new_log(tmp_path)
    yield log
    directory.close()


def aborted(log: PartitionLog, start: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
    found = log.aborted_transactions(start, log.last_stable_offset if stop is None else stop)
    return [(each.producer_id, each.first_offset) for each in found]


# The last stable offset


def test_without_transactions_everything_is_stable(log: PartitionLog) -> None:
    produce(log, 1, 0, transactional=False, count=3)
    assert log.last_stable_offset == 3


def test_the_last_stable_offset_is_the_start_of_the_oldest_open_transaction(log: PartitionLog) -> None:
    produce(log, 1, 0, transactional=False)
    produce(log, 2, 0)
    produce(log, 3, 0)
    produce(log, 2, 1)
    assert (log.last_stable_offset, log.open_transaction(2), log.open_transaction(3)) == (1, 1, 2)
    end(log, 2, commit=True)
    assert (log.last_stable_offset, log.open_transaction(2)) == (2, None)
    end(log, 3, commit=False)
    assert log.last_stable_offset == log.log_end_offset == 6


def test_a_transaction_counts_as_undecided_until_its_marker_can_be_read(log: PartitionLog) -> None:
    produce(log, 1, 0)
    produce(log, 2, 0)
    end(log, 1, commit=True)
    assert log.first_unstable_offset(2) == 0
    assert log.first_unstable_offset(3) == 1
    end(log, 2, commit=True)
    assert log.first_unstable_offset(3) == 1
    assert log.first_unstable_offset(4) is None


def test_the_last_stable_offset_is_never_below_the_start_of_the_log(log: PartitionLog) -> None:
    produce(log, 1, 0, count=5)
    log.delete_records_before(3)
    assert log.last_stable_offset == 3
    assert log.first_unstable_offset(5) == 3


def test_a_marker_without_a_transaction_is_written_and_changes_nothing_that_is_read(log: PartitionLog) -> None:
    result = end(log, 1, commit=False)
    assert (result.base_offset, log.log_end_offset, log.last_stable_offset) == (0, 1, 1)
    assert aborted(log) == []


# Aborted transactions


def test_aborted_transactions_are_told_to_who_reads_their_offsets(log: PartitionLog) -> None:
    produce(log, 1, 0, count=2)  # 0, 1
    produce(log, 2, 0)  # 2
    end(log, 1, commit=False)  # 3
    end(log, 2, commit=True)  # 4
    produce(log, 1, 2)  # 5
    end(log, 1, commit=False)  # 6
    assert aborted(log) == [(1, 0), (1, 5)]
    assert aborted(log, 0, 1) == [(1, 0)]
    assert aborted(log, 3, 5) == [(1, 0)]
    assert aborted(log, 4, 5) == []
    assert aborted(log, 4, 6) == [(1, 5)]
    assert read_committed(log, offset=0) == [2]


def test_an_aborted_transaction_is_found_from_segments_before_its_marker(log: PartitionLog) -> None:
    produce(log, 1, 0)
    for number in range(30):
        produce(log, 2, number, transactional=False)
    end(log, 1, commit=False)
    assert log.segment_count > 3
    assert aborted(log, 0, 1) == [(1, 0)]
    assert aborted(log, 15, 16) == [(1, 0)]
    assert read_committed(log, offset=0, max_bytes=100) == list(range(1, 31))


def test_an_index_file_exists_only_beside_the_segment_of_an_abort_marker(tmp_path: Path) -> None:
    directory, log = new_log(tmp_path)
    produce(log, 1, 0)
    for number in range(30):
        produce(log, 2, number, transactional=False)
    end(log, 1, commit=False)
    active = log.segments[-1].base_offset
    directory.close()
    assert [path.name for path in (tmp_path / "plain-0").glob("*.txnindex")] == [f"{active:020d}.txnindex"]


# Sequences and epochs of batches


def test_a_plain_batch_in_an_open_transaction_is_refused(log: PartitionLog) -> None:
    produce(log, 1, 0)
    with pytest.raises(InvalidTxnState):
        produce(log, 1, 1, transactional=False)
    with pytest.raises(InvalidTxnState):
        coordinate(log, 1, transactional=False)
    end(log, 1, commit=True)
    assert produce(log, 1, 1, transactional=False).base_offset == 2


def test_a_repeated_batch_of_a_transaction_is_answered_with_its_first_offset(log: PartitionLog) -> None:
    first = produce(log, 1, 0, count=2)
    end(log, 1, commit=True)
    again = produce(log, 1, 0, count=2)
    assert again.is_duplicate
    assert again[:2] == first[:2]
    assert log.open_transaction(1) is None


def test_an_unknown_producer_starts_anywhere_in_version_1_and_at_zero_in_version_2(log: PartitionLog) -> None:
    assert produce(log, 1, 17, version=1).base_offset == 0
    with pytest.raises(OutOfOrderSequence):
        produce(log, 2, 17, version=2)
    assert produce(log, 2, 0, version=2).base_offset == 1
    assert produce(log, 3, 17, transactional=False).base_offset == 2


def test_in_version_2_a_producer_whose_marker_raised_its_epoch_starts_at_zero(log: PartitionLog) -> None:
    produce(log, 1, 0, count=4, version=2)
    end(log, 1, commit=True, epoch=1, version=2)
    with pytest.raises(InvalidProducerEpoch):
        produce(log, 1, 4, version=2)
    with pytest.raises(OutOfOrderSequence):
        produce(log, 1, 4, epoch=1, version=2)
    assert produce(log, 1, 0, epoch=1, version=2).base_offset == 5


def test_in_version_1_sequences_go_on_behind_a_marker_of_the_same_epoch(log: PartitionLog) -> None:
    produce(log, 1, 0, count=4)
    end(log, 1, commit=False)
    assert produce(log, 1, 4).base_offset == 5


def test_a_late_batch_of_an_aborted_epoch_is_refused_by_the_marker_that_raised_it(log: PartitionLog) -> None:
    produce(log, 1, 0)
    end(log, 1, commit=False, epoch=1)
    with pytest.raises(InvalidProducerEpoch):
        produce(log, 1, 1)
    with pytest.raises(InvalidProducerEpoch):
        coordinate(log, 1)
    assert log.last_stable_offset == log.log_end_offset


def test_a_coordinators_batches_have_no_sequence_and_open_a_transaction_too(log: PartitionLog) -> None:
    coordinate(log, 1)
    coordinate(log, 1)
    assert log.last_stable_offset == 0
    end(log, 1, commit=True)
    assert log.last_stable_offset == 3


# Epochs of markers


def test_in_version_1_a_marker_has_at_least_the_epoch_of_the_producer(log: PartitionLog) -> None:
    produce(log, 1, 0, epoch=3)
    with pytest.raises(InvalidProducerEpoch):
        end(log, 1, commit=True, epoch=2)
    assert log.last_stable_offset == 0
    end(log, 1, commit=True, epoch=3)


def test_in_version_2_a_marker_has_a_larger_epoch_than_the_producer(log: PartitionLog) -> None:
    produce(log, 1, 0, epoch=3, version=2)
    for epoch in (2, 3):
        with pytest.raises(InvalidProducerEpoch):
            end(log, 1, commit=True, epoch=epoch, version=2)
    end(log, 1, commit=True, epoch=4, version=2)
    assert log.last_stable_offset == 2


def test_in_version_2_a_marker_may_be_repeated_while_nothing_new_was_begun(log: PartitionLog) -> None:
    produce(log, 1, 0, epoch=3, version=2)
    end(log, 1, commit=True, epoch=4, version=2)
    end(log, 1, commit=True, epoch=4, version=2)
    produce(log, 1, 0, epoch=4, version=2)
    with pytest.raises(InvalidProducerEpoch):
        end(log, 1, commit=False, epoch=4, version=2)
    assert log.open_transaction(1) == 3


def test_a_marker_of_a_coordinator_that_was_replaced_is_refused(log: PartitionLog) -> None:
    produce(log, 1, 0)
    end(log, 1, commit=True, coordinator_epoch=5)
    produce(log, 1, 1)
    with pytest.raises(TransactionCoordinatorFenced):
        end(log, 1, commit=True, coordinator_epoch=4)
    assert log.open_transaction(1) == 2
    end(log, 1, commit=True, coordinator_epoch=5)


def test_a_refused_marker_leaves_nothing_in_the_log(log: PartitionLog) -> None:
    produce(log, 1, 0, epoch=3)
    with pytest.raises(InvalidProducerEpoch):
        end(log, 1, commit=False, epoch=0)
    assert (log.log_end_offset, aborted(log, 0, 1)) == (1, [])


# Forgetting


def test_a_producer_is_forgotten_after_its_time_but_not_with_an_open_transaction(log: PartitionLog) -> None:
    produce(log, 1, 0)
    produce(log, 2, 0)
    end(log, 2, commit=True)
    assert log.producer_state.expire(now_ms=NOW + 1000, after_ms=1000) == 1
    assert [entry.producer_id for entry in log.producer_state] == [1]
    end(log, 1, commit=False)
    assert log.producer_state.expire(now_ms=NOW + 1000, after_ms=1000) == 1
    assert log.last_stable_offset == log.log_end_offset
    assert aborted(log) == [(1, 0)]


def _ask(log: PartitionLog, sequence: int, *, epoch: int = 0, version: int = 1) -> None:
    """The coordinator is asked about a batch of producer 1, and says no."""
    log.producer_state.verifications.begin(1, epoch, sequence, epochs_change=version > 1, now_ms=NOW)


def test_no_sequence_is_taken_above_the_lowest_that_was_refused(log: PartitionLog) -> None:
    _ask(log, 3)
    _ask(log, 5)
    with pytest.raises(OutOfOrderSequence):
        produce(log, 1, 5)
    with pytest.raises(OutOfOrderSequence):
        produce(log, 1, 4, transactional=False)
    assert produce(log, 1, 3, count=2).base_offset == 0
    assert produce(log, 1, 5).base_offset == 2


def test_a_refused_sequence_of_an_older_epoch_holds_nothing_back(log: PartitionLog) -> None:
    _ask(log, 3)
    assert produce(log, 1, 9, epoch=1).base_offset == 0


def test_a_marker_ends_what_was_asked_for_but_not_what_the_next_transaction_asks(log: PartitionLog) -> None:
    produce(log, 1, 0, count=2, transactional=False)
    _ask(log, 1)
    with pytest.raises(OutOfOrderSequence):
        produce(log, 1, 2, transactional=False)
    end(log, 1, commit=False)
    assert produce(log, 1, 2, transactional=False).base_offset == 3
    _ask(log, 0, epoch=1, version=2)
    end(log, 1, commit=False, epoch=1, version=2)  # of the transaction before: it carries the next one's epoch
    with pytest.raises(OutOfOrderSequence):
        produce(log, 1, 1, epoch=1, transactional=False)


def test_what_was_asked_for_is_forgotten_with_idle_producers(log: PartitionLog) -> None:
    _ask(log, 3)
    log.producer_state.expire(now_ms=NOW + 1_000, after_ms=1_000)
    assert produce(log, 1, 5, transactional=False).base_offset == 0
