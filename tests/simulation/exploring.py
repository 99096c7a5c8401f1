"""The long form of the simulation: seed after seed while there is time."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from random import Random

from tests.simulation.run import Simulation


def simulation(folder: Path, *, seed: int, seconds: float) -> str:
    """Raises Anomaly with the seed that broke a rule."""
    until, random = time.monotonic() + seconds, Random(seed)
    runs = crashes = events = 0
    while time.monotonic() < until:
        seen = Simulation(folder, seed if not runs else random.randrange(1 << 30)).run()
        shutil.rmtree(folder)
        runs, crashes, events = runs + 1, crashes + seen.crashes, events + seen.events
    return f"{runs} runs, {crashes} power cuts, {events} events"
