"""Rules of a partition log that a plain list does not show: rolling, flushing beside appends, epochs, times, cost."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from logqueue.records import Record, build_batch, parse_header, read_records
from logqueue.records.errors import InvalidTimestamp
from logqueue.storage import Environment, LogDirectory, Origin, PartitionLog
from logqueue.storage.file_system import RealFileSystem
from logqueue.storage.leader_epochs import LeaderEpochs
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN, batch_of, batch_that_tells, open_directory, read_all


def new_log(folder: Path, properties: dict[str, str] | None = None, fs: RealFileSystem | None = None) -> PartitionLog:
    return new_directory(folder, properties, fs).logs[PLAIN]


def new_directory(
    folder: Path, properties: dict[str, str] | None = None, fs: RealFileSystem | None = None
) -> LogDirectory:
    directory = open_directory(folder, Environment(fs=fs or HastyFileSystem()))
    directory.create_topic("plain", partitions=1, properties=properties)
    return directory


def append(log: PartitionLog, number: int = 1, *, now_ms: int = NOW, leader_epoch: int = 0) -> int:
    return log.append(batch_of(number), leader_epoch=leader_epoch, now_ms=now_ms).base_offset


class SlowDisk(HastyFileSystem):
    """An fsync that waits for the test."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.may_end = threading.Event()

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.entered.set()
        assert self.may_end.wait(10)


def test_a_flush_claims_only_what_was_appended_before_it(tmp_path: Path) -> None:
    fs = SlowDisk()
    log = new_log(tmp_path, {"segment.bytes": "400"}, fs)
    append(log)
    done: list[int] = []
    flusher = threading.Thread(target=lambda: done.append(log.flush()))
    flusher.start()
    assert fs.entered.wait(10)
    for number in range(20):  # rolls several times meanwhile
        append(log, number)
    assert log.durable_offset == 0
    fs.may_end.set()
    flusher.join(10)
    assert done == [1]
    assert log.durable_offset == 1
    assert log.flush() == 21 == log.durable_offset


def test_two_flushes_at_once_share_the_work(tmp_path: Path) -> None:
    fs = SlowDisk()
    log = new_log(tmp_path, fs=fs)
    append(log)
    threads = [threading.Thread(target=log.flush) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert fs.entered.wait(10)
    fs.may_end.set()
    for thread in threads:
        thread.join(10)
    assert log.durable_offset == 1


def test_appends_and_flushes_from_two_threads_lose_nothing(tmp_path: Path) -> None:
    directory = new_directory(tmp_path, {"segment.bytes": "2000"})
    log = directory.logs[PLAIN]
    is_over = threading.Event()
    seen: list[int] = []

    def flush() -> None:
        while not is_over.is_set():
            seen.append(log.flush())
            log.advance_recovery_point(force=True)

    flusher = threading.Thread(target=flush)
    flusher.start()
    for number in range(2000):
        append(log, number)
        log.read(offset=number, max_bytes=1000)
    is_over.set()
    flusher.join(10)
    assert seen == sorted(seen)
    assert len(read_all(log)) == 2000
    directory.close()
    directory = open_directory(tmp_path)
    assert directory.was_clean and len(read_all(directory.logs[PLAIN])) == 2000
    directory.close()


def test_only_synced_segments_are_retired(tmp_path: Path) -> None:
    directory = new_directory(tmp_path, {"segment.bytes": "400"})
    log = directory.logs[PLAIN]
    for number in range(20):
        append(log, number)
    log.delete_records_before(15)
    assert log.retire_before(15) == 0
    log.flush()
    assert log.retire_before(15) > 0
    directory.purge()
    bases = [int(path.stem) for path in (tmp_path / "plain-0").glob("*.log")]
    assert min(bases) > 10
    directory.checkpoint()
    directory.close()
    directory = open_directory(tmp_path)
    assert directory.logs[PLAIN].log_start_offset == 15
    assert directory.logs[PLAIN].log_end_offset == 20
    directory.close()


def test_a_full_segment_is_rolled(tmp_path: Path) -> None:
    size = len(batch_of(1))
    log = new_log(tmp_path, {"segment.bytes": str(3 * size)})
    for number in range(7):
        append(log, number)
    assert log.segment_count == 3


def test_a_segment_is_rolled_by_the_times_of_its_records(tmp_path: Path) -> None:
    log = new_log(tmp_path, {"segment.ms": "100"})
    for time in (NOW - 50_000, NOW - 49_900, NOW - 49_899, NOW - 49_800, NOW - 40_000):
        log.append(build_batch([Record(timestamp_ms=time, value=b"v")]), leader_epoch=0, now_ms=NOW)
    assert log.segment_count == 3


def test_jitter_takes_a_random_part_off_the_age_of_a_segment(tmp_path: Path) -> None:
    environment = Environment(fs=HastyFileSystem(), random_below=lambda limit: limit - 1)
    directory = open_directory(tmp_path, environment)
    properties = {"segment.ms": "100", "segment.jitter.ms": "31"}
    directory.create_topic("plain", partitions=1, properties=properties)
    log = directory.logs[PLAIN]
    for time, segments in ((NOW, 1), (NOW + 70, 1), (NOW + 71, 2)):
        log.append(build_batch([Record(timestamp_ms=time, value=b"v")]), leader_epoch=0, now_ms=NOW)
        assert log.segment_count == segments


def test_a_segment_of_records_without_time_is_rolled_by_the_clock(tmp_path: Path) -> None:
    log = new_log(tmp_path, {"segment.ms": "100"})
    for now_ms in (NOW, NOW + 100, NOW + 101):
        log.append(build_batch([Record(value=b"v")]), leader_epoch=0, now_ms=now_ms)
    assert log.segment_count == 2


def test_a_segment_with_a_full_index_is_rolled(tmp_path: Path) -> None:
    log = new_log(tmp_path, {"segment.index.bytes": "24", "index.interval.bytes": "0"})
    for number in range(10):
        append(log, number)
    assert log.segment_count > 3
    assert len(read_all(log)) == 10


def test_the_broker_stamps_records_where_the_topic_says_so(tmp_path: Path) -> None:
    log = new_log(tmp_path, {"message.timestamp.type": "LogAppendTime"})
    result = log.append(batch_of(1, count=2), leader_epoch=0, now_ms=NOW + 5)
    assert result.log_append_time_ms == NOW + 5
    content = log.read_bytes(log.read(offset=0, max_bytes=1000))
    assert [record.timestamp_ms for record in read_records(content)] == [NOW + 5] * 2
    assert len(read_all(log)) == 2


def test_records_are_stored_with_the_codec_of_the_topic(tmp_path: Path) -> None:
    log = new_log(tmp_path, {"compression.type": "zstd"})
    log.append(batch_of(1, count=3, size=500), leader_epoch=0, now_ms=NOW)
    log.append(build_batch([Record(timestamp_ms=NOW, value=b"z")], compression="zstd"), leader_epoch=0, now_ms=NOW)
    content = log.read_bytes(log.read(offset=0, max_bytes=10_000))
    assert parse_header(content).codec == 4
    assert [offset for offset, _ in read_all(log)] == [0, 1, 2, 3]


def test_a_coordinator_may_write_what_clients_may_not(tmp_path: Path) -> None:
    log = new_log(tmp_path, {"cleanup.policy": "compact"})
    result = log.append(batch_of(1), leader_epoch=0, now_ms=NOW, origin=Origin.COORDINATOR)
    assert result.base_offset == 0


class Counting(HastyFileSystem):
    """Counts reads of files."""

    reads = 0

    def pread(self, fd: int, size: int, position: int, /) -> bytes:  # type: ignore[override]
        self.reads += 1
        return RealFileSystem.pread(fd, size, position)


def slices(log: PartitionLog, max_bytes: int) -> Iterator[tuple[int, int]]:
    offset = 0
    while offset < log.log_end_offset:
        part = log.read(offset=offset, max_bytes=max_bytes)
        yield part.position, part.size
        offset = part.next_offset


def test_reading_on_needs_no_search(tmp_path: Path) -> None:
    fs = Counting()
    log = new_log(tmp_path, fs=fs)
    for number in range(1000):
        append(log, number)
    fs.reads = 0
    parts = list(slices(log, 20_000))
    assert len(parts) > 5
    assert fs.reads <= len(parts) + 1  # the offset at the end of each slice, and one lookup to begin with
    fs.reads = 0
    append(log)
    assert log.read(offset=1000, max_bytes=20_000).size
    assert fs.reads == 0


def test_slices_follow_each_other_and_are_nearly_as_large_as_asked(tmp_path: Path) -> None:
    log = new_log(tmp_path)
    for number in range(1000):
        append(log, number)
    for max_bytes in (1, 300, 5000, 50_000, 10**9):
        parts = list(slices(log, max_bytes))
        assert parts[0][0] == 0
        assert all(a[0] + a[1] == b[0] for a, b in pairwise(parts))
        assert sum(size for _, size in parts) == log.size
        if max_bytes >= 50_000:
            assert all(size > max_bytes - 4096 - 300 for _, size in parts[:-1])


def test_the_largest_time_is_found_with_its_first_record(tmp_path: Path) -> None:
    log = new_log(tmp_path, {"segment.bytes": "500", "index.interval.bytes": "100"})
    assert log.max_timestamp_offset() is None
    times = [5, 9, 9, 3, 1, 9, 2, 8, 7, 1]
    for time in times:
        log.append(build_batch([Record(timestamp_ms=time, value=b"v" * 50)]), leader_epoch=3, now_ms=NOW)
    found = log.max_timestamp_offset()
    assert found == (9, 1, 3)
    assert log.offset_for_timestamp(10) is None
    assert log.offset_for_timestamp(8) == (9, 1, 3)
    assert log.offset_for_timestamp(8, max_offset=1) is None


class CountingDisk(HastyFileSystem):
    """Counts the bytes that are read."""

    def __init__(self) -> None:
        self.bytes_read = 0

    def pread(self, fd: int, size: int, position: int, /) -> bytes:  # type: ignore[override]
        self.bytes_read += size
        return os.pread(fd, size, position)


def test_a_lookup_by_time_reads_no_records_of_batches_that_say_they_are_older(tmp_path: Path) -> None:
    disk = CountingDisk()
    log = new_log(tmp_path, fs=disk)
    record = Record(value=b"v")
    log.append(batch_that_tells(NOW + 60_000, record, deltas=[(0, 0)]), leader_epoch=0, now_ms=NOW)
    older = build_batch([Record(timestamp_ms=NOW, value=b"v" * 10_000)])
    for _ in range(10):
        log.append(older[:], leader_epoch=0, now_ms=NOW)
    log.append(build_batch([Record(timestamp_ms=NOW + 5, value=b"v")]), leader_epoch=0, now_ms=NOW)
    disk.bytes_read = 0
    assert log.offset_for_timestamp(NOW + 5) == (NOW + 5, 11, 0)
    assert disk.bytes_read < 10_000


@pytest.mark.parametrize("delta", [2**63, -(2**63) - NOW - 1])
def test_a_record_whose_time_leaves_64_bits_is_found_by_no_time(tmp_path: Path, delta: int) -> None:
    log = new_log(tmp_path)
    log.append(batch_that_tells(NOW, Record(value=b"v"), deltas=[(delta, 0)]), leader_epoch=0, now_ms=NOW)
    assert log.offset_for_timestamp(NOW) is None
    append(log, 0)
    assert log.offset_for_timestamp(NOW) == (NOW, 1, 0)


def test_a_record_whose_time_leaves_64_bits_is_refused_where_it_would_be_compressed_anew(tmp_path: Path) -> None:
    log = new_log(tmp_path, {"compression.type": "zstd"})
    with pytest.raises(InvalidTimestamp, match="does not fit 64 bits"):
        log.append(batch_that_tells(NOW, Record(value=b"v"), deltas=[(2**63, 0)]), leader_epoch=0, now_ms=NOW)
    assert append(log) == 0


def test_leader_epochs_are_kept_and_answered(tmp_path: Path) -> None:
    directory = new_directory(tmp_path)
    log = directory.logs[PLAIN]
    assert log.leader_epoch == -1
    for epoch in (0, 0, 2, 5):
        append(log, leader_epoch=epoch)
    for _ in range(2):
        assert [log.epoch_of(offset) for offset in range(4)] == [0, 0, 2, 5]
        directory.close()
        directory = open_directory(tmp_path)
        log = directory.logs[PLAIN]
    directory.close()


def test_epochs_follow_the_ends_of_the_log() -> None:
    epochs = LeaderEpochs([(0, 0), (2, 10), (4, 20)])
    epochs.truncate_to(20)
    assert epochs.latest == 2
    epochs.start_at(15)
    assert epochs.epoch_of(14) == -1
    assert epochs.epoch_of(15) == 2
    assert not epochs.is_written


@pytest.mark.parametrize("max_bytes", [0, 1, 100])
def test_the_first_batch_is_given_whole_only_where_that_is_wanted(tmp_path: Path, max_bytes: int) -> None:
    log = new_log(tmp_path)
    append(log)
    assert log.read(offset=0, max_bytes=max_bytes).size == len(batch_of(1))
    assert log.read(offset=0, max_bytes=max_bytes, min_one_batch=False).size == 0


def test_nothing_above_the_limit_is_read(tmp_path: Path) -> None:
    log = new_log(tmp_path, {"segment.bytes": "600"})
    for number in range(10):
        append(log, number)
    log.flush()
    append(log)
    for limit in range(12):
        content = [log.read_bytes(log.read(offset=offset, max_bytes=10**6, max_offset=limit)) for offset in range(11)]
        seen = {record.offset for chunk in content if chunk for record in read_records(chunk)}
        assert seen == set(range(min(limit, 11)))
