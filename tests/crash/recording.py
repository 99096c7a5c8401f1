"""A disk that writes down everything that changes it, so that power cuts can be played. Knows no logs.

Entries of the journal:

    ("open", path)                   a name for a new, empty file
    ("mkdir", path)
    ("write", path, position, data)
    ("truncate", path, size)
    ("sync", path, upto)             everything entered before number `upto` about this file's bytes is on the disk
    ("sync_dir", path, upto)         the same for the names in a folder
    ("rename", source, target)
    ("remove", path)
    ("mark", event)                  the test's own: something was asked for or promised at this moment
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from logqueue.storage.file_system import Buffer, RealFileSystem

Entry = tuple[Any, ...]


class RecordingFileSystem(RealFileSystem):
    """The real disk without its waiting, with a journal. Any thread."""

    def __init__(self) -> None:
        self.journal: list[Entry] = []
        self._paths: dict[int, Path] = {}
        self._open: set[int] = set()
        self._lock = threading.RLock()  # a file that nobody holds is closed by whoever lets go of it, anywhere

    def mark(self, event: object) -> None:
        """Put an event of the test between the changes."""
        with self._lock:
            self.journal.append(("mark", event))

    def close(self, fd: int) -> None:  # type: ignore[override]
        with self._lock:
            if fd in self._open:  # otherwise `close_all` was here, and the number may be another file's by now
                self._open.remove(fd)
                os.close(fd)

    def close_all(self) -> None:
        """Close what a program that was killed had open."""
        while self._open:
            os.close(self._open.pop())

    def open(self, path: Path, *, create: bool = False) -> int:
        with self._lock:
            is_new = create and not path.exists()
            fd = super().open(path, create=create)
            self._paths[fd] = path
            self._open.add(fd)
            if is_new:
                self.journal.append(("open", path))
        return fd

    def open_dir(self, path: Path) -> int:
        with self._lock:
            fd = super().open_dir(path)
            self._open.add(fd)
        return fd

    def pwrite(self, fd: int, data: Buffer, position: int, /) -> int:  # type: ignore[override]
        with self._lock:
            count = os.pwrite(fd, data, position)
            self.journal.append(("write", self._paths[fd], position, bytes(data[:count])))
        return count

    def truncate(self, fd: int, size: int) -> None:
        with self._lock:
            os.ftruncate(fd, size)
            self.journal.append(("truncate", self._paths[fd], size))

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        # What is written while an fsync runs is not promised by it: the bound is taken first, the entry made last.
        upto = len(self.journal)
        with self._lock:
            self.journal.append(("sync", self._paths[fd], upto))

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.fsync(fd)

    def fsync_dir(self, path: Path, fd: int | None = None) -> None:
        upto = len(self.journal)
        with self._lock:
            self.journal.append(("sync_dir", path, upto))

    def rename(self, source: Path, target: Path) -> None:
        with self._lock:
            super().rename(source, target)
            self._paths = {
                fd: target / path.relative_to(source) if path == source or source in path.parents else path
                for fd, path in self._paths.items()
            }
            self.journal.append(("rename", source, target))

    def unlink(self, path: Path) -> None:
        with self._lock:
            super().unlink(path)
            self.journal.append(("remove", path))

    def mkdir(self, path: Path) -> None:
        with self._lock:
            is_new = not path.exists()
            super().mkdir(path)
            if is_new:
                self.journal.append(("mkdir", path))

    def rmdir(self, path: Path) -> None:
        with self._lock:
            super().rmdir(path)
            self.journal.append(("remove", path))


class ForgetfulFileSystem(RecordingFileSystem):
    """A disk whose fsync does nothing: the tests have to notice."""

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        pass

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        pass

    def fsync_dir(self, path: Path, fd: int | None = None) -> None:
        pass


class LooseFileSystem(RecordingFileSystem):
    """A disk that syncs small files but never the bytes of a log."""

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        pass


class NamelessFileSystem(RecordingFileSystem):
    """A disk that syncs bytes but never the names in a folder."""

    def fsync_dir(self, path: Path, fd: int | None = None) -> None:
        pass
