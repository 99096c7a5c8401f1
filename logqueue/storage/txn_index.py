"""The transaction index: which transactions were aborted in a segment. Knows nothing of records or positions.

    0   i16  version               0
    2   i64  producer id
    10  i64  first offset          of the transaction in this partition
    18  i64  last offset           of its abort marker, which lies in this segment
    26  i64  last stable offset    when the marker had been written: every transaction below it is decided

Entries rise in their last offset and in their last stable offset. The file exists only where something was aborted
(KIP-98). There is no checksum.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from logqueue.storage.file_system import write_atomically
from logqueue.storage.index_file import NO_FILE, IndexCache, IndexFile

ENTRY = Struct(">hqqqq")
VERSION = 0
_MAX_BYTES = 2**31 - 1


class AbortedTransaction(NamedTuple):
    """A transaction whose records, from `first_offset` up to the marker, readers of committed records pass over."""

    producer_id: int
    first_offset: int


class AbortEntry(NamedTuple):
    """One entry of the index; `last_offset` is that of the marker."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class TransactionIndex(IndexFile):
    """The aborted transactions of a segment, in the order of their markers."""

    __slots__ = ("_owes_name",)

    def __init__(self, cache: IndexCache, path: Path) -> None:
        super().__init__(cache, path, ENTRY, max_bytes=_MAX_BYTES)
        self._owes_name = False  # whether the folder is still to be synced for the file

    @property
    def is_written(self) -> bool:
        """Whether the file holds every entry, durably by its name too; without entries there is no file."""
        return not self.size or (super().is_written and not self._owes_name)

    def append(self, entry: AbortEntry) -> None:
        """Note a transaction that the newest marker aborted."""
        self._append(VERSION, *entry)

    def restart(self, entries: bytes | bytearray) -> None:
        """Take over some of the entries that the file holds; it is written anew as a whole."""
        self.resume(entries)
        self._written = 0

    def write_out(self) -> None:
        """Bring the file to the entries in memory, durably, its name included: a file that is lost says "none"."""
        if self._written == NO_FILE:
            self._owes_name = True
        super().write_out()
        if self._owes_name:
            self._cache.fs.fsync_dir(self.path.parent)
            self._owes_name = False

    def replace_file(self) -> None:
        """Put the entries, all of which are in memory, in the place of what the file holds: one or the other is there.

        Raises OSError.
        """
        data = bytes(self._entries())
        self.forget()
        write_atomically(self._cache.fs, self.path, data)
        self.resume(data)

    def entries(self) -> list[AbortEntry]:
        """All of them."""
        return parse_entries(self._entries()) if self.size else []

    def collect(self, fetch_offset: int, upper_offset: int, found: list[AbortedTransaction]) -> bool:
        """Add the transactions that overlap the offsets from `fetch_offset` up to, not including, `upper_offset`.

        Answers whether the search is over: later segments have none that begins below `upper_offset`.
        """
        if not self.size:
            return False
        entries = self._entries()
        unpack, size = ENTRY.unpack_from, ENTRY.size
        count = len(entries) // size
        at = bisect_left(range(count), fetch_offset, key=lambda index: unpack(entries, index * size)[3])
        for position in range(at * size, count * size, size):
            _, producer_id, first_offset, _, last_stable_offset = unpack(entries, position)
            if first_offset < upper_offset:
                found.append(AbortedTransaction(producer_id, first_offset))
            if last_stable_offset >= upper_offset:
                return True
        return False


def parse_entries(data: bytes | bytearray) -> list[AbortEntry]:
    """The entries in the content of a file; what is left over behind the last whole one is not looked at."""
    return [AbortEntry(*values[1:]) for values in ENTRY.iter_unpack(data[: len(data) - len(data) % ENTRY.size])]


def is_sane(data: bytes, *, base_offset: int, end_offset: int) -> bool:
    """Whether the content of a file can be that of the segment from `base_offset` up to `end_offset`."""
    if len(data) % ENTRY.size:
        return False
    last_marker, last_stable = base_offset - 1, 0
    for version, _, first, last, stable in ENTRY.iter_unpack(data):
        if version != VERSION or not (last_marker < last < end_offset and 0 <= first < last):
            return False
        if not last_stable <= stable <= last + 1:
            return False
        last_marker, last_stable = last, stable
    return True


def entries_below(data: bytes, offset: int) -> bytes:
    """The leading entries whose markers lie below an offset."""
    count = bisect_left(
        range(len(data) // ENTRY.size), offset, key=lambda index: ENTRY.unpack_from(data, index * ENTRY.size)[3]
    )
    return data[: count * ENTRY.size]
