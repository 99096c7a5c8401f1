"""Damage at every byte of the tail of every kind of file: a start makes the best of it, and never makes anything up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from logqueue.config import LogConfig
from logqueue.records import Record, build_batch
from logqueue.storage import Environment
from logqueue.storage.segment import Segment
from tests.crash.damage import all_damages, kind_of, remains_of
from tests.crash.life import NOW
from tests.crash.power_cuts import try_image
from tests.storage.disks import HastyFileSystem

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


def test_a_torn_tail_is_cut_off_though_its_file_was_closed_meanwhile(scratch: Path) -> None:
    """With few descriptors the recovery of another log closes the file between the look at it and the cut."""
    segment = Segment(Environment(fs=HastyFileSystem()), LogConfig(), scratch, base_offset=0, created_ms=NOW)
    batch = build_batch([Record(timestamp_ms=NOW, value=b"whole")])
    segment.append(batch, 0, NOW)
    segment.append(batch, 1, NOW)
    segment.release()
    segment.size = len(batch)
    segment.cut_back()
    assert segment.path.read_bytes() == batch
