"""Batches that are appended together lie in the log as if they had come one by one, whatever of them is refused."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from logqueue.errors import KafkaError
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch
from logqueue.storage import Environment, PartitionLog
from logqueue.storage.errors import DiskFull, StorageError
from logqueue.storage.results import AppendResult
from tests.crash.faults import EIO, ENOSPC, SHORT, Fault
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN, batch_of, open_directory, read_all

OTHER = TopicPartition("plain", 1)
LARGEST = 700

SETTINGS = st.fixed_dictionaries(
    {
        "segment.bytes": st.sampled_from([LARGEST, 1500, 3000, 20_000]).map(str),
        "index.interval.bytes": st.sampled_from([0, 200, 500, 1500, 4096]).map(str),
        "segment.index.bytes": st.sampled_from(["24", "48", "10000"]),
        "segment.ms": st.sampled_from(["100", "3000", "604800000"]),
        "message.timestamp.type": st.sampled_from(["CreateTime"] * 6 + ["LogAppendTime"]),
        "compression.type": st.sampled_from(["producer"] * 6 + ["lz4"]),
        "max.message.bytes": st.just(str(LARGEST)),
    }
)


@st.composite
def batches(draw: st.DrawFn) -> bytearray:
    """What clients send, and sometimes what they should not."""
    times = draw(st.lists(st.integers(-300, 5000), min_size=1, max_size=2))
    records = [
        Record(timestamp_ms=NOW - 10_000 + time if time >= 0 else -1, value=b"%d" % index * draw(st.integers(0, 90)))
        for index, time in enumerate(times)
    ]
    producer: dict[str, Any] = {}
    if draw(st.integers(0, 2)):
        producer = {
            "producer_id": draw(st.sampled_from([7, 7, 8])),
            "producer_epoch": draw(st.sampled_from([0, 0, 0, 0, 1])),
            "base_sequence": draw(st.integers(0, 3)),
        }
    found = bytearray(build_batch(records, **producer))
    match draw(st.integers(0, 15)):
        case 0:
            found[-1] ^= 1
        case 1:
            return bytearray(build_batch([Record(timestamp_ms=NOW, value=b"x" * LARGEST)]))
    return found


def one_by_one(log: PartitionLog, sent: list[bytearray]) -> list[AppendResult | KafkaError]:
    found: list[AppendResult | KafkaError] = []
    for batch in sent:
        try:
            found.append(log.append(bytearray(batch), leader_epoch=0, now_ms=NOW))
        except KafkaError as error:
            found.append(error)
    return found


def together(log: PartitionLog, sent: list[bytearray]) -> list[AppendResult | KafkaError]:
    return log.append_together([bytearray(batch) for batch in sent], leader_epoch=0, now_ms=NOW)


def told(results: list[AppendResult | KafkaError]) -> list[Any]:
    return [(type(each), str(each)) if isinstance(each, KafkaError) else each for each in results]


@given(SETTINGS, st.lists(st.lists(batches(), min_size=4, max_size=8), min_size=1, max_size=5))
def test_answers_and_files_are_those_of_single_appends(
    properties: dict[str, str], bursts: list[list[bytearray]]
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="logqueue-together-"))
    try:
        directory = open_directory(folder, Environment(fs=HastyFileSystem()))
        directory.create_topic("plain", partitions=2, properties=properties)
        first, second = directory.logs[PLAIN], directory.logs[OTHER]
        for burst in bursts:
            assert told(together(second, burst)) == told(one_by_one(first, burst))
            assert second.log_end_offset == first.log_end_offset
            assert second.flush() == first.flush()
        directory.close()
        stored = [
            {path.name: path.read_bytes() for path in (folder / name).glob("0*")} for name in ("plain-0", "plain-1")
        ]
        assert stored[1] == stored[0]
    finally:
        shutil.rmtree(folder)


class CountingDisk(HastyFileSystem):
    """Counts writes; with a fault those of at least `fails_from` bytes fail."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.fault: Fault | None = None
        self.fails_from = 0

    def pwrite(self, fd: int, data: Any, position: int, /) -> int:  # type: ignore[override]
        self.writes += 1
        fault = self.fault
        if fault is None or len(data) < self.fails_from:
            return super().pwrite(fd, data, position)
        if fault.short and len(data) > 1:
            return super().pwrite(fd, memoryview(data)[: len(data) // 2], position)
        raise OSError(fault.number, "the disk says no")


def test_batches_of_many_clients_are_one_write(tmp_path: Path) -> None:
    disk = CountingDisk()
    with closing(open_directory(tmp_path, Environment(fs=disk))) as directory:
        directory.create_topic("plain", partitions=1)
        log = directory.logs[PLAIN]
        log.append(batch_of(0), leader_epoch=0, now_ms=NOW)
        disk.writes = 0
        found = together(log, [batch_of(1), batch_of(2, producer_id=5, producer_epoch=0, base_sequence=0), batch_of(3)])
        assert [each.base_offset for each in found if isinstance(each, AppendResult)] == [1, 2, 3]
        assert disk.writes == 1
        assert [offset for offset, _ in read_all(log)] == [0, 1, 2, 3]


@pytest.mark.parametrize("fault", [ENOSPC, SHORT], ids=lambda fault: fault.name)
def test_of_batches_that_a_full_disk_refuses_nothing_is_left(tmp_path: Path, fault: Fault) -> None:
    disk = CountingDisk()
    with closing(open_directory(tmp_path, Environment(fs=disk))) as directory:
        directory.create_topic("plain", partitions=1)
        log = directory.logs[PLAIN]
        sent = [batch_of(0, producer_id=5, producer_epoch=0, base_sequence=0), batch_of(1)]
        together(log, sent)
        before = read_all(log)
        more = [batch_of(2), bytearray(b"no batch"), batch_of(3, producer_id=5, producer_epoch=0, base_sequence=1)]
        disk.fault = fault
        refused = together(log, [*more, sent[0]])
        assert [isinstance(each, DiskFull) for each in refused] == [True, False, True, False]
        assert isinstance(refused[1], KafkaError)
        assert refused[3] == (0, 0, NOW, 0, True), "it was stored before"
        assert read_all(log) == before
        disk.fault = None
        again = together(log, more)
        assert [each.base_offset for each in again if isinstance(each, AppendResult)] == [2, 3]
        assert [offset for offset, _ in read_all(log)] == [0, 1, 2, 3]


def test_after_a_failed_write_nothing_more_is_taken(tmp_path: Path) -> None:
    disk = CountingDisk()
    directory = open_directory(tmp_path, Environment(fs=disk))
    directory.create_topic("plain", partitions=1)
    log = directory.logs[PLAIN]
    together(log, [batch_of(0)])
    disk.fault = EIO
    assert all(isinstance(each, StorageError) for each in together(log, [batch_of(1), batch_of(2)]))
    disk.fault = None
    assert all(isinstance(each, StorageError) for each in together(log, [batch_of(1), batch_of(2)]))
    assert log.log_end_offset == 1


def test_after_a_roll_whose_first_write_failed_the_next_batch_begins_the_new_segment(tmp_path: Path) -> None:
    disk = CountingDisk()
    with closing(open_directory(tmp_path, Environment(fs=disk))) as directory:
        directory.create_topic("plain", partitions=1, properties={"segment.bytes": "700"})
        log = directory.logs[PLAIN]
        together(log, [batch_of(0)])
        large = bytearray(build_batch([Record(timestamp_ms=NOW, value=bytes(550))]))
        disk.fault, disk.fails_from = ENOSPC, len(large)
        refused, stored = together(log, [large, batch_of(1)])
        assert isinstance(refused, DiskFull)
        assert isinstance(stored, AppendResult)
        assert stored.base_offset == 1
        assert log._active is not None
        assert (log._active.base_offset, log._active.first_timestamp) == (1, NOW + 1)
