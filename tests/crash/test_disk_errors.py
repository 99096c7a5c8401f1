"""Any call to the disk fails: every promise is kept, a failed fsync ends all promises, and a restart mends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.disk_states import Disk
from tests.crash.faults import FAULTS, Fault, FaultyFileSystem, TroubledLife
from tests.crash.life import Life
from tests.crash.power_cuts import try_image
from tests.crash.recording import RecordingFileSystem

SEED = 4
STEPS = 14
EVERY = 17
"""The fast slice fails every n-th call; `make soak` fails them all."""


def fail_once(folder: Path, fault: Fault, *, seed: int, steps: int, at: int, for_good: bool) -> FaultyFileSystem:
    """Live on a disk whose `at`-th call fails, then start on what is there for sure and on what may be there."""
    fs = FaultyFileSystem(fault, at=at, for_good=for_good)
    data = folder / f"data-{at}"
    life = TroubledLife(data, fs, seed=seed)
    data.mkdir()
    life.run(steps)
    disk = Disk(data)
    for entry in fs.journal:
        disk.apply(entry)
    what = f"seed {seed}, call {at} ({fs.failed_call}) fails with {fault.name}{' for good' if for_good else ''}"
    for state in list(disk.states())[:2]:
        try_image(state.image(), folder / "target", life.promises, f"{what}, {state}")
    return fs


def calls_of_a_life(folder: Path, *, seed: int, steps: int) -> int:
    fs = FaultyFileSystem(FAULTS[0], at=0, for_good=False)
    folder.mkdir()
    Life(folder, fs, seed=seed).run(steps)
    return fs.calls


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_disk_error_at_any_call_breaks_no_promise(scratch: Path, fault: Fault, for_good: bool) -> None:
    calls = calls_of_a_life(scratch / "healthy", seed=SEED, steps=STEPS)
    for at in range(1 + FAULTS.index(fault) * 5, calls, EVERY):
        fail_once(scratch, fault, seed=SEED, steps=STEPS, at=at, for_good=for_good)
    assert calls > 150


def test_a_healthy_disk_refuses_nothing(scratch: Path) -> None:
    fs = FaultyFileSystem(FAULTS[0], at=0, for_good=False)
    life = TroubledLife(scratch, fs, seed=SEED)
    life.run(STEPS)
    assert life.refusals == 0
    assert isinstance(fs, RecordingFileSystem)
