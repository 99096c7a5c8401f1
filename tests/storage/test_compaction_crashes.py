"""Power cuts and disk errors at every step of a compaction and of a retention: readers see what they saw before."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from logqueue.errors import LogqueueError
from logqueue.storage.file_system import FileSystem
from logqueue.storage.retention import find_expired
from tests.crash.disk_states import states_over_time, write_image
from tests.crash.faults import EIO, ENOSPC, Fault, FaultyFileSystem
from tests.crash.recording import RecordingFileSystem
from tests.storage.compacted import RETENTION, Compacted, latest
from tests.storage.disks import HastyFileSystem
from tests.storage.workload import NOW

Rows = list[tuple[int, str, str | None]]


class Life:
    """A log with everything that compaction looks at, all of it durable; then a compaction, or a retention."""

    def __init__(self, fs: FileSystem, folder: Path, **properties: str) -> None:
        self.kept = kept = Compacted(folder, fs=fs, segment_bytes="700", **properties)
        for number in range(24):
            kept.put((f"k{number % 5}", None if number % 7 == 3 else f"v{number}"), (f"m{number % 3}", f"w{number}"))
            if number % 4 == 0:
                kept.put((f"k{number % 3}", f"t{number}"), pid=9, sequence=number // 4, txn=1)
                kept.end(9, commit=number % 8 == 0)
        kept.roll()
        kept.put(("active", "1"))
        kept.log.flush()
        kept.directory.checkpoint()
        self.all = kept.records()
        self.committed = kept.committed()
        self.end = kept.log.log_end_offset

    def compact_twice(self) -> None:
        """The second time tombstones and markers are past their horizon, and small segments come together."""
        self.kept.compact()
        self.kept.directory.purge()
        self.kept.clock.advance(RETENTION / 1000)
        self.kept.roll()
        self.kept.put(("active", "2"))
        self.kept.compact()
        self.kept.directory.purge()

    def expire(self) -> None:
        """First some segments go, then all of them."""
        log = self.kept.log
        for properties in ({"retention.bytes": "1500"}, {"retention.bytes": "0"}):
            self.kept.directory.alter_topic(
                "plain", {"cleanup.policy": "delete", "file.delete.delay.ms": "0", **properties}
            )
            found = find_expired(
                log.segments,
                log.config,
                log_start_offset=log.log_start_offset,
                log_end_offset=log.log_end_offset,
                high_watermark=log.log_end_offset,
                now_ms=NOW,
            )
            assert found is not None
            if found.rolls_first:
                log.roll(NOW)
            assert log.retire_before(found.offset) == found.count
            self.kept.directory.purge()
            self.kept.directory.checkpoint()


def reopened(folder: Path) -> Compacted:
    kept = Compacted.existing(folder, fs=HastyFileSystem())
    kept.clock.advance(10)
    kept.open()
    return kept


def check_compacted(folder: Path, life: Life) -> None:
    kept = reopened(folder)
    try:
        newest_file = kept.log.segments[-1].path  # what was being written when the power went may be torn
        assert all(cut.file == newest_file for cut in kept.directory.cuts)
        assert kept.files("*.swap") == kept.files("*.cleaned") == kept.files("*.deleted") == []
        rows, committed = kept.records(), kept.committed()
        assert kept.log.log_end_offset >= life.end
        assert {row for row in rows if row[1] != "active"} <= set(life.all), "a record that was never sent"
        assert _latest(committed) == _latest(life.committed), "a reader sees another latest value"
        newest: dict[str, tuple[int, str, str | None]] = {row[1]: row for row in life.committed if row[1] != "active"}
        assert {row for row in newest.values() if row[2] is not None} <= set(committed), "a newest record is lost"
        kept.compact()
        assert _latest(kept.committed()) == _latest(life.committed)
    finally:
        kept.close()
    again = reopened(folder)
    assert again.directory.was_clean and again.directory.cuts == []
    again.close()


def _latest(rows: Rows) -> dict[str, str]:
    return {key: value for key, value in latest(rows).items() if key != "active"}


def check_expired(folder: Path, life: Life) -> None:
    kept = reopened(folder)
    try:
        assert kept.directory.cuts == []
        log = kept.log
        assert log.log_end_offset == life.end
        assert [row for row in life.all if row[0] >= log.log_start_offset] == [
            row for row in kept.records() if row[0] >= log.log_start_offset
        ], "what is left is not the end of the log"
    finally:
        kept.close()


def crash_everywhere(
    fs: RecordingFileSystem, source: Path, target: Path, check: Callable[[Path], None], *, every: int
) -> int:
    """Restart on the images of crash states after the mark; answers how many there were."""
    tried = 0
    for event, name, image in states_over_time(fs.journal, source, every=every):
        if event is None:
            continue
        tried += 1
        write_image(image, target)
        try:
            check(target)
        except (AssertionError, LogqueueError) as error:
            raise AssertionError(f"{name}: {error}") from error
    return tried


@pytest.mark.parametrize("shift", [1, 2])
def test_a_compaction_survives_a_power_cut_at_any_moment(tmp_path: Path, shift: int) -> None:
    fs = RecordingFileSystem()
    (tmp_path / "source").mkdir()
    life = Life(fs, tmp_path / "source")
    fs.mark("it begins")
    life.compact_twice()
    tried = crash_everywhere(
        fs, tmp_path / "source", tmp_path / "target", lambda folder: check_compacted(folder, life), every=25 + shift
    )
    assert tried > 100


def test_a_retention_survives_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    fs = RecordingFileSystem()
    (tmp_path / "source").mkdir()
    life = Life(fs, tmp_path / "source")
    fs.mark("it begins")
    life.expire()
    tried = crash_everywhere(
        fs, tmp_path / "source", tmp_path / "target", lambda folder: check_expired(folder, life), every=7
    )
    assert tried > 100


@pytest.mark.parametrize("fault", [EIO, ENOSPC], ids=lambda fault: fault.name)
def test_a_disk_error_at_any_call_of_a_compaction_changes_nothing_for_readers(tmp_path: Path, fault: Fault) -> None:
    source, folder, at = tmp_path / "source", tmp_path / "data", 0
    life = Life(HastyFileSystem(), source)
    life.kept.close()
    while True:
        at += 5
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        fs = FaultyFileSystem(fault, at=at, for_good=False)
        life.kept = Compacted.existing(folder, fs=fs)
        try:
            life.kept.open()
            life.compact_twice()
        except (OSError, LogqueueError):
            assert fs.has_failed
        if hasattr(life.kept, "directory"):
            try:
                life.kept.close()
            except LogqueueError:
                assert fs.has_failed
        if not fs.has_failed:
            break
        check_compacted(folder, life)
    assert at > 60
