"""What the jobs of the comparisons do. Only the standard library: peers in Python import it too.

BullMQ's driver has the same in JavaScript.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

FILE = "LOGQUEUE_BENCH_FILE"
"""The variable that names the file in which jobs note their begin and end; without it nothing is noted."""

ORDER = "LOGQUEUE_BENCH_ORDER"
"""The variable that names the order of our queue; no peer has any."""


def wait(number: int, ms: int) -> int:
    """Block for `ms`, and note begin and end."""
    note("b", number)
    if ms:
        time.sleep(ms / 1000)
    note("e", number)
    return number


async def wait_async(number: int, ms: int) -> int:
    """Wait for `ms` while others run, and note begin and end."""
    note("b", number)
    if ms:
        await asyncio.sleep(ms / 1000)
    note("e", number)
    return number


_open: list[int] = []
_path = os.environ.get(FILE)  # once: a look at the environment costs as much as a job


def note(what: str, number: int) -> None:
    """Add one line: begin `b` or end `e`, the job's number, and when."""
    if _path is None:
        return
    if not _open:
        _open.append(os.open(_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    os.write(_open[0], f"{what} {number} {time.time():.6f}\n".encode())


@dataclass(frozen=True, slots=True)
class Notes:
    """What the jobs noted: how often each began, and when each began and ended first."""

    begins: Counter[int]
    first_begins: dict[int, float]
    ends: dict[int, float]

    def missing(self, jobs: int) -> int:
        """Jobs of 0 to `jobs` that never ended."""
        return sum(number not in self.ends for number in range(jobs))

    @property
    def repeated(self) -> int:
        """Jobs that began more than once."""
        return sum(count > 1 for count in self.begins.values())

    def repeated_after_end(self, moment: float) -> int:
        """Jobs that began more than once although they had ended before a moment (seconds since the epoch)."""
        return sum(count > 1 and self.ends.get(number, moment) < moment for number, count in self.begins.items())


def read_notes(path: Path) -> Notes:
    """Read the file; a line that is still being written is left out."""
    begins: Counter[int] = Counter()
    first_begins: dict[int, float] = {}
    ends: dict[int, float] = {}
    text = path.read_text() if path.exists() else ""
    for line in text[: text.rfind("\n") + 1].splitlines():
        what, number, at = line.split()
        if what == "b":
            begins[int(number)] += 1
            first_begins.setdefault(int(number), float(at))
        else:
            ends.setdefault(int(number), float(at))
    return Notes(begins, first_begins, ends)
