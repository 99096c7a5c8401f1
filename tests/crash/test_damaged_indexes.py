"""Index files have no checksum: a wrong entry of a cleanly stopped folder costs time and a line in the log, no more.

Fetches at every offset, lookups of every time, aborted transactions and retention give the answers of the whole folder,
whichever byte of whichever index was changed or is missing.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import pytest

from logqueue.clock import ManualClock
from logqueue.records import Record, build_batch, iterate_batches, read_records
from logqueue.storage import Environment, LogDirectory, PartitionLog
from logqueue.storage.retention import find_expired
from tests.crash.indexes import ABORTED_ENTRY, OFFSET_ENTRY, TIME_ENTRY
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW, PLAIN

SEED = 20
BATCHES = 44
STEP_MS = 1_000
PROPERTIES = {"segment.bytes": "1200", "index.interval.bytes": "150", "retention.ms": "60000", "segment.ms": str(2**60)}
GARBAGE = b"\x7fgarbage\xff" * 30


def opened(folder: Path) -> LogDirectory:
    environment = Environment(fs=HastyFileSystem())
    return LogDirectory.open(folder, clock=ManualClock(time_ms=NOW), environment=environment)


@dataclass(frozen=True)
class Whole:
    """The folder after a clean stop, and what its log says."""

    files: dict[Path, bytes]

    @cached_property
    def batches(self) -> list[tuple[int, int, list[Record]]]:
        """Base offset, last offset and records of each batch."""
        logs = sorted((path for path in self.files if path.suffix == ".log"), key=lambda path: path.name)
        return [
            (header.base_offset, header.last_offset, list(read_records(self.files[path], position, header)))
            for path in logs
            for position, header in iterate_batches(self.files[path])
        ]

    @cached_property
    def records(self) -> list[Record]:
        return [record for _, _, records in self.batches for record in records]

    @property
    def indexes(self) -> list[Path]:
        return sorted(path for path in self.files if path.suffix in (".index", ".timeindex", ".txnindex"))

    @property
    def bases(self) -> list[int]:
        return sorted(int(path.stem) for path in self.files if path.suffix == ".log")

    def restored_in(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        for path, content in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)


def appended(log: PartitionLog, random: Random) -> None:
    """Batches of several producers, whose times differ and do not rise; some transactions are aborted."""
    times = [NOW + STEP_MS * number for number in range(BATCHES * 4)]
    random.shuffle(times)
    sequences = {7: 0, 8: 0}
    for number in range(BATCHES):
        kind = number % 8
        if kind in (3, 7):
            log.append_marker(
                7 if kind == 3 else 8, 0, commit=kind == 7, coordinator_epoch=0, leader_epoch=0, now_ms=times.pop()
            )
            continue
        records = [Record(timestamp_ms=times.pop(), value=b"v" * random.randint(1, 90)) for _ in range(1 + number % 3)]
        producer = {1: 7, 2: 7, 5: 8}.get(kind)
        if producer is None:
            batch = build_batch(records)
        else:
            batch = build_batch(
                records, producer_id=producer, producer_epoch=0, base_sequence=sequences[producer], transactional=True
            )
            sequences[producer] += len(records)
        log.append(batch, leader_epoch=0, now_ms=NOW)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    directory = opened(folder)
    directory.create_topic("plain", partitions=1, properties=PROPERTIES)
    log = directory.logs[PLAIN]
    random = Random(SEED)
    appended(log, random)
    directory.close()
    made = Whole({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert len(made.bases) >= 5
    assert {path.suffix for path in made.indexes if made.files[path]} == {".index", ".timeindex", ".txnindex"}
    return made


class Told(logging.Handler):
    """What the log says is damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.paths.append(record.getMessage().split()[0])


@pytest.fixture
def told() -> Iterator[Told]:
    handler, logger = Told(), logging.getLogger("logqueue.storage")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def check_fetches(log: PartitionLog, whole: Whole) -> None:
    bases = [base for base, _, _ in whole.batches]
    for number, (base, last, _) in enumerate(whole.batches):
        for offset in range(base, last + 1):
            for max_bytes in (1, 420):
                part = log.read(offset=offset, max_bytes=max_bytes)
                found = [header.base_offset for _, header in iterate_batches(log.read_bytes(part))]
                assert found == bases[number : number + len(found)] and found, f"a fetch at {offset} gives {found}"
                assert part.next_offset == [*bases, log.log_end_offset][number + len(found)]


def check_times(log: PartitionLog, whole: Whole) -> None:
    for time in (each.timestamp_ms for each in whole.records):
        for wanted in (time, time - STEP_MS // 2):
            first = next(each for each in whole.records if each.timestamp_ms >= wanted)
            found = log.offset_for_timestamp(wanted)
            assert found is not None and found[:2] == (first.timestamp_ms, first.offset), f"{wanted}: {found}"
    latest = max(whole.records, key=lambda each: each.timestamp_ms)
    assert log.offset_for_timestamp(latest.timestamp_ms + 1) is None
    found = log.max_timestamp_offset()
    assert found is not None and found[:2] == (latest.timestamp_ms, latest.offset)


def check_retention(log: PartitionLog, whole: Whole) -> None:
    ends = [*whole.bases[1:], log.log_end_offset]
    latest = [
        max(each.timestamp_ms for each in whole.records if base <= each.offset < end)
        for base, end in zip(whole.bases, ends, strict=True)
    ]
    for now in range(NOW, NOW + 5 * BATCHES * STEP_MS, 9 * STEP_MS):
        due = next((number for number, time in enumerate(latest) if now - time <= 60_000), len(latest))
        end = log.log_end_offset
        found = find_expired(
            log.segments, log.config, log_start_offset=0, log_end_offset=end, high_watermark=end, now_ms=now
        )
        assert (found.count if found else 0) == due


def check_aborted(log: PartitionLog, expected: list[list[tuple[int, int]]]) -> None:
    end = log.log_end_offset
    assert [sorted(log.aborted_transactions(start, end)) for start in range(end)] == expected


def check(folder: Path, whole: Whole, expected: list[list[tuple[int, int]]], *, times_first: bool) -> None:
    directory = opened(folder)
    log = directory.logs[PLAIN]
    steps = [check_times, check_fetches] if times_first else [check_retention, check_fetches, check_times]
    for step in steps:
        step(log, whole)
    check_retention(log, whole)
    check_aborted(log, expected)
    log.append(build_batch([Record(timestamp_ms=NOW, value=b"goes on")]), leader_epoch=0, now_ms=NOW)
    directory.close()


def damages(content: bytes, entry_size: int, random: Random, *, cut_shows: bool) -> Iterator[tuple[str, bytes]]:
    for at in range(len(content)):
        for bit in {7, random.randrange(7)} if at % entry_size % 4 == 0 else {random.randrange(8)}:
            flipped = bytearray(content)
            flipped[at] ^= 1 << bit
            yield f"bit {bit} of byte {at} flipped", bytes(flipped)
        if cut_shows or at % entry_size:
            yield f"cut at {at}", content[:at]
    yield "zeros behind it", content + bytes(2 * entry_size)
    yield "all zeros", bytes(len(content))
    yield "garbage behind it", content + GARBAGE
    yield "twice", content + content


ENTRY_SIZES = {".index": OFFSET_ENTRY.size, ".timeindex": TIME_ENTRY.size, ".txnindex": ABORTED_ENTRY.size}


@pytest.mark.parametrize("suffix", ENTRY_SIZES)
def test_answers_are_right_whichever_byte_of_an_index_is_damaged(
    whole: Whole, scratch: Path, told: Told, suffix: str
) -> None:
    folder, random = scratch / "data", Random(SEED)
    whole.restored_in(folder)
    directory = opened(folder)
    log = directory.logs[PLAIN]
    expected = [sorted(log.aborted_transactions(start, log.log_end_offset)) for start in range(log.log_end_offset)]
    directory.close()
    assert any(expected)
    tried = 0
    for path in (each for each in whole.indexes if each.suffix == suffix and whole.files[each]):
        # A file of aborted transactions that is cut exactly between two entries looks like one that had fewer.
        spoilt = damages(whole.files[path], ENTRY_SIZES[suffix], random, cut_shows=suffix != ".txnindex")
        for what, content in spoilt:
            tried += 1
            whole.restored_in(folder)
            (folder / path).write_bytes(content)
            told.paths.clear()
            try:
                check(folder, whole, expected, times_first=bool(tried % 2))
            except Exception as error:
                raise AssertionError(f"{path}, {what}: {type(error).__name__}: {error}") from error
            assert told.paths in ([], [str(folder / path)]), f"{path}, {what}: {told.paths}"
    assert tried > 100


def test_an_index_that_is_made_anew_is_told_of_once_and_whole_after_that(
    whole: Whole, scratch: Path, told: Told
) -> None:
    folder = scratch / "data"
    path = next(each for each in whole.indexes if each.suffix == ".index" and len(whole.files[each]) >= 24)
    content = bytearray(whole.files[path])
    content[12] ^= 0x80  # the second entry points before the file
    whole.restored_in(folder)
    (folder / path).write_bytes(content)
    for _ in range(2):
        directory = opened(folder)
        check_fetches(directory.logs[PLAIN], whole)
        directory.close()
    assert told.paths == [str(folder / path)]
    assert (folder / path).read_bytes() == whole.files[path]


def test_an_index_that_cannot_be_written_anew_is_made_in_memory(whole: Whole, scratch: Path, told: Told) -> None:
    class Full(HastyFileSystem):
        is_full = False

        def open(self, path: Path, *, create: bool = False) -> int:
            if self.is_full and create:
                raise OSError(28, "No space left on device")
            return super().open(path, create=create)

    fs = Full()
    folder = scratch / "data"
    path = next(each for each in whole.indexes if each.suffix == ".timeindex" and len(whole.files[each]) >= 36)
    content = bytearray(whole.files[path])
    content[-12] ^= 0x40  # the largest time lies in the far future
    whole.restored_in(folder)
    (folder / path).write_bytes(content)
    clock = ManualClock(time_ms=NOW)
    log = LogDirectory.open(folder, clock=clock, environment=Environment(fs=fs)).logs[PLAIN]
    fs.is_full = True
    for _ in range(2):
        check_times(log, whole)
        check_retention(log, whole)
    assert told.paths == [str(folder / path)] * 2  # that it is damaged, and that it cannot be written
    assert (folder / path).read_bytes() == content
