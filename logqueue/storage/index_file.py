"""A file of fixed-size entries that only grows: what the offset and the time index share. Knows no offsets.

The newest entries of the segment being written are kept in memory. They reach the file when the segment is rolled,
checkpointed or closed; recovery rebuilds what a crash took. What lies in the file is loaded when a lookup needs it.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from struct import Struct
from threading import Lock

from logqueue.storage.file_system import FileSystem, write_all

DEFAULT_CACHE_BYTES = 32 * 1024 * 1024

KEPT_BYTES = 4 * 1024
"""Entries of a growing index that stay in memory although the file has them, for most lookups want the newest; and
how much goes at once."""

NO_FILE = -1  # in place of the number of bytes written: even an empty index has a file once it is written out


class IndexCache:
    """Loaded index files of older segments, up to a number of bytes; the least recently used goes first."""

    def __init__(self, fs: FileSystem, *, limit_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.fs = fs
        self._limit_bytes = limit_bytes
        self._lock = Lock()
        self._total = 0
        self._loaded: dict[Path, bytes] = {}

    def load(self, index: IndexFile) -> bytes:
        """The content of an index file; empty if it is missing."""
        with self._lock:
            path = index.path
            data = self._loaded.pop(path, None)
            if data is None:
                data = self.fs.read_file(path) or b""
                self._total += len(data)
            self._loaded[path] = data
            while self._total > self._limit_bytes and len(self._loaded) > 1:
                self._total -= len(self._loaded.pop(next(iter(self._loaded))))
            return data

    def rename(self, index: IndexFile, target: Path) -> None:
        """Move an index's file while nobody loads it; one that does not exist is only called otherwise from now on.

        Any thread. Raises OSError.
        """
        with self._lock:
            for path in (index.path, target):
                self._total -= len(self._loaded.pop(path, b""))
            try:
                self.fs.rename(index.path, target)
            except FileNotFoundError:
                pass
            index.path = target

    def forget(self, path: Path) -> None:
        """Drop what was loaded of a file that changed or went."""
        with self._lock:
            self._total -= len(self._loaded.pop(path, b""))


class IndexFile:
    """Entries of one layout. Either growing (the newest in memory, written out on request) or sealed (only read)."""

    __slots__ = ("_cache", "_entry", "_max_bytes", "_sealed_bytes", "_tail", "_written", "path")

    def __init__(self, cache: IndexCache, path: Path, entry: Struct, *, max_bytes: int) -> None:
        self._cache = cache
        self._entry = entry
        self._max_bytes = max_bytes - max_bytes % entry.size
        # While it grows: how many bytes are in the file alone, and the entries behind them. A thread may be writing it
        # out, so the two change together.
        self._tail: tuple[int, bytearray] | None = (0, bytearray())
        self._written = NO_FILE
        self._sealed_bytes = 0
        self.path = path

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        tail = self._tail
        return self._sealed_bytes if tail is None else tail[0] + len(tail[1])

    @property
    def held_bytes(self) -> int:
        """Bytes of entries that are in memory, whatever was loaded of the file."""
        tail = self._tail
        return 0 if tail is None else len(tail[1])

    @property
    def count(self) -> int:
        """Number of entries."""
        return self.size // self._entry.size

    @property
    def is_full(self) -> bool:
        return self._tail is not None and self.size + self._entry.size > self._max_bytes

    @property
    def is_written(self) -> bool:
        """Whether the file holds every entry."""
        return self._tail is None or self._written == self.size

    @property
    def is_sealed(self) -> bool:
        """Whether the file is only read."""
        return self._tail is None

    def seal(self, size: int) -> None:
        """Use the file as it is, `size` bytes long, for reading only."""
        self._sealed_bytes = size - size % self._entry.size
        self._tail = None
        self.forget()

    def forget(self) -> None:
        """Drop what is cached of the file, because it is about to change or go."""
        self._cache.forget(self.path)

    def rename(self, target: Path) -> None:
        """Move the file; lookups may go on meanwhile. Raises OSError."""
        self._cache.rename(self, target)

    def resume(self, entries: bytes | bytearray) -> None:
        """Go on after entries that the file begins with; what else it holds is cut when it is written out."""
        self._tail = (0, bytearray(entries))
        self._written = len(entries) if entries else NO_FILE

    def write_out(self) -> None:
        """Bring the file to the entries in memory, durably. Raises OSError."""
        if self._tail is None:
            return
        base, growing = self._tail
        data = bytes(growing)  # a copy: the log goes on appending while a thread writes
        fs = self._cache.fs
        fd = fs.open(self.path, create=True)
        try:
            done = max(self._written, 0)
            write_all(fs, fd, memoryview(data)[done - base :], done)
            fs.truncate(fd, base + len(data))
            fs.fdatasync(fd)
        finally:
            fs.close(fd)
        tail = self._tail
        if tail is not None and tail[1] is growing:  # else it was begun anew, or shortened, meanwhile
            self._written = base + len(data)

    def shed(self) -> None:
        """Leave to the file what it has, but for the newest entries. Only the thread that appends."""
        if self._tail is None:
            return
        base, growing = self._tail
        gone = min(self._written - base, len(growing) - KEPT_BYTES)
        gone -= gone % self._entry.size
        if gone >= KEPT_BYTES:  # a little at a time would be copied again and again
            self._tail = (base + gone, growing[gone:])
            self.forget()  # what was loaded may be from when the file was shorter

    def _entries(self) -> bytes | bytearray:
        tail = self._tail  # a thread may seal it
        if tail is None:
            return self._cache.load(self)
        base, growing = tail
        return self._cache.load(self)[:base] + growing if base else growing

    def _append(self, *values: int) -> None:
        assert self._tail is not None, "only the segment being written gets entries"
        _, growing = self._tail
        growing += self._entry.pack(*values)
        if len(growing) > 2 * KEPT_BYTES:
            self.shed()

    def _last(self) -> tuple[int, int] | None:
        """The newest entry."""
        tail = self._tail
        entries = self._entries() if tail is None or not tail[1] else tail[1]
        return self._read(entries, len(entries) // self._entry.size - 1) if entries else None

    def _read(self, entries: bytes | bytearray, index: int) -> tuple[int, int]:
        values: tuple[int, int] = self._entry.unpack_from(entries, index * self._entry.size)
        return values

    def _floor(self, target: int, field: int) -> tuple[int, int] | None:
        """The last entry whose field is at most `target`."""
        tail = self._tail
        if tail is None:
            entries = self._cache.load(self)
            return self._search(entries, len(entries), target, field)
        base, growing = tail
        found = self._search(growing, len(growing), target, field)
        if found is None and base:
            entries = self._cache.load(self)
            found = self._search(entries, min(base, len(entries)), target, field)
        return found

    def _search(self, entries: bytes | bytearray, size: int, target: int, field: int) -> tuple[int, int] | None:
        """The last of the entries in the first `size` bytes whose field is at most `target`."""
        count = size // self._entry.size
        index = bisect_right(range(count), target, key=lambda i: self._read(entries, i)[field])
        return self._read(entries, index - 1) if index else None
