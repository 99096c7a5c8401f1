"""The long forms of the crash tests: as many seeds as there is time for. Each answers what it looked at."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from itertools import count
from pathlib import Path
from random import Random

from tests.crash.damage import all_damages, kind_of, remains_of
from tests.crash.faults import FAULTS, calls_of_a_life, fail_once
from tests.crash.power_cuts import Tally, crash_everywhere, record_life, try_image
from tests.crash.recording import RecordingFileSystem

STEPS = (20, 80)
SHARE = 0.04
DAMAGE_SHARE = 0.03


def _lives(folder: Path, seed: int, seconds: float) -> tuple[Random, float]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Random(seed), time.monotonic() + seconds


def power_cuts(folder: Path, *, seed: int, seconds: float) -> str:
    """Record lives, and start on what power cuts leave of them. Raises BrokenPromise."""
    random, until = _lives(folder, seed, seconds)
    tally = Tally()
    for number in count(1):
        life_seed = random.randrange(1 << 30)
        fs = RecordingFileSystem()
        data = folder / f"life-{number}"
        record_life(data, fs, seed=life_seed, steps=random.randint(*STEPS))
        crash_everywhere(fs, data, folder / "target", seed=life_seed, share=SHARE, until=until, tally=tally)
        if time.monotonic() > until:
            return f"{number} lives, {tally}"
        shutil.rmtree(data)
    raise AssertionError


def disk_errors(folder: Path, *, seed: int, seconds: float) -> str:
    """Fail the calls of lives one by one. Raises BrokenPromise."""
    random, until = _lives(folder, seed, seconds)
    tried: Counter[str] = Counter()
    for number in count(1):
        life_seed, steps = random.randrange(1 << 30), random.randint(*STEPS)
        calls = calls_of_a_life(folder / f"healthy-{number}", seed=life_seed, steps=steps)
        order = list(range(1, calls + 1))
        random.shuffle(order)
        for at in order:
            if time.monotonic() > until:
                return f"{tried.total()} calls failed in {number} lives"
            fault, for_good = random.choice(FAULTS), random.random() < 0.5
            fail_once(folder, fault, seed=life_seed, steps=steps, at=at, for_good=for_good)
            tried[fault.name] += 1
    raise AssertionError


def damage(folder: Path, *, seed: int, seconds: float) -> str:
    """Spoil files of what lives have left. Raises BrokenPromise."""
    random, until = _lives(folder, seed, seconds)
    tried: Counter[str] = Counter()
    for number in count(1):
        life_seed, steps = random.randrange(1 << 30), random.randint(*STEPS)
        remains = remains_of(folder / f"life-{number}", seed=life_seed, steps=steps)
        choices = ((left, spoilt) for left in remains for spoilt in all_damages(left.image, random))
        for each, damaged in choices:
            if random.random() > DAMAGE_SHARE:
                continue
            if time.monotonic() > until:
                return f"{tried.total()} damages in {number} lives"
            kind = kind_of(damaged.path)
            what = f"seed {life_seed}, {steps} steps, {each.name}, {damaged}"
            image = damaged.applied_to(each.image)
            try_image(image, folder / "target", each.promises, what, each.check_for(kind))
            tried[kind] += 1
    raise AssertionError
