"""Descriptors that run out end nothing: files have room beside connections, and what was not opened is tried again."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from logqueue.broker.descriptors import SPARE, share
from logqueue.ids import TopicPartition
from logqueue.storage import Environment, LogDirectory, PartitionLog
from logqueue.storage.errors import DiskFull, StorageError
from logqueue.storage.index_file import IndexCache
from logqueue.storage.open_files import DEFAULT_MAX_OPEN_FILES
from logqueue.storage.txn_index import AbortEntry, TransactionIndex
from tests.broker.wire import Wire, batch, create_topic, produced
from tests.storage.compacted import Compacted
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN, batch_of, open_directory, read_all

TIMEOUT_SECONDS = 30
ENOUGH = 1_000_000


class Crowded(HastyFileSystem):
    """A disk in a process that has `room` for so many files, and for folders to be synced or not."""

    def __init__(self) -> None:
        self.room = ENOUGH
        self.has_room_for_folders = True
        self.last_descriptor_goes_with: tuple[str, ...] = ()
        """Endings of names: once a file has got one, there is no room for folders until one gets another name."""
        self.synced_folders: list[Path] = []
        self._open: set[int] = set()

    def open(self, path: Path, *, create: bool = False) -> int:
        self._take(is_possible=len(self._open) < self.room)
        fd = super().open(path, create=create)
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:  # type: ignore[override]
        self._open.discard(fd)
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        if self.last_descriptor_goes_with:
            self.has_room_for_folders = not target.name.endswith(self.last_descriptor_goes_with)

    def open_dir(self, path: Path) -> int:
        self._take(is_possible=self.has_room_for_folders)
        return super().open_dir(path)

    def fsync_dir(self, path: Path, fd: int | None = None) -> None:
        self._take(is_possible=self.has_room_for_folders or fd is not None)
        self.synced_folders.append(path)

    def _take(self, *, is_possible: bool) -> None:
        if not is_possible:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.fixture
def disk() -> Crowded:
    return Crowded()


def opened(folder: Path, disk: Crowded, *, partitions: int = 1, segment_bytes: int = 300) -> LogDirectory:
    directory = open_directory(folder, Environment(fs=disk, max_open_files=100))
    directory.create_topic("plain", partitions=partitions, properties={"segment.bytes": str(segment_bytes)})
    return directory


def append(log: PartitionLog, number: int) -> None:
    log.append(batch_of(number), leader_epoch=0, now_ms=NOW)


def test_a_checkpoint_that_finds_no_descriptor_is_written_later(tmp_path: Path, disk: Crowded) -> None:
    directory = opened(tmp_path, disk)
    log = directory.logs[PLAIN]
    for number in range(2):
        append(log, number)
    log.flush()
    log.delete_records_before(1)
    disk.room = 0
    with pytest.raises(DiskFull, match=r"Too many open files\. Nothing was changed; raise the limit .*ulimit -n"):
        directory.checkpoint()
    assert directory.failure is None
    disk.room = ENOUGH
    directory.checkpoint()
    directory.close()
    again = open_directory(tmp_path)
    assert again.logs[PLAIN].log_start_offset == 1
    again.close()


def test_a_record_that_finds_no_descriptor_is_refused_and_the_next_one_goes_on(tmp_path: Path, disk: Crowded) -> None:
    directory = opened(tmp_path, disk)
    log = directory.logs[PLAIN]
    for number in range(8):  # the first of the log, of a segment, and others
        log.release()  # as if its descriptor had been needed for another file
        disk.room = 0
        with pytest.raises(DiskFull, match="Nothing was stored; raise the limit of open files"):
            append(log, number)
        disk.room = ENOUGH
        append(log, number)
    log.flush()
    assert directory.failure is None
    directory.close()
    again = open_directory(tmp_path)
    assert (again.was_clean, again.logs[PLAIN].segment_count > 2) == (True, True)
    assert len(read_all(again.logs[PLAIN])) == 8
    again.close()


@pytest.mark.parametrize("what", ["files", "folders"])
def test_a_flush_that_finds_no_descriptor_promises_nothing_and_is_made_later(
    tmp_path: Path, disk: Crowded, what: str
) -> None:
    directory = opened(tmp_path, disk)
    log = directory.logs[PLAIN]
    append(log, 0)
    if what == "files":
        disk.room = 0
    else:
        disk.has_room_for_folders = False
    with pytest.raises(DiskFull, match="Too many open files"):
        log.flush()
    assert (log.durable_offset, directory.failure) == (0, None)
    disk.room, disk.has_room_for_folders = ENOUGH, True
    assert log.flush() == 1
    directory.close()


def test_names_that_found_no_descriptor_are_synced_with_the_next_flush(tmp_path: Path, disk: Crowded) -> None:
    directory = opened(tmp_path, disk)
    log = directory.logs[PLAIN]
    append(log, 0)
    log.flush()
    log.delete_records_before(1)  # the file of epochs is to be replaced
    append(log, 1)
    disk.has_room_for_folders = False
    with pytest.raises(DiskFull):
        log.flush()
    disk.has_room_for_folders = True
    disk.synced_folders.clear()
    assert log.flush() == 2
    assert disk.synced_folders == [log.folder]
    directory.close()


def test_a_small_file_is_replaced_only_with_its_folder_at_hand(tmp_path: Path, disk: Crowded) -> None:
    directory = opened(tmp_path, disk)
    disk.has_room_for_folders = False
    before = (tmp_path / "logqueue-topics.json").read_bytes()
    with pytest.raises(DiskFull, match="Nothing was changed"):
        directory.create_topic("another", partitions=1)
    assert (tmp_path / "logqueue-topics.json").read_bytes() == before
    disk.has_room_for_folders = True
    disk.last_descriptor_goes_with = (".json",)
    disk.synced_folders.clear()
    directory.create_topic("another", partitions=1)
    assert (disk.has_room_for_folders, disk.synced_folders, directory.failure) == (False, [tmp_path], None)
    disk.last_descriptor_goes_with, disk.has_room_for_folders = (), True
    directory.close()


def test_a_compaction_that_has_begun_to_change_names_needs_no_further_descriptor(tmp_path: Path, disk: Crowded) -> None:
    kept = Compacted(tmp_path, fs=disk)
    for _ in range(3):
        kept.put(("k", "v"))
        kept.roll()
    disk.last_descriptor_goes_with = (".swap", ".deleted")
    assert kept.roll_and_compact() is not None
    assert kept.directory.failure is None
    disk.last_descriptor_goes_with, disk.has_room_for_folders = (), True
    kept.close()


def test_segments_whose_folder_finds_no_descriptor_go_with_the_next_removal(tmp_path: Path, disk: Crowded) -> None:
    directory = opened(tmp_path, disk)
    log = directory.logs[PLAIN]
    for number in range(8):
        append(log, number)
    log.flush()
    gone = log.retire_before(8)
    assert gone > 1
    disk.has_room_for_folders = False
    for _ in range(2):
        with pytest.raises(StorageError, match="raise the limit of open files"):
            directory.purge()
        assert len(list(log.folder.glob("*.log.deleted"))) == 1, "the next must not come back without this one"
        assert directory.failure is None
    disk.has_room_for_folders = True
    directory.purge()
    assert len(list(log.folder.glob("*.log.deleted"))) == gone
    directory.close()


def test_an_index_of_transactions_is_not_written_before_its_name_is(tmp_path: Path, disk: Crowded) -> None:
    index = TransactionIndex(IndexCache(disk), tmp_path / "0.txnindex")
    index.append(AbortEntry(producer_id=1, first_offset=0, last_offset=1, last_stable_offset=2))
    disk.has_room_for_folders = False
    for _ in range(2):
        with pytest.raises(OSError, match="Too many open files"):
            index.write_out()
        assert not index.is_written
    disk.has_room_for_folders = True
    index.write_out()
    assert (index.is_written, disk.synced_folders) == (True, [tmp_path])


def test_files_of_logs_make_do_with_as_many_descriptors_as_there_are(tmp_path: Path, disk: Crowded) -> None:
    directory = opened(tmp_path, disk, partitions=4, segment_bytes=100_000)
    logs = [directory.logs[TopicPartition("plain", index)] for index in range(4)]
    for log in logs:
        append(log, 0)
        log.flush()
        log.release()
    disk.room = 3  # the lock of the folder, and two of four files of logs
    for number in range(1, 5):
        for log in logs:
            append(log, number)
            assert len(read_all(log)) == number + 1
    disk.room = ENOUGH
    directory.close()


def test_connections_leave_room_for_files() -> None:
    for allowed in (1, 64, 256, 640, 1024, 1280, 4096, 1_048_576):
        shares = share(allowed)
        assert shares.files >= 1
        assert shares.files + shares.connections <= max(allowed, 1)
        assert shares.connections >= allowed // 2
    assert share(4096) == (DEFAULT_MAX_OPEN_FILES, 4096 - DEFAULT_MAX_OPEN_FILES - SPARE)
    assert share(64) == (16, 32)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux tells the limits of another process")
def test_the_broker_has_as_many_descriptors_as_it_may_and_idle_connections_keep_nobody_from_writing(
    tmp_path: Path,
) -> None:
    broker = f"exec {sys.executable} -m logqueue.broker --data-dir {tmp_path}/data --kafka-port 0"
    limited = ["sh", "-c", f"ulimit -Sn 40; ulimit -Hn 64; {broker}"]
    process = subprocess.Popen(limited, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().rsplit(" ", 1)[1].strip()
        host, port = address.split(":")
        with Wire(address) as wire, ExitStack() as idle:
            for topic in ("t", "u"):
                create_topic(wire, topic)
            assert produced(wire, "t", batch(b"before")).error_code == 0
            for _ in range(80):
                last = idle.enter_context(socket.create_connection((host, int(port)), TIMEOUT_SECONDS))
            assert last.recv(1) == b"", "the last of them is refused, so all before it have been seen"
            for topic, value in (("t", b"x" * 70_000), ("u", b"first of its log")):
                answer = produced(wire, topic, batch(value))
                assert (answer.error_code, answer.error_message) == (0, None)
            create_topic(wire, "v")
            assert produced(wire, "v", batch(b"another")).error_code == 0
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (64, 64)
        process.terminate()
        _, complaints = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0
        assert "the limit of open files (ulimit -n) leaves room for 32 connections beside the logs' files" in complaints
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)
