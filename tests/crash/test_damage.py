"""Damage at every byte of the tail of every kind of file: a start makes the best of it, and never makes anything up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from logqueue.clock import ManualClock
from logqueue.ids import TopicPartition
from logqueue.records import Record, build_batch
from logqueue.storage import Environment, LogDirectory
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
    """With few descriptors another log's recovery closes the file between the look at it and the cut."""
    names = [TopicPartition("t", index) for index in range(12)]
    directory = open_folder(scratch, max_open_files=100)
    directory.create_topic("t", partitions=len(names))
    for name in names:
        for number in range(3):
            batch = build_batch([Record(timestamp_ms=NOW, value=b"%d" % number)])
            directory.logs[name].append(batch, leader_epoch=0, now_ms=NOW)
    directory.close()
    (scratch / ".kafka_cleanshutdown").unlink()
    (scratch / "recovery-point-offset-checkpoint").unlink()
    for name in names:
        log = scratch / str(name) / f"{0:020d}.log"
        log.write_bytes(log.read_bytes()[:-1])
    directory = open_folder(scratch, max_open_files=1)
    assert len(directory.cuts) == len(names)
    sizes = {(scratch / str(name) / f"{0:020d}.log").stat().st_size for name in names}
    assert sizes == {directory.logs[names[0]].size}
    directory.close()


def open_folder(folder: Path, *, max_open_files: int) -> LogDirectory:
    environment = Environment(fs=HastyFileSystem(), max_open_files=max_open_files)
    return LogDirectory.open(folder, clock=ManualClock(time_ms=NOW), environment=environment)
