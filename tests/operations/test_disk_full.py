"""A disk that is full is survived: the writes it refuses are told, nothing else is lost, and it goes on with space."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logqueue.broker.partitions.partition import Partition
from logqueue.broker.upkeep.retention import expire
from logqueue.clock import ManualClock
from logqueue.config import LogConfig
from logqueue.errors import ErrorCode, LogqueueError
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from logqueue.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest
from logqueue.records.builder import build_batch
from logqueue.records.record import Record
from logqueue.storage.errors import DataFolderError, DiskFull, StorageError
from logqueue.storage.log_directory import LogDirectory
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, create_topic, fetch_request, produced, values_of
from tests.operations.full_disk import FullDisk
from tests.operations.wire_configs import BROKER, SET, TOPIC, alter, value_of

STORAGE_ERROR = ErrorCode.KAFKA_STORAGE_ERROR
SECONDS = 30


@pytest.fixture
def disk() -> FullDisk:
    return FullDisk()


@pytest.fixture
def broker(tmp_path: Path, disk: FullDisk) -> Iterator[EmbeddedBroker]:
    running = EmbeddedBroker(tmp_path / "data", environment=disk.environment).start()
    yield running
    disk.is_full = False
    running.close()


@pytest.fixture
def wire(broker: EmbeddedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as connection:
        yield connection


def stored(wire: Wire, topic: str) -> list[bytes]:
    values: list[bytes] = values_of(wire.call(12, fetch_request(topic, 0)))
    return values


@pytest.mark.parametrize("acks", [1, -1])
@pytest.mark.parametrize("half_writes", [False, True], ids=["nothing written", "half written"])
def test_a_write_that_does_not_fit_is_refused_and_the_next_one_goes_on(
    wire: Wire, disk: FullDisk, acks: int, half_writes: bool
) -> None:
    create_topic(wire, "t")
    assert produced(wire, "t", batch(b"before"), acks=acks).error_code == 0
    disk.is_full, disk.half_writes = True, half_writes
    refused = produced(wire, "t", batch(b"x" * 10_000), acks=acks)
    assert refused.error_code == STORAGE_ERROR
    assert "No space left on device. Nothing was stored; free some space" in refused.error_message
    assert stored(wire, "t") == [b"before"]
    disk.is_full = False
    after = produced(wire, "t", batch(b"after"), acks=acks)
    assert (after.error_code, after.base_offset) == (0, 1)
    assert stored(wire, "t") == [b"before", b"after"]


def test_what_a_full_disk_refused_is_not_there_after_a_restart(broker: EmbeddedBroker, disk: FullDisk) -> None:
    with Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        produced(wire, "t", batch(b"before"))
        disk.is_full, disk.half_writes = True, True
        assert produced(wire, "t", batch(b"x" * 10_000)).error_code == STORAGE_ERROR
        disk.is_full = False
    broker.restart()
    with Wire(broker.bootstrap) as wire:
        assert stored(wire, "t") == [b"before"]
        assert produced(wire, "t", batch(b"after")).base_offset == 1


def test_the_first_write_of_a_partition_waits_for_space(wire: Wire, disk: FullDisk) -> None:
    create_topic(wire, "t")
    disk.is_full = True
    assert produced(wire, "t", batch(b"x")).error_code == STORAGE_ERROR
    disk.is_full = False
    assert produced(wire, "t", batch(b"y")).base_offset == 0
    assert stored(wire, "t") == [b"y"]


def test_a_topic_that_does_not_fit_is_refused_and_can_be_made_later(broker: EmbeddedBroker, disk: FullDisk) -> None:
    request = CreateTopicsRequest(topics=[CreatableTopic(name="t", num_partitions=1, replication_factor=1)])
    with Wire(broker.bootstrap) as wire:
        create_topic(wire, "old")
        disk.is_full = True
        answer = wire.call(7, request).topics[0]
        assert (answer.error_code, "Nothing was changed" in answer.error_message) == (STORAGE_ERROR, True)
        assert produced(wire, "t", batch(b"x")).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        disk.is_full = False
        assert wire.call(7, request).topics[0].error_code == 0
        assert produced(wire, "t", batch(b"x")).error_code == 0
    broker.restart()
    with Wire(broker.bootstrap) as wire:
        assert stored(wire, "t") == [b"x"]


def test_settings_that_do_not_fit_are_refused_and_stay_as_they_were(wire: Wire, disk: FullDisk) -> None:
    create(wire, "t", retention_ms="5")
    disk.is_full = True
    assert alter(wire, TOPIC, "t", ("retention.ms", SET, "6")) == STORAGE_ERROR
    assert alter(wire, BROKER, "", ("log.retention.bytes", SET, "6")) == STORAGE_ERROR
    assert value_of(wire, TOPIC, "t", "retention.ms") == ("5", 1)
    assert value_of(wire, TOPIC, "t", "retention.bytes") == ("-1", 5)
    disk.is_full = False
    assert alter(wire, TOPIC, "t", ("retention.ms", SET, "6")) == 0
    assert alter(wire, BROKER, "", ("log.retention.bytes", SET, "6")) == 0


def test_a_topic_can_be_deleted_to_make_space(broker: EmbeddedBroker, disk: FullDisk) -> None:
    def deleted(wire: Wire) -> int:
        code: int = wire.call(6, DeleteTopicsRequest(topics=[DeleteTopicState(name="t")])).responses[0].error_code
        return code

    with Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        produced(wire, "t", batch(b"x"))
        disk.is_full = True
        assert deleted(wire) == STORAGE_ERROR  # even a list with one name less is first written beside the old one
        assert stored(wire, "t") == [b"x"]
        disk.is_full = False
        assert deleted(wire) == 0
    broker.restart()
    with Wire(broker.bootstrap) as wire:
        assert produced(wire, "t", batch(b"x")).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_producer_ids_are_given_again_when_there_is_space(wire: Wire, disk: FullDisk) -> None:
    request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000)
    disk.is_full = True
    assert wire.call(4, request).error_code != 0
    disk.is_full = False
    assert wire.call(4, request).error_code == 0


class DirectoryOnDisk:
    """A data folder on a disk that can be filled, one topic with small segments."""

    def __init__(self, folder: Path, disk: FullDisk) -> None:
        self.disk = disk
        self.clock = ManualClock()
        self.directory = LogDirectory.open(folder, clock=self.clock, defaults=LogConfig(), environment=disk.environment)
        if "t" not in self.directory.topics:
            self.directory.create_topic(
                "t", partitions=1, properties={"segment.bytes": "300", "index.interval.bytes": "0"}
            )

    @property
    def log(self) -> Any:
        (log,) = self.directory.logs.values()
        return log

    def append(self, value: bytes) -> int:
        records = build_batch([Record(timestamp_ms=1_700_000_000_000, key=None, value=value)])
        offset: int = self.log.append(records, leader_epoch=0, now_ms=self.clock.time_ms()).base_offset
        return offset


def test_a_roll_that_does_not_fit_is_made_up_for(tmp_path: Path, disk: FullDisk) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    assert [there.append(b"x" * 150) for _ in range(1)] == [0]
    there.log.flush()
    disk.is_full = True
    for _ in range(3):
        with pytest.raises(DiskFull):
            there.append(b"x" * 150)
    disk.is_full = False
    assert [there.append(b"x" * 150) for _ in range(4)] == [1, 2, 3, 4]
    there.directory.close()
    again = DirectoryOnDisk(tmp_path, disk)
    assert (again.directory.was_clean, again.log.log_end_offset) == (True, 5)
    again.directory.close()


def test_indexes_that_do_not_fit_hold_up_nothing_but_the_recovery_point(tmp_path: Path, disk: FullDisk) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    for _ in range(6):
        there.append(b"x" * 150)
    epoch_file = there.log.folder / "leader-epoch-checkpoint"
    epoch_file.touch()
    disk.is_full = True
    with pytest.raises(DiskFull):  # the epochs of a new log are one of its small files
        there.log.flush()
    assert there.directory.failure is None
    disk.is_full = False
    there.log.flush()
    for _ in range(6):
        there.append(b"x" * 150)
    disk.is_full = True
    assert there.log.flush() == 12  # records are durable without their indexes
    assert there.log.advance_recovery_point() < 12
    disk.is_full = False
    assert there.log.advance_recovery_point(force=True) == 12
    there.directory.close()
    again = DirectoryOnDisk(tmp_path, disk)
    assert (again.directory.was_clean, again.log.log_end_offset) == (True, 12)
    again.directory.close()


def test_a_checkpoint_that_does_not_fit_is_written_later(tmp_path: Path, disk: FullDisk) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    there.append(b"x" * 150)
    there.log.flush()
    there.log.delete_records_before(1)
    disk.is_full = True
    with pytest.raises(StorageError, match="Nothing was changed"):
        there.directory.checkpoint()
    assert there.directory.failure is None
    disk.is_full = False
    there.directory.checkpoint()
    there.directory.close()
    again = DirectoryOnDisk(tmp_path, disk)
    assert again.log.log_start_offset == 1
    again.directory.close()


def test_users_and_acls_that_do_not_fit_are_refused_and_stay_as_they_were(tmp_path: Path, disk: FullDisk) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    there.directory.write_security(b"old")
    disk.is_full = True
    with pytest.raises(DiskFull, match="Nothing was changed"):
        there.directory.write_security(b"new")
    assert (there.directory.failure, there.directory.read_security()) == (None, b"old")
    disk.is_full = False
    there.directory.write_security(b"new")
    assert there.directory.read_security() == b"new"
    assert there.append(b"x") == 0
    there.directory.close()


def test_what_retention_and_deletion_have_freed_leaves_a_full_disk(tmp_path: Path, disk: FullDisk) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    for _ in range(5):
        there.append(b"x" * 150)
    there.log.flush()
    there.append(b"not synced" + b"x" * 150)
    assert there.log.retire_before(4) == 4  # and the epochs start elsewhere, for which there will be no room
    there.directory.create_topic("gone", partitions=1)
    gone = there.directory.logs[TopicPartition("gone", 0)]
    gone.append(build_batch([Record(value=b"v")]), leader_epoch=0, now_ms=there.clock.time_ms())
    there.directory.delete_topic("gone")
    disk.is_full = True
    there.directory.purge()
    there.clock.advance(60)
    there.directory.purge()
    assert sorted(path.name for path in there.log.folder.glob("*.log*")) == [f"{base:020d}.log" for base in (4, 5)]
    assert not list(tmp_path.glob("*-delete"))
    disk.is_full = False
    assert there.log.flush() == 6
    there.directory.close()
    again = DirectoryOnDisk(tmp_path, disk)
    assert (again.log.log_start_offset, again.log.log_end_offset) == (4, 6)
    again.directory.close()


def test_segments_wait_for_the_file_of_the_next_one_where_it_cannot_be_made(tmp_path: Path, disk: FullDisk) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    there.append(b"x" * 150)
    there.log.flush()
    there.log.roll(there.clock.time_ms())
    assert there.log.retire_before(1) == 1
    disk.is_full = True
    with pytest.raises(StorageError, match="No space left"):
        there.directory.purge()
    assert (there.directory.failure, (there.log.folder / f"{0:020d}.log").exists()) == (None, True)
    disk.is_full = False
    there.directory.purge()
    assert [path.name for path in there.log.folder.glob("*.log")] == [f"{1:020d}.log"]
    there.directory.close()


def test_if_every_segment_is_too_old_all_but_the_last_leave_a_full_disk(tmp_path: Path, disk: FullDisk) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    for _ in range(3):
        there.append(b"x" * 150)
    there.log.flush()
    partition = Partition(there.log.partition, there.log, LogConfig(retention_ms=0))
    there.clock.advance(1)
    disk.is_full = True
    assert expire(partition, now_ms=there.clock.time_ms()) == 2
    disk.is_full = False
    assert expire(partition, now_ms=there.clock.time_ms()) == 1
    there.directory.close()


def test_a_stop_on_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path, disk: FullDisk) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    for _ in range(6):
        there.append(b"x" * 150)
    there.log.flush()
    disk.is_full = True
    with pytest.raises(LogqueueError):
        there.directory.close()
    disk.is_full = False
    again = DirectoryOnDisk(tmp_path, disk)
    assert (again.directory.was_clean, again.log.log_end_offset) == (False, 6)
    again.directory.close()


@pytest.mark.parametrize("half_writes", [False, True], ids=["nothing written", "half written"])
def test_a_start_on_a_full_disk_loses_nothing_and_goes_on_with_space(
    tmp_path: Path, disk: FullDisk, caplog: pytest.LogCaptureFixture, half_writes: bool
) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    for _ in range(3):
        there.append(b"x" * 150)
    there.log.flush()
    there.directory.checkpoint()
    for _ in range(3):
        there.append(b"x" * 150)
    there.log.flush()
    there.directory.release()  # as kill -9 leaves it
    for path in there.log.folder.glob("*index"):  # some had not been written
        path.unlink()
    point = there.directory.written_recovery_point(there.log.partition)
    disk.is_full, disk.half_writes = True, half_writes
    for _ in range(2):
        again = DirectoryOnDisk(tmp_path, disk)
        assert (again.directory.failure, again.log.log_end_offset) == (None, 6)
        assert [offset for offset in range(6) if again.log.read(offset=offset, max_bytes=1).size] == list(range(6))
        assert again.directory.written_recovery_point(again.log.partition) == point
        assert again.log.recovery_point < 6, "indexes behind it are not written"
        with pytest.raises(DiskFull):
            again.append(b"x" * 150)
        again.directory.release()
    assert "is served all the same" in caplog.text and "free some space" in caplog.text
    again = DirectoryOnDisk(tmp_path, disk)
    disk.is_full = False
    assert again.append(b"x" * 150) == 6
    assert again.log.flush() == 7
    assert again.log.advance_recovery_point(force=True) == 7
    again.directory.close()
    last = DirectoryOnDisk(tmp_path, disk)
    assert (last.directory.was_clean, last.log.log_end_offset, last.directory.cuts) == (True, 7, [])
    last.directory.close()


def test_a_broker_that_starts_on_a_full_disk_serves_readers(tmp_path: Path, disk: FullDisk) -> None:
    broker = EmbeddedBroker(tmp_path / "data", environment=disk.environment).start()
    with Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        assert produced(wire, "t", batch(b"before"), acks=-1).error_code == 0
    shutil.copytree(tmp_path / "data", tmp_path / "crashed")  # what kill -9 leaves
    broker.close()
    disk.is_full = True
    with EmbeddedBroker(tmp_path / "crashed", environment=disk.environment) as again, Wire(again.bootstrap) as wire:
        assert stored(wire, "t") == [b"before"]
        assert produced(wire, "t", batch(b"x" * 10_000)).error_code == STORAGE_ERROR
        empty_topic(wire, "t", 1)
        assert stored(wire, "t") == []
        disk.is_full = False
        assert produced(wire, "t", batch(b"after")).base_offset == 1


def test_a_start_on_a_full_disk_leaves_names_of_deleted_topics_taken(tmp_path: Path, disk: FullDisk) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    there.append(b"x" * 150)
    there.log.flush()
    there.directory.checkpoint()
    listed = (tmp_path / "logqueue-topics.json").read_bytes()
    there.directory.release()
    (tmp_path / "logqueue-topics.json").write_bytes(listed.replace(b'"deleting": false', b'"deleting": true'))
    disk.is_full = True
    again = LogDirectory.open(tmp_path, clock=ManualClock(), environment=disk.environment)
    assert (again.topics, again.logs) == ({}, {})
    with pytest.raises(DiskFull, match="still being deleted"):
        again.create_topic("t", partitions=1)
    disk.is_full = False
    again.create_topic("t", partitions=1)
    assert again.written_recovery_point(there.log.partition) == 0
    again.close()


def test_a_start_on_a_full_disk_is_refused_if_its_checkpoints_promise_what_is_lost(
    tmp_path: Path, disk: FullDisk
) -> None:
    there = DirectoryOnDisk(tmp_path, disk)
    there.append(b"x" * 150)
    there.append(b"x" * 150)
    there.log.flush()
    assert there.log.advance_recovery_point(force=True) == 2
    there.directory.checkpoint()
    there.directory.release()
    there.log.segments[-1].path.unlink()
    disk.is_full = True
    with pytest.raises(DataFolderError, match=r"checkpoints .* No space left on device.*free some space"):
        DirectoryOnDisk(tmp_path, disk)
    disk.is_full = False
    again = DirectoryOnDisk(tmp_path, disk)
    assert again.log.log_end_offset == 1
    again.directory.close()


def test_a_disk_that_became_read_only_ends_writing_with_a_clear_error_and_reading_goes_on(
    tmp_path: Path, disk: FullDisk, caplog: pytest.LogCaptureFixture
) -> None:
    broker = EmbeddedBroker(tmp_path, environment=disk.environment).start()
    with Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        produced(wire, "t", batch(b"before"))
        disk.is_read_only = True
        refused = produced(wire, "t", batch(b"x"))
        assert refused.error_code == STORAGE_ERROR
        assert "Read-only file system. The data folder takes no more writes" in refused.error_message
        assert stored(wire, "t") == [b"before"]
        disk.is_read_only = False
        assert produced(wire, "t", batch(b"x")).error_code == STORAGE_ERROR  # until a restart (fail-stop)
    with pytest.raises(StorageError):
        broker.stop()
    with EmbeddedBroker(tmp_path) as mended, Wire(mended.bootstrap) as wire:
        assert produced(wire, "t", batch(b"after")).base_offset == 1
        assert stored(wire, "t") == [b"before", b"after"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR and record.exc_info]


SMALL_DISK = """
mount -t tmpfs -o size={size}k none {folder} && exec {python} -m logqueue.broker --data-dir {folder}/data \
  --kafka-port 0 --override log.segment.bytes=262144
"""


def test_a_real_small_file_system_is_filled_and_survived(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    script = SMALL_DISK.format(size=2048, folder=folder, python=sys.executable)
    probe = ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs none {folder}"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small file system of their own (unshare -rm)")
    broker = subprocess.Popen(["unshare", "-rm", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert broker.stdout is not None
        ready = broker.stdout.readline()
        with Wire(ready.rsplit(" ", 1)[1].strip()) as wire:
            create_topic(wire, "t")
            create_topic(wire, "u")
            sent = 0
            while (answer := produced(wire, "t", batch(b"%06d" % sent + b"x" * 50_000))).error_code == 0:
                sent += 1
                assert sent < 60
            assert (answer.error_code, sent > 10) == (STORAGE_ERROR, True), "beside them a journal of at most 1 MiB"
            assert produced(wire, "t", batch(b"%06d" % sent + b"x" * 50_000)).error_code == STORAGE_ERROR
            kept = [value[:6] for offset in range(sent) for value in values_at(wire, offset)]
            assert kept == [b"%06d" % number for number in range(sent)]
            empty_topic(wire, "t", sent)
            small = produced(wire, "u", batch(b"small"))
            assert small.error_code in (0, STORAGE_ERROR)
        broker.terminate()
        assert broker.wait(SECONDS) in (0, 1)
    finally:
        broker.kill()
        broker.wait(SECONDS)
        broker.stdout.close()  # type: ignore[union-attr]


def values_at(wire: Wire, offset: int) -> list[bytes]:
    values: list[bytes] = values_of(wire.call(12, fetch_request("t", offset, partition_max_bytes=1)))
    return values


def empty_topic(wire: Wire, name: str, offset: int) -> None:
    from logqueue.protocol.messages.delete_records import (
        DeleteRecordsPartition,
        DeleteRecordsRequest,
        DeleteRecordsTopic,
    )

    topic = DeleteRecordsTopic(name=name, partitions=[DeleteRecordsPartition(partition_index=0, offset=offset)])
    answer: Any = wire.call(2, DeleteRecordsRequest(topics=[topic], timeout_ms=1000))
    assert answer.topics[0].partitions[0].error_code == 0
