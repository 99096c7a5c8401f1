"""A data folder as a whole: who may have it, what topics it keeps, what it costs, what is said when it is unfit."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from logqueue.config import InvalidConfig, LogConfig
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch
from logqueue.storage import (
    DataFolderError,
    Environment,
    InvalidPartitions,
    InvalidTopic,
    LogDirectory,
    StorageError,
    TopicExists,
    UnknownTopic,
)
from logqueue.storage.file_system import RealFileSystem
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN, batch_of, open_directory, read_all

TIMEOUT_SECONDS = 20

_HOLD = """
import sys
from pathlib import Path
from logqueue.clock import SystemClock
from logqueue.storage import LogDirectory
directory = LogDirectory.open(Path(sys.argv[1]), clock=SystemClock())
print("held", flush=True)
sys.stdin.read()
"""


def fill_plain(folder: Path, partition: TopicPartition = PLAIN) -> LogDirectory:
    """A data folder with three records in one partition."""
    directory = open_directory(folder)
    directory.create_topic(partition.topic, partitions=partition.partition + 1)
    for number in range(3):
        directory.logs[partition].append(batch_of(number), leader_epoch=0, now_ms=NOW)
    return directory


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_one_process_has_a_folder_at_a_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataFolderError, match=f"{tmp_path / 'data'} is in use by process {holder.pid}"):
            open_directory(tmp_path / "data")
        holder.kill()
    open_directory(tmp_path / "data").close()


def test_a_folder_that_is_not_writable_is_named(tmp_path: Path) -> None:
    class ReadOnly(RealFileSystem):
        def open(self, path: Path, *, create: bool = False) -> int:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    with pytest.raises(DataFolderError, match=f"{tmp_path} is not writable"):
        open_directory(tmp_path, Environment(fs=ReadOnly()))


def test_a_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError, match="file"):
        open_directory(tmp_path / "file")
    with pytest.raises(DataFolderError, match="file"):
        open_directory(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("logqueue.format=1", "logqueue.format=2", "has format 2"),
        ("logqueue.format=1", "", "not made by logqueue"),
        ("version=1", "version=x", "is damaged"),
        ("cluster.id", "cluster", "is damaged"),
    ],
)
def test_a_folder_of_another_format_is_left_alone(tmp_path: Path, old: str, new: str, text: str) -> None:
    open_directory(tmp_path).close()
    path = tmp_path / "meta.properties"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataFolderError, match=text):
        open_directory(tmp_path)
    assert (tmp_path / ".kafka_cleanshutdown").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 9, "topics": []}', '{"version": 1, "topics": [{}]}'])
def test_a_damaged_list_of_topics_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    open_directory(tmp_path).close()
    (tmp_path / "logqueue-topics.json").write_text(content)
    with pytest.raises(DataFolderError, match=r"logqueue-topics\.json"):
        open_directory(tmp_path)


def test_identity_and_topics_survive_a_restart(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    cluster = directory.cluster_id
    topic_id = UUID(int=77)
    directory.create_topic("a", partitions=3, properties={"retention.ms": "-1"}, topic_id=topic_id)
    directory.create_topic("b", partitions=1)
    directory.create_partitions("b", 4)
    directory.alter_topic("a", {"cleanup.policy": "compact"})
    directory.close()
    directory = open_directory(tmp_path)
    assert directory.cluster_id == cluster and len(cluster) == 22
    topic = directory.topics["a"]
    assert (topic.topic_id, topic.partitions, dict(topic.properties)) == (topic_id, 3, {"cleanup.policy": "compact"})
    assert topic.config.cleanup_policy == ("compact",)
    assert directory.topics["b"].partitions == 4
    assert len(directory.logs) == 7
    directory.close()


def test_defaults_are_under_what_a_topic_sets(tmp_path: Path) -> None:
    directory = LogDirectory.open(
        tmp_path,
        clock=open_directory(tmp_path / "other")._clock,
        defaults=LogConfig(retention_ms=5, segment_bytes=99),
    )
    directory.create_topic("a", partitions=1, properties={"segment.bytes": "1000"})
    assert (directory.topics["a"].config.retention_ms, directory.topics["a"].config.segment_bytes) == (5, 1000)
    directory.close()


def test_a_changed_limit_takes_effect_at_once(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    directory.create_topic("plain", partitions=1)
    directory.alter_topic("plain", {"max.message.bytes": "10"})
    with pytest.raises(Exception, match=r"max\.message\.bytes"):
        directory.logs[PLAIN].append(batch_of(1), leader_epoch=0, now_ms=NOW)
    directory.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ä", "x" * 250])
def test_names_that_kafka_refuses_are_refused(tmp_path: Path, name: str) -> None:
    directory = open_directory(tmp_path)
    with pytest.raises(InvalidTopic):
        directory.create_topic(name, partitions=1)
    directory.close()


def test_topics_are_created_once_and_within_bounds(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    directory.create_topic("a.b", partitions=2)
    with pytest.raises(TopicExists):
        directory.create_topic("a.b", partitions=2)
    with pytest.raises(InvalidTopic, match="collides"):
        directory.create_topic("a_b", partitions=2)
    for count in (0, -1, 100_001):
        with pytest.raises(InvalidPartitions):
            directory.create_topic("c", partitions=count)
    with pytest.raises(InvalidPartitions):
        directory.create_partitions("a.b", 2)
    with pytest.raises(InvalidConfig):
        directory.create_topic("c", partitions=1, properties={"retention.ms": "soon"})
    with pytest.raises(UnknownTopic):
        directory.delete_topic("c")
    assert set(directory.topics) == {"a.b"}
    directory.close()


def test_a_deleted_topic_is_gone_at_once_and_stays_gone(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    first = directory.create_topic("plain", partitions=1)
    log = directory.logs[PLAIN]
    log.append(batch_of(1), leader_epoch=0, now_ms=NOW)
    part = log.read(offset=0, max_bytes=1000)
    directory.delete_topic("plain")
    assert PLAIN not in directory.logs
    for use in (lambda: log.append(batch_of(2), leader_epoch=0, now_ms=NOW), log.flush, log.advance_recovery_point):
        with pytest.raises(UnknownTopic):
            use()
    assert len(log.read_bytes(part)) == part.size  # a reply on its way out still has its file
    second = directory.create_topic("plain", partitions=1)
    assert second.topic_id != first.topic_id
    assert directory.logs[PLAIN].append(batch_of(3), leader_epoch=0, now_ms=NOW).base_offset == 0
    assert directory.purge() == 1
    assert [path.name for path in tmp_path.glob("*plain*")] == ["plain-0"]
    directory.close()
    directory = open_directory(tmp_path)
    assert len(read_all(directory.logs[PLAIN])) == 1
    directory.close()


class Deleting(RealFileSystem):
    """Has `delete` called in another thread while the first of the files is synced from then on."""

    def __init__(self) -> None:
        self.delete: Callable[[], None] | None = None
        self.synced = 0
        self.folder_synced = threading.Event()
        self.deleted = threading.Event()

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        if self.delete is None:
            return
        self.synced += 1
        if self.synced == 1:
            self.folder_synced.clear()
            threading.Thread(target=self._delete).start()
            assert self.folder_synced.wait(TIMEOUT_SECONDS), "the topic is durably deleted before its log is given up"
        self.deleted.wait(0.02)  # a little time to give it up, which waits for the sync

    def _delete(self) -> None:
        assert self.delete is not None
        self.delete()
        self.deleted.set()

    def fsync_dir(self, path: Path, fd: int | None = None) -> None:
        self.folder_synced.set()


def test_a_deletion_does_not_wait_for_every_file_that_is_to_be_synced(tmp_path: Path) -> None:
    disk = Deleting()
    directory = open_directory(tmp_path, Environment(fs=disk))
    directory.create_topic("plain", partitions=1, properties={"segment.bytes": "300"})
    log = directory.logs[PLAIN]
    for number in range(40):
        log.append(batch_of(number), leader_epoch=0, now_ms=NOW)
    assert log.segment_count == 20
    disk.delete = lambda: directory.delete_topic("plain")
    with pytest.raises(UnknownTopic):
        log.sync()
    assert disk.deleted.wait(TIMEOUT_SECONDS)
    assert disk.synced < 20
    assert directory.failure is None
    disk.delete = None
    directory.close()


def test_a_deletion_does_not_wait_for_all_of_a_large_file(tmp_path: Path) -> None:
    class Stepping(Deleting):
        steps = 0

        def write_back(self, fd: int, position: int, size: int, *, wait: bool) -> None:
            self.steps += 1
            self.fdatasync(fd)

    disk = Stepping()
    directory = open_directory(tmp_path, Environment(fs=disk))
    directory.create_topic("plain", partitions=1)
    log = directory.logs[PLAIN]
    for number in range(50):
        log.append(batch_of(number, size=900_000), leader_epoch=0, now_ms=NOW)
    disk.delete = lambda: directory.delete_topic("plain")
    with pytest.raises(UnknownTopic):
        log.sync()
    assert disk.deleted.wait(TIMEOUT_SECONDS)
    assert disk.steps < 20
    disk.delete = None
    directory.close()


def test_the_longest_topic_name_can_be_deleted(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    directory.create_topic("x" * 249, partitions=1)
    directory.logs[TopicPartition("x" * 249, 0)].append(batch_of(1), leader_epoch=0, now_ms=NOW)
    directory.delete_topic("x" * 249)
    assert directory.purge() == 1
    directory.close()


def test_folders_that_belong_to_no_topic_are_left_alone(tmp_path: Path) -> None:
    open_directory(tmp_path).close()
    (tmp_path / "mine-0").mkdir()
    (tmp_path / "mine-0" / "notes").write_text("keep")
    (tmp_path / "photos-to-delete").mkdir()
    (tmp_path / "photos-to-delete" / "photo").write_text("keep")
    for name in ("file-delete", f"file-0.{'0' * 32}-delete"):
        (tmp_path / name).write_text("keep")
    directory = open_directory(tmp_path)
    assert directory.purge() == 0
    directory.close()
    assert (tmp_path / "mine-0" / "notes").read_text() == "keep"
    assert (tmp_path / "photos-to-delete" / "photo").read_text() == "keep"
    assert len(list(tmp_path.glob("file*-delete"))) == 2


def test_a_folder_of_another_topic_id_is_an_error_that_names_both(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    directory.create_topic("plain", partitions=1)
    directory.logs[PLAIN].append(batch_of(1), leader_epoch=0, now_ms=NOW)
    directory.close()
    (tmp_path / "plain-0/partition.metadata").write_text("version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n")
    with pytest.raises(DataFolderError, match="AAAAAAAAAAAAAAAAAAAAAQ"):
        open_directory(tmp_path)


def test_without_its_list_of_topics_a_folder_with_records_is_not_served_as_an_empty_one(tmp_path: Path) -> None:
    fill_plain(tmp_path).close()
    topics = tmp_path / "logqueue-topics.json"
    content = topics.read_bytes()
    topics.unlink()
    with pytest.raises(DataFolderError, match=r"logqueue-topics\.json is missing, but .*plain-0 .* restore the file"):
        open_directory(tmp_path)
    topics.write_bytes(content)
    directory = open_directory(tmp_path)
    assert len(read_all(directory.logs[PLAIN])) == 3
    directory.close()


def test_a_topic_does_not_overwrite_the_log_of_another_that_its_list_of_topics_has_lost(tmp_path: Path) -> None:
    older = b'{"version": 1, "topics": []}'
    fill_plain(tmp_path, TopicPartition("plain", 1)).close()
    before = content_of(tmp_path / "plain-1")
    (tmp_path / "logqueue-topics.json").write_bytes(older)
    directory = open_directory(tmp_path)
    with pytest.raises(StorageError, match="plain-1 holds a log of a topic that is not known here; move the folder"):
        directory.create_topic("plain", partitions=2)
    directory.create_topic("plain", partitions=1)
    with pytest.raises(StorageError, match="plain-1 holds a log"):
        directory.create_partitions("plain", 2)
    assert (set(directory.logs), directory.failure) == ({PLAIN}, None)
    assert content_of(tmp_path / "plain-1") == before
    (tmp_path / "plain-1").rename(tmp_path / "aside")
    directory.create_partitions("plain", 2)
    directory.close()


def test_a_log_that_was_copied_in_after_its_topic_was_created_is_not_written_to(tmp_path: Path) -> None:
    fill_plain(tmp_path / "other").close()
    directory = open_directory(tmp_path / "data")
    directory.create_topic("plain", partitions=1)
    shutil.copytree(tmp_path / "other/plain-0", tmp_path / "data/plain-0")
    before = content_of(tmp_path / "data/plain-0")
    for _ in range(2):
        with pytest.raises(StorageError, match="plain-0 holds a log"):
            directory.logs[PLAIN].append(batch_of(1), leader_epoch=0, now_ms=NOW)
    assert content_of(tmp_path / "data/plain-0") == before
    shutil.rmtree(tmp_path / "data/plain-0")
    directory.logs[PLAIN].append(batch_of(1), leader_epoch=0, now_ms=NOW)
    assert (len(read_all(directory.logs[PLAIN])), directory.failure) == (1, None)
    directory.close()


def test_a_file_with_the_name_of_a_partition_ends_nothing(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    (tmp_path / "plain-0").write_text("mine")
    with pytest.raises(StorageError, match="plain-0 is in the way of a partition, and not a folder; move"):
        directory.create_topic("plain", partitions=1)
    (tmp_path / "plain-0").rename(tmp_path / "mine")
    directory.create_topic("plain", partitions=1)
    (tmp_path / "mine").rename(tmp_path / "plain-0")
    with pytest.raises(StorageError, match="plain-0 is in the way"):
        directory.logs[PLAIN].append(batch_of(1), leader_epoch=0, now_ms=NOW)
    assert directory.failure is None
    directory.close()


def test_empty_partitions_take_no_disk(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    before = set(tmp_path.iterdir())
    directory.create_topic("__consumer_offsets", partitions=50)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "logqueue-topics.json"}
    directory.close()


def test_many_partitions_keep_few_files_open(tmp_path: Path) -> None:
    directory = open_directory(tmp_path, Environment(fs=HastyFileSystem(), max_open_files=10))
    directory.create_topic("many", partitions=200)
    before = open_descriptors()
    for _ in range(2):
        for log in directory.logs.values():
            log.append(build_batch([Record(timestamp_ms=NOW, value=b"v")]), leader_epoch=0, now_ms=NOW)
    assert open_descriptors() - before <= 10
    for log in directory.logs.values():
        assert log.flush() == 2
        assert len(read_all(log)) == 2
    assert open_descriptors() - before <= 10
    directory.close()


class Crowded(RealFileSystem):
    """Runs `meanwhile` before a descriptor is used, as another thread may."""

    def __init__(self) -> None:
        self.meanwhile = lambda: None

    def _interrupt(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        self.meanwhile = meanwhile

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._interrupt()
        os.fdatasync(fd)

    def pwrite(self, fd: int, data: bytes, position: int, /) -> int:  # type: ignore[override]
        self._interrupt()
        return os.pwrite(fd, data, position)

    def pread(self, fd: int, size: int, position: int, /) -> bytes:  # type: ignore[override]
        self._interrupt()
        return os.pread(fd, size, position)


def test_a_file_that_is_evicted_while_it_is_used_stays_open_until_then(tmp_path: Path) -> None:
    fs = Crowded()
    directory = open_directory(tmp_path, Environment(fs=fs, max_open_files=1))
    directory.create_topic("plain", partitions=2, properties={"index.interval.bytes": "100", "segment.bytes": "1000"})
    log, other = directory.logs.values()
    other.append(batch_of(1), leader_epoch=0, now_ms=NOW)
    fs.meanwhile = lambda: other.read(offset=0, max_bytes=1000)
    for number in range(20):
        log.append(batch_of(number), leader_epoch=0, now_ms=NOW)
        assert log.flush() == number + 1
    assert len(read_all(log)) == 20
    for offset in range(20):
        assert log.read(offset=offset, max_bytes=1).size
    assert log.offset_for_timestamp(NOW + 7) == (NOW + 7, 7, 0)
    directory.close()


def test_producer_ids_are_given_once_across_restarts(tmp_path: Path) -> None:
    given = []
    for _ in range(3):
        directory = open_directory(tmp_path)
        given += [directory.take_producer_id() for _ in range(1500)]
        directory.close()
    assert len(set(given)) == len(given)


def test_a_failed_flush_ends_all_writing_in_the_folder(tmp_path: Path) -> None:
    class Dying(RealFileSystem):
        is_dead = False

        def fdatasync(self, fd: int) -> None:  # type: ignore[override]
            if self.is_dead:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    fs = Dying()
    directory = open_directory(tmp_path, Environment(fs=fs))
    directory.create_topic("plain", partitions=2)
    log, other = (directory.logs[TopicPartition("plain", index)] for index in range(2))
    log.append(batch_of(1), leader_epoch=0, now_ms=NOW)
    log.flush()
    log.append(batch_of(2), leader_epoch=0, now_ms=NOW)
    fs.is_dead = True
    with pytest.raises(StorageError, match="takes no more writes"):
        log.flush()
    fs.is_dead = False  # a second fsync that succeeds would prove nothing
    assert log.durable_offset == 1
    assert directory.failure is not None
    for use in (
        log.flush,
        lambda: log.append(batch_of(3), leader_epoch=0, now_ms=NOW),
        lambda: other.append(batch_of(3), leader_epoch=0, now_ms=NOW),
        lambda: directory.create_topic("b", partitions=1),
        directory.take_producer_id,
        directory.close,
    ):
        with pytest.raises(StorageError):
            use()
    assert not (tmp_path / ".kafka_cleanshutdown").exists()
    directory = open_directory(tmp_path)
    assert len(read_all(directory.logs[PLAIN])) == 2
    directory.close()


def test_a_full_disk_refuses_batches_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    class Full(RealFileSystem):
        is_full = False

        def pwrite(self, fd: int, data: bytes, position: int, /) -> int:  # type: ignore[override]
            if self.is_full:
                if len(data) > 1 and position:
                    os.pwrite(fd, memoryview(data)[: len(data) // 2], position)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return os.pwrite(fd, data, position)

    fs = Full()
    directory = open_directory(tmp_path, Environment(fs=fs))
    directory.create_topic("plain", partitions=1)
    log = directory.logs[PLAIN]
    log.append(batch_of(1), leader_epoch=0, now_ms=NOW)
    fs.is_full = True
    for _ in range(3):
        with pytest.raises(StorageError, match="free some space"):
            log.append(batch_of(2, size=500), leader_epoch=0, now_ms=NOW)
    fs.is_full = False
    assert directory.failure is None
    assert log.append(batch_of(3), leader_epoch=0, now_ms=NOW).base_offset == 1
    assert len(read_all(log)) == 2
    directory.close()
    directory = open_directory(tmp_path)
    assert directory.was_clean
    assert len(read_all(directory.logs[PLAIN])) == 2
    directory.close()
