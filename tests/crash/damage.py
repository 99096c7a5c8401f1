"""Damage to the files of a data folder: what is done to each, and what a start may make of it. Knows no disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from random import Random
from typing import NamedTuple

from tests.crash.disk_states import Image

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
