"""Damage at every byte of the tail of every kind of file: a start makes the best of it, and never makes anything up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from tests.crash.damage import all_damages, kind_of, remains_of
from tests.crash.power_cuts import try_image

SEED = 4
STEPS = 30
SHARE = 0.012
"""The fast slice plays a share of all damages; `make soak` plays them all."""


@pytest.mark.usefixtures("quiet")
def test_damage_to_any_file_is_survived_or_told(scratch: Path) -> None:
    random = Random(SEED)
    tried: Counter[str] = Counter()
    for remains in remains_of(scratch / "data", seed=SEED, steps=STEPS):
        kinds = Counter(kind_of(path) for path in remains.image)
        for damage in all_damages(remains.image, random):
            kind = kind_of(damage.path)
            if random.random() * kinds[kind] < SHARE * 4:
                tried[kind] += 1
                what = f"seed {SEED}, {remains.name}, {damage}"
                image = damage.applied_to(remains.image)
                try_image(image, scratch / "target", remains.promises, what, remains.check_for(kind))
    assert tried.keys() >= {".log", ".index", ".timeindex", ".snapshot", "meta.properties", "partition.metadata"}
