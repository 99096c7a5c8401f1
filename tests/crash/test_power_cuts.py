"""Power cuts at every moment of a broker's life: what was promised is there after them, and nothing is made up.

The long form is `make soak ARGS="--only power-cuts"`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.power_cuts import BrokenPromise, crash_everywhere, record_life
from tests.crash.recording import ForgetfulFileSystem, LooseFileSystem, NamelessFileSystem, RecordingFileSystem

SEED = 4
STEPS = 40
SHARE = 0.012


@pytest.mark.usefixtures("quiet")
def test_every_promise_survives_a_power_cut_at_any_moment(scratch: Path) -> None:
    fs = RecordingFileSystem()
    record_life(scratch / "data", fs, seed=SEED, steps=STEPS)
    tally = crash_everywhere(fs, scratch / "data", scratch / "target", seed=SEED, share=SHARE)
    assert tally.tried.total() > 150
    assert len(tally.tried) == 11, "every kind of loss was played"


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("disk", [ForgetfulFileSystem, LooseFileSystem, NamelessFileSystem])
def test_these_tests_notice_an_fsync_that_does_nothing(scratch: Path, disk: type[RecordingFileSystem]) -> None:
    fs = disk()
    record_life(scratch / "data", fs, seed=SEED, steps=STEPS)
    with pytest.raises(BrokenPromise):
        crash_everywhere(fs, scratch / "data", scratch / "target", seed=SEED, share=SHARE)
