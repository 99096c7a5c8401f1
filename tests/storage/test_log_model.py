"""A partition log against a plain list: whatever is done to it, it reads as the list says."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from logqueue.records import Record, build_batch, iterate_batches, read_records
from logqueue.storage import Environment, LogDirectory, OffsetOutOfRange, PartitionLog
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN, open_directory


@dataclass
class Stored:
    """A batch as the model has it."""

    base: int
    records: list[Record]

    @property
    def end(self) -> int:
        return self.base + len(self.records)


class LogMachine(RuleBasedStateMachine):
    """Appends, reads, lookups, flushes, clean and unclean restarts, deletion from the front."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="logqueue-model-"))
        self.directory: LogDirectory
        self.batches: list[Stored] = []
        self.start = 0

    @property
    def log(self) -> PartitionLog:
        return self.directory.logs[PLAIN]

    @property
    def end(self) -> int:
        return self.batches[-1].end if self.batches else 0

    def _environment(self) -> Environment:
        return Environment(fs=HastyFileSystem(), max_open_files=2, index_cache_bytes=64)

    @initialize(segment=st.integers(500, 2000), interval=st.integers(0, 400), index=st.sampled_from([24, 48, 10_000]))
    def create(self, segment: int, interval: int, index: int) -> None:
        self.directory = open_directory(self.folder / "data", self._environment())
        properties = {
            "segment.bytes": str(segment),
            "index.interval.bytes": str(interval),
            "segment.index.bytes": str(index),
        }
        self.directory.create_topic("plain", partitions=1, properties=properties)

    @rule(
        times=st.lists(st.integers(-1, 50) | st.just(5000), min_size=1, max_size=4),
        size=st.integers(0, 60),
        codec=st.sampled_from(["none", "lz4"]),
    )
    def append(self, times: list[int], size: int, codec: str) -> None:
        records = [
            Record(timestamp_ms=time if time < 0 else NOW - 10_000 + time, value=b"%d" % index * size)
            for index, time in enumerate(times)
        ]
        base = self.end
        result = self.log.append(build_batch(records, compression=codec), leader_epoch=0, now_ms=NOW)
        assert (result.base_offset, result.last_offset) == (base, base + len(records) - 1)
        placed = [record._replace(offset=base + index) for index, record in enumerate(records)]
        self.batches.append(Stored(base, placed))

    @rule()
    def flush(self) -> None:
        assert self.log.flush() == self.end == self.log.durable_offset

    @rule(force=st.booleans())
    def checkpoint(self, force: bool) -> None:
        if force:
            self.log.advance_recovery_point(force=True)
        self.directory.checkpoint()
        assert self.log.recovery_point <= self.log.durable_offset

    @rule()
    def stop_and_start(self) -> None:
        self.directory.close()
        self.directory = open_directory(self.folder / "data", self._environment())
        assert self.directory.was_clean

    @rule()
    def crash_and_start(self) -> None:
        crashed = self.folder / "crashed"
        shutil.copytree(self.folder / "data", crashed)
        self.directory.close()
        shutil.rmtree(self.folder / "data")
        crashed.rename(self.folder / "data")
        self.directory = open_directory(self.folder / "data", self._environment())
        assert not self.directory.was_clean
        assert self.directory.cuts == []

    @precondition(lambda self: bool(self.batches))
    @rule(data=st.data())
    def delete_records(self, data: st.DataObject) -> None:
        offset = data.draw(st.integers(self.start, self.end))
        assert self.log.delete_records_before(offset) == offset
        self.start = offset
        self.directory.checkpoint()
        self.directory.purge()

    @precondition(lambda self: bool(self.batches))
    @rule(data=st.data(), max_bytes=st.integers(0, 600), at_least_one=st.booleans())
    def read(self, data: st.DataObject, max_bytes: int, at_least_one: bool) -> None:
        offset = data.draw(st.integers(self.start, self.end))
        end = data.draw(st.sampled_from([batch.end for batch in self.batches]))
        part = self.log.read(offset=offset, max_bytes=max_bytes, max_offset=end, min_one_batch=at_least_one)
        expected = [batch for batch in self.batches if batch.end > offset and batch.end <= end]
        if not part.size:
            assert part.next_offset == offset
            assert not (expected and at_least_one)
            return
        content = self.log.read_bytes(part)
        got = [list(read_records(content, position)) for position, _ in iterate_batches(content)]
        assert got == [batch.records for batch in expected[: len(got)]]
        assert part.next_offset == expected[len(got) - 1].end
        assert part.size <= max_bytes or (len(got) == 1 and at_least_one)

    @rule(time=st.integers(-5, 60) | st.just(5001))
    def find_time(self, time: int) -> None:
        wanted = NOW - 10_000 + time
        readable = [r for batch in self.batches for r in batch.records if r.offset >= self.start]
        expected = next((r for r in readable if r.timestamp_ms >= wanted), None)
        found = self.log.offset_for_timestamp(wanted)
        assert (found and (found.timestamp_ms, found.offset)) == (expected and (expected.timestamp_ms, expected.offset))

    @invariant()
    def the_ends_agree(self) -> None:
        if hasattr(self, "directory"):
            assert self.log.log_end_offset == self.end
            assert self.log.log_start_offset == self.start

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            seen = [r for chunk in self.log.iterate_batches(offset=self.start) for r in _records(chunk)]
            assert [r for r in seen if r.offset >= self.start] == [
                r for batch in self.batches for r in batch.records if r.offset >= self.start
            ]
            self.directory.close()
        shutil.rmtree(self.folder)


def _records(chunk: bytes) -> list[Record]:
    return [record for position, _ in iterate_batches(chunk) for record in read_records(chunk, position)]


TestLogModel = LogMachine.TestCase
TestLogModel.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_offsets_outside_the_log_are_refused(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    directory.create_topic("plain", partitions=1)
    log = directory.logs[PLAIN]
    log.append(build_batch([Record(timestamp_ms=NOW, value=b"x")] * 3), leader_epoch=0, now_ms=NOW)
    assert log.read(offset=3, max_bytes=100).size == 0
    for offset in (-1, 4):
        with pytest.raises(OffsetOutOfRange):
            log.read(offset=offset, max_bytes=100)
    directory.close()
