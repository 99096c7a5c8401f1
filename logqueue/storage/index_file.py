"""A file of fixed-size entries that only grows: what the offset and the time index share. Knows no offsets.

The entries of the segment being written are kept in memory and reach the file when the segment is rolled, checkpointed
or closed; recovery rebuilds what a crash took. Entries of older segments are loaded when a lookup needs them.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from struct import Struct
from threading import Lock

from logqueue.storage.file_system import FileSystem, write_all

DEFAULT_CACHE_BYTES = 32 * 1024 * 1024

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
    """Entries of one layout. Either growing (in memory, written out on request) or sealed (only read)."""

    __slots__ = ("_cache", "_entry", "_growing", "_max_bytes", "_sealed_bytes", "_written", "path")

    def __init__(self, cache: IndexCache, path: Path, entry: Struct, *, max_bytes: int) -> None:
        self._cache = cache
        self._entry = entry
        self._max_bytes = max_bytes - max_bytes % entry.size
        self._growing: bytearray | None = bytearray()
        self._written = NO_FILE
        self._sealed_bytes = 0
        self.path = path

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return self._sealed_bytes if self._growing is None else len(self._growing)

    @property
    def count(self) -> int:
        """Number of entries."""
        return self.size // self._entry.size

    @property
    def is_full(self) -> bool:
        return self._growing is not None and len(self._growing) + self._entry.size > self._max_bytes

    @property
    def is_written(self) -> bool:
        """Whether the file holds every entry."""
        return self._growing is None or self._written == len(self._growing)

    @property
    def is_sealed(self) -> bool:
        """Whether the file is only read."""
        return self._growing is None

    def seal(self, size: int) -> None:
        """Use the file as it is, `size` bytes long, for reading only."""
        self._sealed_bytes = size - size % self._entry.size
        self._growing = None

    def forget(self) -> None:
        """Drop what is cached of the file, because it is about to change or go."""
        self._cache.forget(self.path)

    def rename(self, target: Path) -> None:
        """Move the file; lookups may go on meanwhile. Raises OSError."""
        self._cache.rename(self, target)

    def resume(self, entries: bytes | bytearray) -> None:
        """Go on after entries that the file begins with; what else it holds is cut when it is written out."""
        self._growing = bytearray(entries)
        self._written = len(entries) if entries else NO_FILE

    def write_out(self) -> None:
        """Bring the file to the entries in memory, durably. Raises OSError."""
        if self._growing is None:
            return
        data = bytes(self._growing)  # a copy: the log goes on appending while a thread writes
        fs = self._cache.fs
        fd = fs.open(self.path, create=True)
        try:
            done = max(self._written, 0)
            write_all(fs, fd, memoryview(data)[done:], done)
            fs.truncate(fd, len(data))
            fs.fdatasync(fd)
        finally:
            fs.close(fd)
        self._written = len(data)

    def _entries(self) -> bytes | bytearray:
        return self._cache.load(self) if self._growing is None else self._growing

    def _append(self, *values: int) -> None:
        assert self._growing is not None, "only the segment being written gets entries"
        self._growing += self._entry.pack(*values)

    def _read(self, entries: bytes | bytearray, index: int) -> tuple[int, int]:
        values: tuple[int, int] = self._entry.unpack_from(entries, index * self._entry.size)
        return values

    def _floor(self, target: int, field: int) -> tuple[int, int] | None:
        """The last entry whose field is at most `target`."""
        entries = self._entries()
        index = bisect_right(
            range(len(entries) // self._entry.size), target, key=lambda i: self._read(entries, i)[field]
        )
        return self._read(entries, index - 1) if index else None
