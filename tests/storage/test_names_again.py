"""A topic is deleted and its name comes again: nothing that was known of the old one is believed of the new one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from logqueue.ids import TopicPartition
from logqueue.storage import Environment, LogDirectory, PartitionLog, StorageError, TopicExists
from logqueue.storage.file_system import RealFileSystem
from tests.crash.disk_states import states_over_time, write_image
from tests.crash.recording import RecordingFileSystem
from tests.operations.full_disk import FullDisk
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN, batch_of, open_directory, read_all

OTHER = TopicPartition("other", 0)
RECOVERY_POINTS = "recovery-point-offset-checkpoint"
LOG_STARTS = "log-start-offset-checkpoint"
OLD, NEW = 100, 10
"""Batches of the old topic and of the new one."""
SMALL_SEGMENTS = {"segment.bytes": "1000"}


def fill(directory: LogDirectory, partition: TopicPartition = PLAIN, *, count: int, first: int = 0) -> PartitionLog:
    log = directory.logs[partition]
    for number in range(first, first + count):
        log.append(batch_of(number), leader_epoch=0, now_ms=NOW)
    return log


def fill_and_empty(directory: LogDirectory) -> None:
    """A topic whose log starts at its end, and everything about it is written down."""
    directory.create_topic("plain", partitions=1, properties=SMALL_SEGMENTS)
    log = fill(directory, count=OLD)
    log.flush()
    log.delete_records_before(OLD)
    directory.checkpoint()
    directory.cleaned.set(PLAIN, OLD)
    assert directory.written_recovery_point(PLAIN) == OLD


def come_again(directory: LogDirectory) -> PartitionLog:
    directory.delete_topic("plain")
    directory.create_topic("plain", partitions=1, properties=SMALL_SEGMENTS)
    log = fill(directory, count=NEW, first=OLD)
    log.flush()
    return log


def after_a_crash(source: Path, target: Path) -> LogDirectory:
    shutil.copytree(source, target)
    return open_directory(target)


def values(log: PartitionLog) -> list[bytes]:
    return [value or b"" for _, value in read_all(log)]


def value_of(number: int) -> bytes:
    return b"%d.0 " % number + b"v" * 60


def test_durable_records_of_a_name_that_came_again_survive_a_crash(tmp_path: Path) -> None:
    directory = open_directory(tmp_path / "data")
    fill_and_empty(directory)
    come_again(directory)
    again = after_a_crash(tmp_path / "data", tmp_path / "crashed")
    log = again.logs[PLAIN]
    assert (log.log_start_offset, log.log_end_offset) == (0, NEW)
    assert values(log) == [value_of(number) for number in range(OLD, OLD + NEW)]
    again.close()
    directory.close()


def test_a_name_that_came_again_is_recovered_from_its_beginning(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    fill_and_empty(directory)
    directory.delete_topic("plain")
    for name in (RECOVERY_POINTS, LOG_STARTS, "cleaner-offset-checkpoint"):
        assert "plain" not in (tmp_path / name).read_text()
    directory.create_topic("plain", partitions=1)
    assert directory.written_recovery_point(PLAIN) == 0
    assert directory.cleaned.get(PLAIN) is None
    directory.close()


def test_other_topics_keep_their_points_and_starts(tmp_path: Path) -> None:
    directory = open_directory(tmp_path / "data")
    directory.create_topic("other", partitions=1)
    fill(directory, OTHER, count=7).flush()
    directory.logs[OTHER].delete_records_before(5)
    fill_and_empty(directory)
    point = directory.written_recovery_point(OTHER)
    assert point == 7
    directory.delete_topic("plain")
    assert directory.written_recovery_point(OTHER) == point
    again = after_a_crash(tmp_path / "data", tmp_path / "crashed")
    assert (again.logs[OTHER].log_start_offset, again.logs[OTHER].log_end_offset) == (5, 7)
    again.close()
    directory.close()


def test_a_deletion_does_not_make_lost_recovery_points_look_known(tmp_path: Path) -> None:
    """Without the file gaps are taken as compacted; with a file that lacks a topic they are damage, and cut."""
    directory = open_directory(tmp_path)
    fill_and_empty(directory)
    directory.close()
    (tmp_path / ".kafka_cleanshutdown").unlink()
    (tmp_path / RECOVERY_POINTS).unlink()
    topics = tmp_path / "logqueue-topics.json"
    topics.write_text(topics.read_text().replace('"deleting": false', '"deleting": true'))

    written: list[str] = []

    class Noticing(RealFileSystem):
        def rename(self, source: Path, target: Path) -> None:
            written.append(target.name)
            super().rename(source, target)

    directory = open_directory(tmp_path, Environment(fs=Noticing()))
    assert directory.topics == {}
    assert "plain" not in (tmp_path / LOG_STARTS).read_text()
    assert RECOVERY_POINTS not in written[: written.index(topics.name)]
    directory.close()


class Interrupted(HastyFileSystem):
    """Does something else, once, while the checkpoint writes out the indexes in a folder."""

    def __init__(self) -> None:
        self.folder = ""
        self.meanwhile: Callable[[], None] = lambda: None

    def open(self, path: Path, *, create: bool = False) -> int:
        if path.parent.name == self.folder and path.name.endswith("index"):
            self.folder = ""
            self.meanwhile()
        return super().open(path, create=create)


def test_a_checkpoint_that_began_before_the_deletion_writes_nothing_of_the_old_topic(tmp_path: Path) -> None:
    fs = Interrupted()
    directory = open_directory(tmp_path / "data", Environment(fs=fs))
    fill_and_empty(directory)
    directory.create_topic("other", partitions=1, properties={"index.interval.bytes": "100"})
    fill(directory, OTHER, count=20).flush()
    interruptions: list[PartitionLog] = []
    fs.meanwhile = lambda: interruptions.append(come_again(directory))
    fs.folder = "other-0"
    directory.checkpoint()
    assert len(interruptions) == 1
    assert directory.written_recovery_point(OTHER) == 20
    assert directory.written_recovery_point(PLAIN) == 0
    again = after_a_crash(tmp_path / "data", tmp_path / "crashed")
    assert len(values(again.logs[PLAIN])) == NEW
    again.close()
    directory.close()


def test_a_power_cut_at_any_moment_loses_no_durable_record_of_the_new_topic(tmp_path: Path) -> None:
    source, target, tried = tmp_path / "source", tmp_path / "target", 0
    fs = RecordingFileSystem()
    source.mkdir()
    directory = open_directory(source, Environment(fs=fs))
    old_id = directory.create_topic("plain", partitions=1, properties=SMALL_SEGMENTS).topic_id
    log = fill(directory, count=OLD)
    log.flush()
    log.delete_records_before(OLD - 1)
    directory.checkpoint()
    directory.cleaned.set(PLAIN, OLD)
    fs.mark("kept")
    directory.delete_topic("plain")
    fs.mark("deleted")
    new_id = directory.create_topic("plain", partitions=1, properties=SMALL_SEGMENTS).topic_id
    fs.mark("created")
    fill(directory, count=NEW, first=OLD).flush()
    fs.mark("durable")
    directory.checkpoint()
    directory.purge()
    for event, name, image in states_over_time(fs.journal, source, every=61):
        if event is None:
            continue
        tried += 1
        write_image(image, target)
        again = open_directory(target, Environment(fs=HastyFileSystem()))
        topic = again.topics.get("plain")
        found = None if topic is None else topic.topic_id
        expected = {
            "kept": {old_id, None},
            "deleted": {None, new_id},
            "created": {new_id},
            "durable": {new_id},
        }
        assert found in expected[event], f"{name}: another topic"
        if topic is not None and found == old_id:
            assert values(again.logs[PLAIN])[-1] == value_of(OLD - 1), name
        elif topic is not None:
            assert again.logs[PLAIN].log_start_offset == 0, name
            whole = [value_of(number) for number in range(OLD, OLD + NEW)]
            there = values(again.logs[PLAIN])
            assert there == whole[: len(there)], name
            assert event != "durable" or there == whole, name
        again.close()
    assert tried > 50


class FullOnceDeleted(FullDisk):
    """Full from the moment on when the list of topics first says that one of them is being deleted."""

    has_been_full = False

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        if target.name == "logqueue-topics.json" and '"deleting": true' in target.read_text():
            self.is_full, self.has_been_full = not self.has_been_full, True


def test_a_name_is_not_free_before_the_old_topic_is_out_of_the_way(tmp_path: Path) -> None:
    disk = FullOnceDeleted()
    directory = open_directory(tmp_path, disk.environment)
    fill_and_empty(directory)
    directory.delete_topic("plain")
    assert "plain" not in directory.topics
    assert directory.failure is None
    with pytest.raises(StorageError, match="still being deleted"):
        directory.create_topic("plain", partitions=1)
    assert not (tmp_path / "plain-0").exists()  # its bytes can go, which is what makes space
    assert directory.purge() == 1
    disk.is_full = False
    directory.create_topic("plain", partitions=1)
    with pytest.raises(TopicExists):
        directory.create_topic("plain", partitions=1)
    fill(directory, count=NEW, first=OLD).flush()
    again = after_a_crash(tmp_path, tmp_path.with_name("crashed"))
    assert values(again.logs[PLAIN]) == [value_of(number) for number in range(OLD, OLD + NEW)]
    again.close()
    directory.close()


def test_a_topic_that_is_still_being_deleted_stays_so_whatever_else_changes(tmp_path: Path) -> None:
    disk = FullOnceDeleted()
    directory = open_directory(tmp_path / "data", disk.environment)
    directory.create_topic("other", partitions=1)
    fill_and_empty(directory)
    directory.delete_topic("plain")
    disk.is_full = False
    directory.alter_topic("other", {"retention.ms": "-1"})
    again = after_a_crash(tmp_path / "data", tmp_path / "crashed")
    assert set(again.topics) == {"other"}
    assert again.create_topic("plain", partitions=1)
    assert len(values(fill(again, count=NEW, first=OLD))) == NEW
    again.close()
    directory.close()


def test_many_deletions_wait_for_the_disk_a_bounded_number_of_times_each(tmp_path: Path) -> None:
    class Counting(HastyFileSystem):
        syncs = 0

        def fsync(self, fd: int) -> None:  # type: ignore[override]
            self.syncs += 1

        def fsync_dir(self, path: Path, fd: int | None = None) -> None:
            self.syncs += 1

    fs = Counting()
    directory = open_directory(tmp_path, Environment(fs=fs))
    for number in range(10):
        directory.create_topic(f"t{number}", partitions=3)
        for partition in range(3):
            fill(directory, TopicPartition(f"t{number}", partition), count=3).flush()
    directory.checkpoint()
    fs.syncs = 0
    for number in range(10):
        directory.delete_topic(f"t{number}")
    assert fs.syncs <= 50
    directory.close()
