"""Open descriptors: a bounded number of them, closed when the last user lets go. Knows no file formats."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from weakref import ReferenceType, ref

from logqueue.storage.file_system import NO_DESCRIPTORS, FileSystem
from logqueue.storage.health import Health

DEFAULT_MAX_OPEN_FILES = 512


class OpenFile:
    """A descriptor that lives as long as somebody holds this object.

    A reply that is still being sent from a file holds it, so a segment may be evicted or deleted meanwhile without
    its number being given to another file.
    """

    __slots__ = ("__weakref__", "_close", "fd")

    def __init__(self, fd: int, close: Callable[[int], None]) -> None:
        self.fd = fd
        self._close = close

    def __del__(self) -> None:
        self._close(self.fd)


Readers = tuple[ReferenceType[OpenFile], ...]
"""Files from which answers may be being sent: each dead as soon as none is."""


class FileHolder:
    """A file that is opened when it is needed and may be closed between two uses."""

    __slots__ = ("_earlier", "_pool", "dirty", "file", "path", "touched")

    def __init__(self, pool: FilePool, path: Path) -> None:
        self._pool = pool
        self.path = path
        self.file: OpenFile | None = None
        self._earlier: Readers = ()  # files that were given up while a reply may have held them
        self.touched = False  # used since the pool last looked for something to close
        self.dirty = False  # holds bytes that no fsync has covered

    def open(self, *, create: bool = False) -> OpenFile:
        """The open file; opens it if it is not."""
        self.touched = True
        file = self.file
        if file is None:
            file = self._pool.open(self, create=create)
        return file

    def rename(self, target: Path) -> None:
        """Move the file; whoever opens it meanwhile finds it. Raises OSError."""
        self._pool.rename(self, target)

    def release(self) -> None:
        """Give the descriptor up; it is closed once no reply uses it."""
        if self.file is not None:
            self._earlier = self.readers()
            self.file = None

    def readers(self) -> Readers:
        """The files that are open under this name, those that were given up and are still in use included."""
        file = self.file  # looked at first: another thread may give it up meanwhile
        earlier = tuple(reader for reader in self._earlier if reader() is not None)
        return earlier if file is None else (*earlier, ref(file))


class FilePool:
    """Opens files for holders and keeps at most `limit` of them open (second-chance order), fewer where the process has
    no descriptor left.

    A file with unsynced bytes is synced before it is closed: an error that fsync would report must not be lost with
    the descriptor.
    """

    def __init__(self, fs: FileSystem, health: Health, *, limit: int = DEFAULT_MAX_OPEN_FILES) -> None:
        assert limit >= 1
        self.fs = fs
        self._health = health
        self.limit = limit
        self._lock = Lock()
        self._holders: deque[FileHolder] = deque()

    def open(self, holder: FileHolder, *, create: bool) -> OpenFile:
        """Open a holder's file, making room first. Any thread."""
        with self._lock:
            if holder.file is not None:
                return holder.file  # another thread was faster
            while len(self._holders) >= self.limit:
                self._evict_one()
            file = holder.file = OpenFile(self._open(holder.path, create=create), self.fs.close)
            self._holders.append(holder)
            return file

    def _open(self, path: Path, *, create: bool) -> int:
        """Open a file, if need be with the descriptor of one that can be closed."""
        while True:
            try:
                return self.fs.open(path, create=create)
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS or not self._holders:
                    raise
            self._evict_one()

    def rename(self, holder: FileHolder, target: Path) -> None:
        """Move a holder's file while nobody opens it. Any thread. Raises OSError."""
        with self._lock:
            self.fs.rename(holder.path, target)
            holder.path = target

    def _evict_one(self) -> None:
        """Close the oldest file that was not used lately, clean ones first; forget those already closed."""
        for _ in range(2 * len(self._holders)):
            holder = self._holders.popleft()
            if holder.file is None:
                return
            if not holder.touched and not holder.dirty:
                holder.release()
                return
            holder.touched = False
            self._holders.append(holder)
        holder = self._holders.popleft()
        file = holder.file
        if file is not None:
            if holder.dirty:
                holder.dirty = False
                try:
                    self.fs.fdatasync(file.fd)
                except OSError as error:
                    raise self._health.fail(f"fsync of {holder.path}", error) from error
            holder.release()
