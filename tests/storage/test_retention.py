"""Retention: which segments go, when, and how their files leave the disk."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from logqueue.clock import ManualClock
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch
from logqueue.storage import Environment, LogDirectory, PartitionLog, StorageError
from logqueue.storage.file_system import CHUNK_BYTES, FileSystem
from logqueue.storage.results import FetchSlice
from logqueue.storage.retention import Expiry, find_expired
from logqueue.storage.retired import RetiredSegments
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN, read_all

DAY = 86_400_000


class Kept:
    """A log with one record of 100 bytes and a minute for each segment, and the clock that its rules see."""

    def __init__(
        self, folder: Path, disk: FileSystem | None = None, *, max_open_files: int = 512, **properties: str
    ) -> None:
        self.folder = folder
        self.clock = ManualClock(time_ms=NOW)
        environment = Environment(fs=disk or HastyFileSystem(), max_open_files=max_open_files)
        self.directory = LogDirectory.open(folder, clock=self.clock, environment=environment)
        self.directory.create_topic(
            "plain", partitions=1, properties={"segment.ms": "1", "retention.ms": "-1", **properties}
        )

    @property
    def log(self) -> PartitionLog:
        return self.directory.logs[PLAIN]

    def append(self, count: int, *, timestamp: int | None = None) -> None:
        for _ in range(count):
            time = NOW - DAY + self.log.log_end_offset * 60_000 if timestamp is None else timestamp
            record = Record(timestamp_ms=time, key=b"key", value=b"v" * 29)
            self.log.append(build_batch([record]), leader_epoch=0, now_ms=self.clock.time_ms())
        self.log.flush()

    def find(self, *, high_watermark: int | None = None) -> Expiry | None:
        log = self.log
        return find_expired(
            log.segments,
            log.config,
            log_start_offset=log.log_start_offset,
            log_end_offset=log.log_end_offset,
            high_watermark=log.log_end_offset if high_watermark is None else high_watermark,
            now_ms=self.clock.time_ms(),
        )

    def expire(self) -> int:
        found = self.find()
        if found is None:
            return 0
        if found.rolls_first:
            self.log.roll(self.clock.time_ms())
        return self.log.retire_before(found.offset)

    def files(self, pattern: str) -> list[str]:
        return sorted(path.name for path in (self.folder / "plain-0").glob(pattern))

    def close(self) -> None:
        self.directory.close()


def test_segments_whose_last_record_is_too_old_go(tmp_path: Path) -> None:
    kept = Kept(tmp_path, **{"retention.ms": str(DAY - 180_000)})
    kept.append(6)
    assert kept.log.segment_count == 6
    assert kept.find() == Expiry(offset=3, count=3, size=300, rolls_first=False, reason=f"retention.ms={DAY - 180_000}")
    assert kept.expire() == 3
    assert kept.log.log_start_offset == 3
    kept.clock.advance(60)
    assert kept.expire() == 1
    kept.close()


def test_only_a_contiguous_run_of_old_segments_goes(tmp_path: Path) -> None:
    kept = Kept(tmp_path, **{"retention.ms": "600000"})
    for time in (NOW - DAY, NOW - 1000, NOW - DAY, NOW):
        kept.append(1, timestamp=time)
    assert kept.log.segment_count == 3  # times that go back begin no segment
    assert kept.expire() == 1
    kept.close()


def test_records_without_a_time_are_as_old_as_their_file(tmp_path: Path) -> None:
    kept = Kept(tmp_path, **{"retention.ms": "3600000", "segment.bytes": "100"})
    kept.append(3, timestamp=-1)
    segment = kept.log.segments[0]
    HastyFileSystem().set_modified(segment.open().fd, NOW - 3_600_001)
    for other in kept.log.segments[1:]:
        HastyFileSystem().set_modified(other.open().fd, NOW - 3_600_000)
    assert kept.expire() == 1
    kept.close()


def test_above_retention_bytes_the_oldest_go_as_long_as_enough_is_left(tmp_path: Path) -> None:
    kept = Kept(tmp_path, **{"retention.bytes": "250"})
    kept.append(6)
    assert kept.log.size == 600
    found = kept.find()
    assert found is not None
    assert (found.count, found.reason) == (3, "retention.bytes=250")  # a fourth would leave less than 250
    kept.close()


def test_size_first_and_age_of_what_is_left(tmp_path: Path) -> None:
    kept = Kept(tmp_path, **{"retention.bytes": "500", "retention.ms": str(DAY - 180_000)})
    kept.append(6)
    found = kept.find()
    assert found is not None
    assert (found.count, found.reason) == (3, f"retention.bytes=500, retention.ms={DAY - 180_000}")
    kept.close()


def test_nothing_at_or_above_the_high_watermark_goes(tmp_path: Path) -> None:
    kept = Kept(tmp_path, **{"retention.ms": "0"})
    kept.append(6)
    found = kept.find(high_watermark=4)
    assert found is not None and (found.offset, found.rolls_first) == (4, False)
    assert kept.find(high_watermark=0) is None
    kept.close()


def test_if_everything_goes_a_new_segment_is_begun_first_and_offsets_go_on(tmp_path: Path) -> None:
    kept = Kept(tmp_path, **{"retention.ms": "0"})
    kept.append(3)
    found = kept.find()
    assert found is not None and found.rolls_first
    assert kept.expire() == 3
    assert (kept.log.log_start_offset, kept.log.log_end_offset, kept.log.segment_count) == (3, 3, 1)
    assert kept.expire() == 0  # an empty segment stays
    kept.directory.purge()
    assert kept.files("*.log") == ["00000000000000000003.log"]
    kept.append(1)
    assert kept.log.log_end_offset == 4
    kept.close()


def test_an_emptied_log_keeps_its_offsets_over_a_crash(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "data", **{"retention.ms": "0"})
    kept.append(3)
    kept.expire()
    kept.directory.purge()
    shutil.copytree(tmp_path / "data", tmp_path / "crashed")
    kept.close()
    again = LogDirectory.open(tmp_path / "crashed", clock=ManualClock(time_ms=NOW))
    log = again.logs[PLAIN]
    assert (log.log_start_offset, log.log_end_offset) == (3, 3)
    again.close()


@pytest.mark.parametrize("policy", ["delete", "compact", "compact,delete"])
def test_what_lies_below_the_log_start_goes_under_every_policy(tmp_path: Path, policy: str) -> None:
    kept = Kept(tmp_path, **{"cleanup.policy": policy})
    kept.append(6)
    kept.log.delete_records_before(4)
    assert kept.log.segment_count == 6  # the records are gone at once, the segments with the next pass
    assert kept.find() == Expiry(offset=4, count=4, size=400, rolls_first=False, reason="log start offset 4")
    assert kept.expire() == 4
    kept.close()


@pytest.mark.parametrize(("policy", "expired"), [("delete", 6), ("compact", 0), ("compact,delete", 6)])
def test_age_and_size_count_only_under_the_policy_delete(tmp_path: Path, policy: str, expired: int) -> None:
    kept = Kept(tmp_path, **{"cleanup.policy": policy, "retention.ms": "0", "retention.bytes": "0"})
    kept.append(6)
    assert kept.expire() == expired
    kept.close()


def test_files_are_renamed_and_leave_the_disk_after_the_delay(tmp_path: Path) -> None:
    kept = Kept(tmp_path, **{"retention.bytes": "300", "file.delete.delay.ms": "5000"})
    kept.append(6)
    kept.expire()
    kept.directory.purge()
    assert kept.files("*.log") == [f"{base:020d}.log" for base in (3, 4, 5)]
    assert kept.files("*.log.deleted") == [f"{base:020d}.log.deleted" for base in (0, 1, 2)]
    kept.clock.advance(4.999)
    assert kept.directory.purge() == 0
    kept.clock.advance(0.001)
    assert kept.directory.purge() == 9
    assert kept.files("*.deleted") == []
    assert len(read_all(kept.log)) == 3
    kept.close()


def expire_while_held(kept: Kept, parts: list[FetchSlice]) -> None:
    """The first segment is too old: its file stays as long as the one answer that is in `parts`."""
    assert kept.expire() == 1
    kept.directory.purge()
    assert kept.files("*.log.deleted") == ["00000000000000000000.log.deleted"]
    assert len(kept.log.read_bytes(parts[0])) == 100
    parts.clear()
    kept.directory.purge()
    assert kept.files("*.deleted") == []
    kept.close()


def test_a_file_from_which_an_answer_is_being_sent_stays_until_it_is_sent(tmp_path: Path) -> None:
    kept = Kept(tmp_path, **{"retention.bytes": "100", "file.delete.delay.ms": "0"})
    kept.append(2)
    expire_while_held(kept, [kept.log.read(offset=0, max_bytes=100)])


@pytest.mark.parametrize("is_opened_again", [False, True])
def test_a_file_that_was_evicted_while_an_answer_is_being_sent_stays_until_it_is_sent(
    tmp_path: Path, is_opened_again: bool
) -> None:
    properties = {"retention.bytes": "300", "file.delete.delay.ms": "0"}
    kept = Kept(tmp_path, max_open_files=2, **properties)
    kept.append(4)
    parts = [kept.log.read(offset=0, max_bytes=100)]
    for offset in (1, 2, 1, 2):
        kept.log.read(offset=offset, max_bytes=100)
    if is_opened_again:
        assert kept.log.read(offset=0, max_bytes=100).fd != parts[0].fd
    expire_while_held(kept, parts)


def test_a_topic_that_comes_back_under_its_name_loses_nothing_to_the_old_ones_retention(tmp_path: Path) -> None:
    kept = Kept(tmp_path, **{"retention.bytes": "100", "file.delete.delay.ms": "0"})
    kept.append(3)
    old = kept.log
    kept.expire()
    kept.directory.delete_topic("plain")
    kept.directory.create_topic("plain", partitions=1)
    kept.append(1)
    old.purge(NOW)
    kept.directory.purge()
    assert kept.files("*.log") == ["00000000000000000000.log"]
    kept.close()


def test_large_files_of_an_earlier_process_are_removed_after_the_start_and_until_a_stop(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.append(1)
    kept.close()
    large, small = (tmp_path / "plain-0" / f"{base:020d}.log.deleted" for base in (7, 8))
    with large.open("wb") as file:
        file.truncate(CHUNK_BYTES + 1)
    small.write_bytes(b"x")
    directory = LogDirectory.open(tmp_path, clock=kept.clock, environment=Environment(fs=HastyFileSystem()))
    assert large.exists() and not small.exists()
    assert directory.purge(goes_on=lambda: False) == 0
    assert large.exists()
    directory.purge()
    assert not large.exists()
    directory.close()


def test_a_removal_ends_when_the_folder_is_given_up_in_the_middle_of_it(tmp_path: Path) -> None:
    retired = RetiredSegments(HastyFileSystem(), tmp_path)
    retired.add_file(tmp_path / "a.deleted")

    def is_given_up() -> bool:
        retired.close()
        return True

    assert retired.remove(now_ms=NOW, goes_on=is_given_up) == 0


class _GivenUp(HastyFileSystem):
    """A disk that takes its time to sync a folder: until `closing` has begun to give it up."""

    closing: threading.Thread
    retired: RetiredSegments | None = None

    def fsync_dir(self, path: Path, fd: int | None = None) -> None:
        if self.retired is not None and not self.retired.is_closed:
            self.closing.start()
            for _ in range(20_000):
                if self.retired.is_closed:
                    break
                self.closing.join(0.001)


def test_whoever_gives_a_folder_up_waits_for_one_segment_and_not_for_all(tmp_path: Path) -> None:
    disk = _GivenUp()
    kept = Kept(tmp_path, disk, **{"retention.bytes": "100"})
    kept.append(6)
    assert kept.expire() > 2
    disk.retired = retired = kept.log.retired
    disk.closing = threading.Thread(target=retired.close, daemon=True)
    assert retired.rename(now_ms=NOW, delay_ms=0) == 1
    disk.closing.join(20)
    assert (kept.files("*.log.deleted"), retired.has_unnamed) == ([f"{0:020d}.log.deleted"], False)
    kept.close()


class Protected(HastyFileSystem):
    """A disk on which some files cannot be removed."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()

    def unlink(self, path: Path) -> None:
        if path in self.paths:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        super().unlink(path)


def test_a_file_that_cannot_be_removed_holds_up_no_other(tmp_path: Path) -> None:
    disk = Protected()
    kept = Kept(tmp_path, disk, **{"retention.bytes": "100", "file.delete.delay.ms": "0"})
    names = ("gone", "lost")
    for name in names:
        kept.directory.create_topic(name, partitions=1)
        log = kept.directory.logs[TopicPartition(name, 0)]
        log.append(build_batch([Record(timestamp_ms=NOW, value=b"v")]), leader_epoch=0, now_ms=NOW)
        kept.directory.delete_topic(name)
    kept.append(3)
    assert kept.expire() == 2
    first_folder = next(tmp_path.glob("*-delete"))
    disk.paths = {tmp_path / f"plain-0/{0:020d}.log.deleted", *first_folder.iterdir()}
    for _ in range(2):
        with pytest.raises(StorageError, match="Operation not permitted"):
            kept.directory.purge()
        assert kept.files("*.deleted") == [f"{0:020d}.log.deleted"]
        assert list(tmp_path.glob("*-delete")) == [first_folder]
    disk.paths = set()
    kept.directory.purge()
    assert (kept.files("*.deleted"), list(tmp_path.glob("*-delete"))) == ([], [])
    kept.close()


class _AddsMore(type(Path())):  # type: ignore[misc]
    """A path whose log retires another file just when its name is read, as the owner's thread may at any time."""

    retired: RetiredSegments

    @property
    def name(self) -> str:
        self.retired.add_file(Path(self.parent) / "b.deleted")
        return str(super().name)


def test_files_may_be_retired_while_leftovers_are_looked_for(tmp_path: Path) -> None:
    retired = RetiredSegments(HastyFileSystem(), tmp_path)
    for name in ("a.deleted", "b.deleted", "c.deleted"):
        (tmp_path / name).touch()
    first = _AddsMore(tmp_path / "a.deleted")
    first.retired = retired
    retired.add_file(first)
    retired.add_file(tmp_path / "c.deleted")
    while list(tmp_path.iterdir()):
        assert retired.remove(now_ms=NOW)
