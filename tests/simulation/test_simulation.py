"""The real broker, its logs and its clients in a simulated world: a seed plays a run, and a fault plays it again.

The long form is `make soak ARGS="--only simulation"`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.recording import LooseFileSystem
from tests.crash.scratch import fast_folder
from tests.simulation.run import Anomaly, Simulation

SEEDS = range(1, 13)


@pytest.fixture
def scratch() -> Iterator[Path]:
    logging.disable(logging.CRITICAL)
    with fast_folder() as folder:
        yield folder
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", SEEDS)
def test_clients_find_no_anomaly_whatever_is_lost_late_or_killed(scratch: Path, seed: int) -> None:
    seen = Simulation(scratch / "node", seed).run()
    assert seen.polled > 0


def test_a_seed_plays_the_same_run_again(scratch: Path) -> None:
    first = Simulation(scratch / "first", 3).run()
    assert Simulation(scratch / "second", 3).run() == first


def test_the_simulation_notices_an_fsync_that_does_nothing(scratch: Path) -> None:
    with pytest.raises(Anomaly):
        for seed in SEEDS:
            Simulation(scratch / f"{seed}", seed, disk=LooseFileSystem).run()
