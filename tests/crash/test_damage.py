"""Damage at every byte of the tail of every kind of file: a start makes the best of it, and never makes anything up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from random import Random

import pytest

from tests.crash.damage import Damage, damages, kind_of
from tests.crash.disk_states import Disk, Image
from tests.crash.life import Life
from tests.crash.power_cuts import try_image
from tests.crash.promises import Promises
from tests.crash.recording import RecordingFileSystem
from tests.crash.verdict import check_alive, check_promises, check_served, check_survivors

SEED = 4
STEPS = 30
SHARE = 0.012
"""The fast slice plays a share of all damages; `make soak` plays them all."""

REBUILT = {".index", ".timeindex", ".txnindex", ".snapshot", "leader-epoch-checkpoint", ".kafka_cleanshutdown", ".lock"}
"""Kinds that hold nothing that is not elsewhere too: no promise may be lost with them."""
CHECKED = {".log", "recovery-point-offset-checkpoint"}
"""What a start after a crash judges batch by batch."""

Check = Callable[[Path, Promises], None]


@dataclass(frozen=True)
class Remains:
    """What a life left on the disk, and what it had promised."""

    name: str
    image: Image
    promises: Promises
    is_clean: bool

    def check_for(self, kind: str) -> Check:
        if kind in REBUILT:
            return check_served if self.is_clean else check_promises
        return check_survivors if kind in CHECKED and not self.is_clean else check_alive


def remains_of(folder: Path, *, seed: int, steps: int) -> list[Remains]:
    """A folder after a clean stop, one of a killed process, and one whose recovery has to look at everything."""
    fs = RecordingFileSystem()
    life = Life(folder, fs, seed=seed, on_event=fs.mark)
    folder.mkdir()
    life.run(steps)
    disk = Disk(folder)
    last_mark = max(number for number, entry in enumerate(fs.journal) if entry[0] == "mark")
    for entry in fs.journal[:last_mark]:
        disk.apply(entry)
    killed = disk.image()
    for entry in fs.journal[last_mark:]:
        disk.apply(entry)
    unknown = dict(killed)
    unknown[PurePosixPath("recovery-point-offset-checkpoint")] = b"0\n0\n"
    return [
        Remains("clean", disk.image(), life.promises, True),
        Remains("killed", killed, life.promises, False),
        Remains("killed early", unknown, life.promises, False),
    ]


def all_damages(image: Image, random: Random) -> Iterator[Damage]:
    for path, content in sorted(image.items()):
        if content is not None:
            yield from damages(path, content, random)


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
