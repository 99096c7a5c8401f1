"""The offset index: offset -> byte position in the segment. Knows nothing of records.

    0  i32  offset, relative to the segment's base: of the last record of a batch
    4  i32  position in the .log file where that batch starts

Entries strictly increase. One is added before a batch once more than `index.interval.bytes` lie behind the last one.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from struct import Struct

from logqueue.storage.index_file import IndexCache, IndexFile

ENTRY = Struct(">ii")


class OffsetIndex(IndexFile):
    """Sparse map of a segment from offsets to positions."""

    __slots__ = ("_base_offset",)

    def __init__(self, cache: IndexCache, path: Path, *, base_offset: int, max_bytes: int) -> None:
        super().__init__(cache, path, ENTRY, max_bytes=max_bytes)
        self._base_offset = base_offset

    def append(self, last_offset: int, position: int) -> None:
        """Note where the batch ending with `last_offset` starts."""
        self._append(last_offset - self._base_offset, position)

    def floor(self, offset: int) -> tuple[int, int]:
        """(offset, position) of the last entry at or below `offset`; the segment's start if there is none."""
        entry = self._floor(offset - self._base_offset, 0)
        return (self._base_offset, 0) if entry is None else (entry[0] + self._base_offset, entry[1])

    def floor_position(self, position: int) -> tuple[int, int]:
        """(offset, position) of the last entry at or before `position`; the segment's start if there is none."""
        entry = self._floor(position, 1)
        return (self._base_offset, 0) if entry is None else (entry[0] + self._base_offset, entry[1])

    def last(self) -> tuple[int, int] | None:
        """(offset, position) of the last entry."""
        entry = self._last()
        return None if entry is None else (entry[0] + self._base_offset, entry[1])


def is_sane(entries: bytes, *, log_size: int) -> bool:
    """Whether index content can be trusted as far as itself goes: whole entries, strictly rising, inside the log."""
    if len(entries) % ENTRY.size:
        return False
    before_offset, before_position = -1, -1
    for offset, position in ENTRY.iter_unpack(entries):
        if offset <= before_offset or position <= before_position:
            return False
        before_offset, before_position = offset, position
    return before_position < log_size


def offset_entries_below(entries: bytes, relative_offset: int) -> bytes:
    """The leading entries of sane index content whose offsets are below a bound."""
    count = bisect_left(
        range(len(entries) // ENTRY.size),
        relative_offset,
        key=lambda i: ENTRY.unpack_from(entries, i * ENTRY.size)[0],
    )
    return entries[: count * ENTRY.size]


def last_entry_offset(entries: bytes) -> int:
    """Relative offset of the last entry; -1 if there is none."""
    return -1 if len(entries) < ENTRY.size else int(ENTRY.unpack_from(entries, len(entries) - ENTRY.size)[0])
