"""Damage to the files of a data folder: what is done to each, and what a start may make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from random import Random
from typing import NamedTuple

from tests.crash.disk_states import Disk, Image
from tests.crash.indexes import ABORTED_ENTRY
from tests.crash.life import Life
from tests.crash.promises import Promises
from tests.crash.recording import RecordingFileSystem
from tests.crash.verdict import check_alive, check_promises, check_served, check_survivors

TAIL_BYTES = 160
"""Of longer files every byte of so much of the end is damaged, and some of the rest."""
GARBAGE = b"\x7fgarbage\xff" * 30


class Damage(NamedTuple):
    """One file of an image, spoilt."""

    path: PurePosixPath
    what: str
    content: bytes

    def applied_to(self, image: Image) -> Image:
        return {**image, self.path: self.content}

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def kind_of(path: PurePosixPath) -> str:
    """What a file is: its ending within a partition, its name elsewhere."""
    return path.suffix if path.suffix and path.stem.isdigit() else path.name


def damages(path: PurePosixPath, content: bytes, random: Random) -> Iterator[Damage]:
    """Every way in which a file may be spoilt: cut or flipped at each byte of its tail, ended by zeros or garbage."""
    size = len(content)
    tail = range(max(size - TAIL_BYTES, 0), size)
    rest = sorted(random.sample(range(tail.start), min(tail.start, 8)))
    for at in [*rest, *tail]:
        if path.suffix != ".txnindex" or at % ABORTED_ENTRY.size:  # between entries nobody can notice: see FORMAT.md
            yield Damage(path, f"cut at {at}", content[:at])
        flipped = bytearray(content)
        flipped[at] ^= 1 << random.randrange(8)
        yield Damage(path, f"byte {at} flipped", bytes(flipped))
    for count in (1, 7, 61, 512, 4096):
        yield Damage(path, f"{count} zeros behind it", content + bytes(count))
        if count <= size:
            yield Damage(path, f"its last {count} bytes are zeros", content[:-count] + bytes(count))
    yield Damage(path, "all zeros", bytes(size))
    yield Damage(path, "garbage behind it", content + GARBAGE)
    yield Damage(path, "nothing but garbage", GARBAGE)
    yield Damage(path, "twice", content + content)


REBUILT = {".index", ".timeindex", ".txnindex", ".snapshot", "leader-epoch-checkpoint", ".kafka_cleanshutdown", ".lock"}
"""Kinds that hold nothing that is not elsewhere too: no promise may be lost with them."""
CHECKED = {".log", "recovery-point-offset-checkpoint"}
"""What a start after a crash judges batch by batch, from the recovery point on."""

Check = Callable[[Path, Promises], None]


@dataclass(frozen=True)
class Remains:
    """What a life left on the disk, and what it had promised."""

    name: str
    image: Image
    promises: Promises
    is_judged: bool = False

    def check_for(self, kind: str) -> Check:
        if kind in REBUILT:
            return check_promises if self.is_judged else check_served
        return check_survivors if kind in CHECKED and self.is_judged else check_alive


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
        Remains("clean", disk.image(), life.promises),
        Remains("killed", killed, life.promises),
        Remains("killed early", unknown, life.promises, is_judged=True),
    ]


def all_damages(image: Image, random: Random) -> Iterator[Damage]:
    for path, content in sorted(image.items()):
        if content is not None:
            yield from damages(path, content, random)
