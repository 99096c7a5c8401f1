"""Whether index files tell the truth about their logs, judged with code of its own. Knows no storage."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import NamedTuple

OFFSET_ENTRY = Struct(">ii")
TIME_ENTRY = Struct(">qi")
ABORTED_ENTRY = Struct(">hqqqq")
HEADER = Struct(">qiibIhiqqqhii")


class StoredBatch(NamedTuple):
    position: int
    last_offset: int
    max_timestamp: int


def batches_of(log: Path) -> list[StoredBatch]:
    """The batches of a .log file, from its first byte to its last."""
    data = log.read_bytes()
    found = []
    position = 0
    while position + HEADER.size <= len(data):
        base, length, *_, last_delta, _, max_timestamp, _, _, _, _ = HEADER.unpack_from(data, position)
        found.append(StoredBatch(position, base + last_delta, max_timestamp))
        position += 12 + length
    assert position == len(data), f"{log} does not end with a batch"
    return found


def check_indexes(folder: Path) -> None:
    """Check every index in a data folder after a clean stop. Raises AssertionError."""
    for log in folder.glob("*/*.log"):
        if log.parent.name.endswith("-delete"):
            continue
        batches = batches_of(log)
        base = int(log.stem)
        _check_offsets(log.with_suffix(".index"), base, batches)
        _check_times(log.with_suffix(".timeindex"), base, batches)


def _check_offsets(path: Path, base: int, batches: list[StoredBatch]) -> None:
    entries = list(OFFSET_ENTRY.iter_unpack(path.read_bytes()))
    known = {(batch.last_offset, batch.position) for batch in batches}
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(entries)), f"{path}: entries do not rise"
    for relative, position in entries:
        assert (base + relative, position) in known, f"{path}: no batch with {base + relative} at {position}"


def _check_times(path: Path, base: int, batches: list[StoredBatch]) -> None:
    entries = list(TIME_ENTRY.iter_unpack(path.read_bytes()))
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(entries)), f"{path}: entries do not rise"
    for timestamp, relative in entries:
        before = [batch.max_timestamp for batch in batches if batch.last_offset <= base + relative]
        assert before and max(before) == timestamp, f"{path}: ({timestamp}, {base + relative}) is not the largest time"
    if batches:
        largest = max(batch.max_timestamp for batch in batches)
        assert entries and entries[-1][0] == largest, f"{path}: the last entry is not the largest time"
