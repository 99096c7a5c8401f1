"""Power cuts and failing disks at every step of a small life: what was acknowledged is kept, nothing is made up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from logqueue.errors import LogqueueError
from tests.storage.disks import (
    EIO,
    ENOSPC,
    SHORT_THEN_FULL,
    Disk,
    FailingFileSystem,
    Failure,
    ForgetfulFileSystem,
    RecordingFileSystem,
    write_image,
)
from tests.storage.workload import Promises, Workload, check_kept, empty


def crash_everywhere(fs: RecordingFileSystem, source: Path, target: Path, *, every: int) -> Counter[str]:
    """Restart on the images of every `every`-th crash state; answers how many there were by kind."""
    disk, promises, tried, number = Disk(), Promises(), Counter[str](), 0
    disk.apply(("mkdir", source))
    disk.apply(("sync_dir", source.parent))
    for change in fs.journal:
        if change[0] == "mark":
            assert isinstance(change[1], Promises)
            promises = change[1]
            continue
        disk.apply(change)
        for kind, image in disk.images():
            number += 1
            if number % every:
                continue
            tried[" ".join(kind.split()[:2])] += 1
            write_image(image, source=source, target=empty(target))
            try:
                check_kept(target, promises)
            except (AssertionError, LogqueueError) as error:
                raise AssertionError(f"crash state {number} ({kind}, after {change[:2]}): {error}") from error
    return tried


def run_recorded(fs: RecordingFileSystem, folder: Path) -> None:
    folder.mkdir()
    Workload(fs, folder, on_promise=fs.mark).run()


def test_every_promise_survives_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    fs = RecordingFileSystem()
    run_recorded(fs, tmp_path / "source")
    tried = crash_everywhere(fs, tmp_path / "source", tmp_path / "target", every=11)
    assert tried.total() > 300


def test_these_tests_notice_an_fsync_that_does_nothing(tmp_path: Path) -> None:
    fs = ForgetfulFileSystem()
    run_recorded(fs, tmp_path / "source")
    with pytest.raises(AssertionError, match="crash state"):
        crash_everywhere(fs, tmp_path / "source", tmp_path / "target", every=11)


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("failure", [EIO, ENOSPC, SHORT_THEN_FULL], ids=lambda failure: failure.name)
def test_a_disk_error_at_any_call_breaks_no_promise(tmp_path: Path, failure: Failure, for_good: bool) -> None:
    folder = tmp_path / "data"
    at = 0
    while True:
        at += 3 if for_good else 2
        fs = FailingFileSystem(at=at, failure=failure, for_good=for_good)
        workload = Workload(fs, empty(folder))
        try:
            workload.run(rounds=2)
        except LogqueueError:
            assert fs.has_failed
        if not fs.has_failed:
            break
        try:
            check_kept(folder, workload.promises)
        except (AssertionError, LogqueueError) as error:
            raise AssertionError(f"call {at} ({fs.failed_call}) failed with {failure.name}: {error}") from error
    assert at > 50
