"""Playing power cuts: a life is recorded, and a broker is started on what each cut may have left."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from logqueue.errors import LogqueueError
from tests.crash.disk_states import Disk, Image, State, write_image
from tests.crash.life import Life, start_broker
from tests.crash.promises import Promises
from tests.crash.recording import RecordingFileSystem
from tests.crash.verdict import check_promises

MIXTURES = 3
"""Random mixtures of losses at each moment, beside the named ones."""
SECOND_CUT_SHARE = 0.03
"""Images on which the power is cut a second time, while a broker starts on them."""
SECOND_MOMENT_SHARE = 0.1
"""Moments of that start at which it is cut."""
ODDS = {"the last write is torn": 0.1}
"""Kinds that there are so many of that a share of all states would hold hardly anything else."""


class BrokenPromise(AssertionError):
    """A restart found less, more or other than was promised."""


@dataclass
class Tally:
    """How much was looked at."""

    moments: int = 0
    states: int = 0
    tried: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"{self.tried.total()} of {self.states} states at {self.moments} moments"


def record_life(folder: Path, fs: RecordingFileSystem, *, seed: int, steps: int) -> None:
    """Live once on a recorded disk."""
    folder.mkdir(parents=True, exist_ok=True)
    Life(folder, fs, seed=seed, on_event=fs.mark).run(steps)


def crash_everywhere(
    fs: RecordingFileSystem,
    folder: Path,
    target: Path,
    *,
    seed: int,
    share: float = 1.0,
    until: float | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Start on a random `share` of all states that a cut of the recorded life may leave; stop at monotonic `until`.

    Raises BrokenPromise; the image stays in `target`.
    """
    tally = tally or Tally()
    disk, promises, random = Disk(folder), Promises(), Random(seed)
    seen: set[bytes] = set()
    for number, entry in enumerate(fs.journal):
        disk.apply(entry)
        if entry[0] == "mark":
            promises.apply(entry[1])
            continue
        tally.moments += 1
        for state in _states(disk, random):
            tally.states += 1
            if random.random() >= share * ODDS.get(state.kind, 1.0):
                continue
            if until is not None and time.monotonic() > until:
                return tally
            image = state.image()
            key = digest(image, promises.changes)
            if key in seen:
                continue
            seen.add(key)
            tally.tried[state.kind] += 1
            what = f"seed {seed}, after change {number} {entry[:2]}, {state}"
            try_image(image, target, promises, what)
            if random.random() < SECOND_CUT_SHARE:
                crash_while_recovering(image, target, promises, what, random, tally)
    return tally


def crash_while_recovering(
    image: Image, target: Path, promises: Promises, what: str, random: Random, tally: Tally
) -> None:
    """Cut the power again while a broker starts on an image. Raises BrokenPromise."""
    fs = RecordingFileSystem()
    folder = write_image(image, target)
    start_broker(folder, fs).stop()
    disk = Disk.of(image, folder)
    for number, entry in enumerate(fs.journal):
        disk.apply(entry)
        if random.random() < SECOND_MOMENT_SHARE:
            state = disk.random_state(random)
            tally.tried["cut again while recovering"] += 1
            again = f"{what}; and again after change {number} {entry[:2]} of the start, {state}"
            try_image(state.image(), target.with_name("second"), promises, again)
    shutil.rmtree(folder)


def _states(disk: Disk, random: Random) -> Iterator[State]:
    yield from disk.states()
    for _ in range(MIXTURES):
        yield disk.random_state(random)


def try_image(
    image: Image,
    target: Path,
    promises: Promises,
    what: str,
    check: Callable[[Path, Promises], None] = check_promises,
) -> None:
    """Start on one image. Raises BrokenPromise, with `what` in it; the image is then kept beside the target."""
    try:
        check(write_image(image, target), promises)
    except (AssertionError, LogqueueError, OSError, EOFError) as error:
        write_image(image, target.with_name("evidence"))
        raise BrokenPromise(f"{what}: {type(error).__name__}: {error}") from error
    shutil.rmtree(target)


def digest(image: Image, version: int) -> bytes:
    """What tells two states apart: the files and the promises made so far."""
    hashed = hashlib.blake2b(str(version).encode(), digest_size=16)
    for path in sorted(image):
        content = image[path]
        hashed.update(str(path).encode() + (b"\1" if content is None else b"\0%d " % len(content) + content))
    return hashed.digest()
