"""Any call to the disk fails: every promise is kept, a failed fsync ends all promises, and a restart mends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.faults import FAULTS, Fault, FaultyFileSystem, TroubledLife, calls_of_a_life, fail_once

SEED = 4
STEPS = 14
EVERY = 17
"""The fast slice fails every n-th call; `make soak` fails them all."""


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
