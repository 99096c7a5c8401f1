"""The time index: timestamp -> offset. Knows nothing of records or positions.

    0  i64  timestamp in ms: the largest so far in the segment
    8  i32  offset, relative to the segment's base: of the last record of the batch that brought it

Entries rise in both fields. Everything after an entry's offset may carry a later time than the entry.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from logqueue.records.batch import NO_TIMESTAMP
from logqueue.storage.index_file import IndexCache, IndexFile

ENTRY = Struct(">qi")


class TimeEntry(NamedTuple):
    """The largest timestamp up to an offset."""

    timestamp_ms: int
    offset: int


class TimeIndex(IndexFile):
    """Sparse map of a segment from times to offsets."""

    __slots__ = ("_base_offset", "_last_timestamp")

    def __init__(self, cache: IndexCache, path: Path, *, base_offset: int, max_bytes: int) -> None:
        super().__init__(cache, path, ENTRY, max_bytes=max_bytes)
        self._base_offset = base_offset
        self._last_timestamp = NO_TIMESTAMP

    def append(self, timestamp_ms: int, offset: int) -> None:
        """Note a largest timestamp; ignored unless it is larger than the last entry's."""
        if timestamp_ms > self._last_timestamp:
            self._append(timestamp_ms, offset - self._base_offset)
            self._last_timestamp = timestamp_ms

    def resume(self, entries: bytes | bytearray) -> None:
        super().resume(entries)
        last = self.last()
        self._last_timestamp = NO_TIMESTAMP if last is None else last.timestamp_ms

    def floor(self, timestamp_ms: int) -> TimeEntry:
        """The last entry at or before a time; (-1, base offset) if there is none."""
        entry = self._floor(timestamp_ms, 0)
        if entry is None:
            return TimeEntry(NO_TIMESTAMP, self._base_offset)
        return TimeEntry(entry[0], entry[1] + self._base_offset)

    def last(self) -> TimeEntry | None:
        """The entry with the largest time."""
        entry = self._last()
        return None if entry is None else TimeEntry(entry[0], entry[1] + self._base_offset)


def is_sane(entries: bytes) -> bool:
    """Whether index content can be trusted as far as itself goes: whole entries, rising in both fields."""
    if len(entries) % ENTRY.size:
        return False
    before_timestamp, before_offset = -1, -1
    for timestamp, offset in ENTRY.iter_unpack(entries):
        if timestamp <= before_timestamp or offset < before_offset:
            return False
        before_timestamp, before_offset = timestamp, offset
    return True


def time_entries_below(entries: bytes, relative_offset: int) -> bytes:
    """The leading entries of sane index content whose offsets are below a bound."""
    count = bisect_left(
        range(len(entries) // ENTRY.size),
        relative_offset,
        key=lambda i: ENTRY.unpack_from(entries, i * ENTRY.size)[1],
    )
    return entries[: count * ENTRY.size]
