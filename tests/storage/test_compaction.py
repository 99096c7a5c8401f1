"""Compaction, rule by rule (KIP-71, KIP-58, KIP-98, KIP-354, KIP-534)."""

from __future__ import annotations

from pathlib import Path

import pytest

from logqueue.records import Record
from logqueue.records.batch import DELETE_HORIZON
from logqueue.records.errors import CorruptMessage
from logqueue.storage.compaction.cleaning import CompactionLimits
from logqueue.storage.compaction.compactor import Compactor, NothingToRead, Throttle
from logqueue.storage.compaction.job import CleanedSegment, CompactionDone
from logqueue.storage.compaction.plan import CompactionPlan
from tests.storage.compacted import RETENTION, Compacted, latest
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, batch_that_tells

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def plan(kept: Compacted, *, stable_offset: int | None = None) -> CompactionPlan:
    stable_offset = kept.log.log_end_offset if stable_offset is None else stable_offset
    return kept.cleaning.plan(kept.log, stable_offset=stable_offset, now_ms=kept.now)


def test_of_every_key_the_newest_record_stays_at_its_offset(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    for number in range(9):
        kept.put((f"k{number % 3}", f"v{number}"))
    done = kept.roll_and_compact()
    assert done is not None and done.clean_offset == 9
    assert kept.records() == [(6, "k0", "v6"), (7, "k1", "v7"), (8, "k2", "v8")]
    assert (kept.log.log_start_offset, kept.log.log_end_offset) == (0, 10)
    kept.close()


def test_the_active_segment_is_left_alone(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("k", "1"))
    kept.put(("k", "2"))
    assert kept.compact() is None
    kept.roll()
    kept.put(("k", "3"))
    assert kept.compact() is not None
    assert kept.records() == [(1, "k", "2"), (2, "k", "3")]
    kept.close()


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_keeps_offsets_times_codec_and_leader_epoch(tmp_path: Path, codec: str) -> None:
    kept = Compacted(tmp_path)
    kept.put(*[(f"k{n}", f"v{n}" * 50) for n in range(6)], codec=codec)
    before = kept.batches()[0]
    kept.put(("k0", "new"), ("k3", "new"), ("k5", "new"))
    kept.roll_and_compact()
    header, records = kept.batches()[0]
    assert [record.offset for record in records] == [1, 2, 4]
    assert records == [before[1][offset] for offset in (1, 2, 4)]
    for name in ("base_offset", "last_offset_delta", "leader_epoch", "codec", "base_sequence", "producer_id"):
        assert getattr(header, name) == getattr(before[0], name)
    kept.close()


def test_the_largest_time_is_that_of_the_records_that_stay(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "1"), time=kept.now - 50)
    kept.put(("b", "1"), time=kept.now - 10)
    kept.put(("b", "2"), time=kept.now - 40)
    kept.roll_and_compact()
    assert kept.log.segments[0].max_timestamp == kept.now - 40
    found = kept.log.offset_for_timestamp(kept.now - 45)
    assert found is not None and found.offset == 2
    kept.close()


def test_records_stamped_by_the_broker_keep_their_time(tmp_path: Path) -> None:
    kept = Compacted(tmp_path, message_timestamp_type="LogAppendTime")
    kept.put(("a", "1"), ("b", "1"), ("c", None), time=5)
    stamped = kept.now
    kept.clock.advance(10)
    kept.put(("b", "2"))
    kept.roll_and_compact()
    assert [record.timestamp_ms for record in kept.batches()[0][1]] == [stamped, stamped]
    kept.close()


# Tombstones (KIP-534)


def test_a_tombstone_removes_what_came_before_and_goes_itself_after_its_horizon(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "1"))
    kept.put(("b", "1"))
    kept.put(("a", None))
    kept.roll_and_compact()
    assert kept.records() == [(1, "b", "1"), (2, "a", None)]
    header = kept.batches()[1][0]
    assert header.attributes & DELETE_HORIZON
    assert header.base_timestamp == kept.now + RETENTION

    kept.clock.advance((RETENTION - 1) / 1000)
    kept.roll_and_compact()
    assert (2, "a", None) in kept.records()
    assert kept.batches()[1][0].base_timestamp == header.base_timestamp  # the horizon is set once

    kept.clock.advance(0.001)
    kept.roll_and_compact()
    assert kept.records() == [(1, "b", "1")]
    kept.close()


def test_a_horizon_moves_no_record_time(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", None), ("b", "1"), time=kept.now - 5000)
    kept.put(("c", None), time=kept.now - 7000)
    kept.roll_and_compact()
    times = [record.timestamp_ms for header, records in kept.batches() for record in records]
    assert times[:3] == [kept.now - 5000, kept.now - 5000, kept.now - 7000]
    kept.close()


def test_a_tombstone_past_the_part_that_was_read_gets_a_horizon_too(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(*[(f"k{n}", "1") for n in range(20)])
    kept.put(*[(f"m{n}", "1") for n in range(20)])
    kept.put(("z", None))
    kept.roll_and_compact(memory_bytes=24 * 24)  # room for the keys of the first batch
    assert kept.batches()[2][0].attributes & DELETE_HORIZON
    kept.close()


# Producers (KIP-98, KIP-360)


def test_the_last_batch_of_a_producer_stays_as_a_header(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "1"), ("a", "2"), pid=7, sequence=0)
    kept.put(("a", "3"), ("a", "4"), pid=7, sequence=2)
    kept.put(("a", "5"))
    kept.roll_and_compact()
    assert kept.records() == [(4, "a", "5")]
    header, records = kept.batches()[0]
    assert (header.base_offset, header.last_offset, header.record_count, records) == (2, 3, 0, [])
    assert (header.producer_id, header.base_sequence, header.last_sequence) == (7, 2, 3)
    kept.close()


def test_sequences_go_on_after_compaction_and_a_start_without_snapshots(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "1"), ("a", "2"), pid=7, sequence=0)
    kept.put(("a", "3"))
    kept.roll_and_compact()
    kept.close()
    for path in (tmp_path / "plain-0").glob("*.snapshot"):
        path.unlink()
    kept.open()
    kept.put(("b", "1"), pid=7, sequence=2)
    kept.close()


def test_the_header_goes_once_the_producer_is_forgotten(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "1"), pid=7, sequence=0)
    kept.put(("a", "2"))
    kept.roll_and_compact()
    kept.clock.advance(100_000)
    kept.directory.expire_producers(after_ms=1)
    kept.roll_and_compact()
    assert next(header.base_offset for header, _ in kept.batches()) == 1
    kept.close()


def test_the_batch_that_ends_what_was_compacted_stays_if_only_as_a_header(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", None))
    kept.roll_and_compact()
    kept.clock.advance(RETENTION / 1000)
    kept.put(("b", "1"), ("b", "2"))
    kept.put(("b", "3"), pid=5, sequence=0, txn=1)
    kept.end(5, commit=False)
    kept.roll_and_compact()
    last_of_first = [header for header, _ in kept.batches() if header.last_offset < kept.log.segments[-1].base_offset]
    assert last_of_first[-1].next_offset == kept.log.segments[-1].base_offset
    kept.close()


# Transactions


def test_records_of_aborted_transactions_go_at_once_and_shadow_nothing(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "kept"))
    kept.put(("a", "aborted"), ("b", "aborted"), pid=7, sequence=0, txn=1)
    marker = kept.end(7, commit=False)
    kept.put(("c", "1"))
    before = latest(kept.committed())
    kept.roll_and_compact()
    assert kept.records() == [(0, "a", "kept"), (4, "c", "1")]
    assert kept.markers() == [marker]
    assert latest(kept.committed()) == before == {"a": "kept", "c": "1"}
    kept.close()


def test_a_marker_stays_until_nothing_of_its_transaction_is_left_and_then_for_its_horizon(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "1"), pid=7, sequence=0, txn=1)
    marker = kept.end(7, commit=True)
    kept.put(("a", "2"))
    kept.put(("b", "1"), pid=7, sequence=1, txn=1)
    kept.end(7, commit=True)
    kept.roll_and_compact()  # the record goes, but it was still seen
    header = next(header for header, _ in kept.batches() if header.base_offset == marker)
    assert not header.attributes & DELETE_HORIZON
    kept.roll_and_compact()  # nothing of it was seen: the horizon begins
    header = next(header for header, _ in kept.batches() if header.base_offset == marker)
    assert header.attributes & DELETE_HORIZON
    assert header.base_timestamp == kept.now + RETENTION
    kept.clock.advance(RETENTION / 1000)
    kept.roll_and_compact()
    assert marker not in kept.markers()
    kept.close()


def test_the_index_of_aborted_transactions_goes_with_their_markers_data(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "1"), pid=7, sequence=0, txn=1)
    kept.end(7, commit=False)
    kept.put(("a", "2"))
    kept.roll_and_compact()
    assert kept.files("*.txnindex") == ["00000000000000000000.txnindex"]  # the batch was there, if only as a header
    assert len(kept.log.aborted_transactions(0, 3)) == 1
    kept.clock.advance(100_000)
    kept.directory.expire_producers(after_ms=1)
    kept.roll_and_compact()
    kept.roll_and_compact()
    assert kept.files("*.txnindex") == []
    assert kept.log.aborted_transactions(0, 3) == []
    kept.close()


def test_an_open_transaction_ends_what_may_be_compacted(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "1"))
    kept.put(("a", "2"))
    kept.roll()
    kept.put(("a", "3"), pid=7, sequence=0, txn=1)
    kept.roll()
    kept.put(("a", "4"))
    assert kept.compact() is not None
    assert kept.records() == [(1, "a", "2"), (2, "a", "3"), (3, "a", "4")]
    assert kept.compact() is None
    kept.end(7, commit=True)
    kept.roll_and_compact()
    assert kept.records() == [(3, "a", "4")]
    kept.close()


def test_a_transaction_over_several_segments_is_seen_as_one(tmp_path: Path) -> None:
    kept = Compacted(tmp_path, segment_bytes="300")
    kept.put(("a", "0" * 100))
    for number in range(4):
        kept.put((f"a{number}", "x" * 200), pid=7, sequence=number, txn=1)
    kept.end(7, commit=False)
    kept.put(("a1", "kept"))
    kept.roll_and_compact()
    assert [key for _, key, _ in kept.committed()] == ["a", "a1"]
    assert kept.records() == kept.committed()
    kept.close()


# When (KIP-58, KIP-354)


def test_the_dirty_share_decides(tmp_path: Path) -> None:
    kept = Compacted(tmp_path, min_cleanable_dirty_ratio="0.5")
    kept.put(("a", "x" * 1000))
    kept.roll_and_compact()
    kept.put(("b", "x" * 700))
    kept.roll()
    kept.put(("c", "x"))
    found = plan(kept)
    assert not found.is_due and 0.4 < found.dirty_ratio < 0.5
    kept.put(("b", "x" * 500))
    kept.roll()
    kept.put(("c", "x"))
    assert plan(kept).is_due
    kept.close()


def test_younger_records_than_the_shortest_lag_are_left_alone(tmp_path: Path) -> None:
    kept = Compacted(tmp_path, min_compaction_lag_ms="1000")
    kept.put(("a", "1"))
    kept.roll()
    kept.clock.advance(0.5)
    kept.put(("a", "2"))
    kept.roll()
    kept.put(("a", "3"))
    assert plan(kept).dirty_bytes == 0
    kept.clock.advance(0.5)
    assert plan(kept).end_offset == 1
    kept.clock.advance(0.5)
    assert plan(kept).end_offset == 2
    kept.close()


def test_after_the_longest_lag_the_dirty_share_does_not_matter(tmp_path: Path) -> None:
    kept = Compacted(tmp_path, min_cleanable_dirty_ratio="1", max_compaction_lag_ms="2000")
    kept.put(("a", "1"))
    kept.roll()
    kept.put(("a", "2"))
    kept.clock.advance(2)
    assert not plan(kept).is_due
    kept.clock.advance(0.001)
    assert plan(kept).is_due and plan(kept).delay_ms == 1
    kept.close()


def test_a_segment_is_rolled_in_time_for_the_longest_lag(tmp_path: Path) -> None:
    kept = Compacted(tmp_path, max_compaction_lag_ms="2000")
    kept.put(("a", "1"))
    kept.clock.advance(2)
    kept.put(("a", "2"))
    assert kept.log.segment_count == 1
    kept.clock.advance(0.001)
    kept.put(("a", "3"))
    assert kept.log.segment_count == 2
    kept.close()


def test_nothing_above_the_stable_offset_is_compacted(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    for _ in range(3):
        kept.put(("a", "1"))
        kept.roll()
    kept.put(("a", "2"))
    assert [plan(kept, stable_offset=offset).end_offset for offset in (0, 1, 2, 3, 4)] == [0, 1, 2, 3, 3]
    kept.close()


# Limits


def test_what_does_not_fit_into_the_map_waits_for_the_next_time(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    for number in range(100):
        kept.put((f"k{number % 50}", f"v{number}"))
    kept.roll()
    kept.put(("z", "z"))
    before = latest(kept.records())
    seen = []
    while (done := kept.compact(memory_bytes=24 * 22)) is not None:
        seen.append(done.clean_offset)
        assert latest(kept.records()) == before
        assert done.map_utilisation <= 1
    assert seen[0] < 100 and seen[-1] == 100 and len(seen) > 3
    assert [offset for offset, _, _ in kept.records()] == list(range(50, 101))
    kept.close()


def test_a_map_too_small_for_one_batch_is_told(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(*[(f"k{n}", "v") for n in range(100)])
    with pytest.raises(NothingToRead, match=r"raise log\.cleaner\.dedupe\.buffer\.size"):
        kept.roll_and_compact(memory_bytes=24 * 20)
    assert len(kept.records()) == 100
    kept.close()


def test_small_segments_come_together_up_to_the_size_of_a_segment(tmp_path: Path) -> None:
    kept = Compacted(tmp_path, segment_bytes="1000")
    for number in range(40):
        kept.put((f"k{number % 4}", "x" * 300))
    assert kept.log.segment_count == 20
    kept.compact()
    assert kept.log.segment_count == 20
    kept.roll_and_compact()
    assert kept.log.segment_count <= 4
    assert len(kept.records()) == 4
    kept.close()


def test_the_rate_of_reading_and_writing_is_bounded() -> None:
    slept: list[float] = []
    clock = [100.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    throttle = Throttle(1000.0, monotonic=lambda: clock[0], sleep=sleep)
    for _ in range(10):
        throttle.moved(500)
    assert sum(slept) == pytest.approx(5.0)
    clock[0] += 60
    throttle.moved(10)
    assert slept[-1] == pytest.approx(0.01)  # time in which nothing was done is not saved up


def test_batches_larger_than_the_buffer_are_read(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "x" * 5000))
    kept.put(("b", "y" * 9000))
    kept.put(("a", "z"))
    kept.roll_and_compact(buffer_bytes=1024)
    assert [offset for offset, _, _ in kept.records()] == [1, 2]
    kept.close()


def test_a_damaged_batch_ends_the_compaction_and_changes_nothing(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    for number in range(5):
        kept.put(("a", f"{number}"))
    path = kept.log.segments[0].path
    kept.roll()
    kept.put(("b", "1"))
    kept.log.flush()
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptMessage, match=r"00000000000000000000\.log cannot be compacted"):
        kept.compact()
    assert path.read_bytes() == data
    kept.cleaning.discard(kept.log)
    assert kept.files("*.cleaned") == []
    kept.close()


# Files


@pytest.mark.parametrize("value", [b"v", None])
@pytest.mark.parametrize("delta", [2**63, -(2**63) - NOW - 1])
def test_a_record_whose_time_leaves_64_bits_ends_no_compaction(tmp_path: Path, delta: int, value: bytes | None) -> None:
    kept = Compacted(tmp_path)
    batch = batch_that_tells(
        NOW, Record(key=b"a", value=b"1"), Record(key=b"b", value=value), deltas=[(0, 0), (delta, 1)]
    )
    kept.log.append(batch, leader_epoch=0, now_ms=kept.now)
    kept.put(("a", "2"))
    assert kept.roll_and_compact() is not None
    assert kept.records()[:2] == [(1, "b", value and value.decode()), (2, "a", "2")]
    assert kept.batches()[0][0].max_timestamp == (NOW + delta + 2**63) % 2**64 - 2**63
    kept.close()


def test_a_record_with_an_offset_that_no_batch_has_is_damage(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    batch = batch_that_tells(NOW, Record(key=b"a", value=b"1"), deltas=[(0, 2**63)])
    kept.log.append(batch, leader_epoch=0, now_ms=kept.now)
    with pytest.raises(CorruptMessage, match="has the offset 9223372036854775808 in its batch"):
        kept.roll_and_compact()
    kept.close()


def test_whoever_reads_an_old_segment_goes_on_and_lookups_find_the_new_one(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    for number in range(50):
        kept.put((f"k{number % 5}", f"v{number}"))
    part = kept.log.read(offset=10, max_bytes=500)
    before = kept.log.read_bytes(part)
    kept.roll_and_compact()
    kept.directory.purge()
    assert kept.log.read_bytes(part) == before
    for offset in range(kept.log.log_end_offset):
        chunk = kept.log.read_bytes(kept.log.read(offset=offset, max_bytes=1))
        assert int.from_bytes(chunk[:8], "big") == max(offset, 45)
    kept.close()


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_compacted_log_is_the_same_after_a_start(tmp_path: Path, is_clean: bool) -> None:
    kept = Compacted(tmp_path, segment_bytes="2000")
    for number in range(60):
        kept.put((f"k{number % 7}", None if number % 11 == 0 else f"v{number}" * 9), pid=3, sequence=number, txn=1)
        kept.end(3, commit=number % 3 > 0)
    kept.roll_and_compact()
    records, committed, markers = kept.records(), kept.committed(), kept.markers()
    kept.close()
    if not is_clean:
        (tmp_path / ".kafka_cleanshutdown").unlink()
    kept.open()
    assert kept.directory.cuts == []
    assert (kept.records(), kept.committed(), kept.markers()) == (records, committed, markers)
    assert plan(kept).dirty_bytes == 0  # how far it was compacted is known
    kept.close()


def test_a_segment_that_ended_without_a_later_batch_does_not_come_back_after_it_was_replaced(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    for _ in range(2):
        kept.put(("a", None))
        kept.log.flush()
        kept.roll()  # nothing is written to the last one, so nothing tells the flusher that this one is over
    kept.compact()
    kept.directory.purge()
    kept.close()
    kept.open()
    assert [segment.base_offset for segment in kept.log.segments] == [0, 2]


def test_a_topic_of_the_same_name_has_never_been_compacted(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "1"))
    kept.roll_and_compact()
    assert kept.directory.cleaned.get(kept.log.partition) == 1
    partition = kept.log.partition
    kept.directory.delete_topic("plain")
    assert kept.directory.cleaned.get(partition) is None
    kept.close()
    kept.open()
    assert kept.directory.cleaned.get(partition) is None
    kept.close()


def test_a_compaction_that_ends_after_its_topic_came_again_says_nothing_of_the_new_one(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    kept.put(("a", "1"))
    kept.roll()
    kept.put(("filler", "x"))
    old = kept.log
    stable_offset = kept.cleaning.prepare(old)
    job = kept.cleaning.job(old, plan(kept, stable_offset=stable_offset), CompactionLimits(), now_ms=kept.now)
    *_, done = Compactor(HastyFileSystem(), job).run()
    assert isinstance(done, CompactionDone)
    kept.directory.delete_topic("plain")
    kept.directory.create_topic("plain", partitions=1)
    kept.cleaning.finish(old.partition, done)
    assert kept.directory.cleaned.get(old.partition) is None
    kept.close()


def test_a_swap_that_comes_too_late_leaves_nothing_that_a_start_would_complete(tmp_path: Path) -> None:
    kept = Compacted(tmp_path)
    for number in range(10):
        kept.put(("k", f"v{number}"), pid=1, sequence=number, txn=1)
        kept.end(1, commit=number % 2 == 0)
    kept.roll()
    kept.put(("filler", "x"))
    log, cleaning = kept.log, kept.cleaning
    stable_offset = cleaning.prepare(log)
    job = cleaning.job(log, plan(kept, stable_offset=stable_offset), CompactionLimits(), now_ms=kept.now)
    segments = {segment.base_offset: segment for segment in log.segments}
    cleaned, *_ = Compactor(HastyFileSystem(), job).run()
    assert isinstance(cleaned, CleanedSegment)
    replacement = cleaning.stage(log, cleaned, segments)
    end = log.segments[-1].base_offset
    log.delete_records_before(end)
    assert log.retire_before(end) == 1  # retention was faster
    assert kept.files("*.swap") != []
    assert not cleaning.swap(replacement)
    cleaning.discard(log)
    assert kept.files("*.swap") == kept.files("*.cleaned") == []
    kept.directory.purge()
    kept.close()
    kept.open()
    assert [segment.base_offset for segment in kept.log.segments] == [end]
    kept.close()


def test_the_limits_of_a_compaction_are_those_of_kafka() -> None:
    limits = CompactionLimits()
    assert (limits.memory_bytes, limits.load_factor, limits.buffer_bytes) == (134_217_728, 0.9, 524_288)
