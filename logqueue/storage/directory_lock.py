"""The lock of a data folder: one process at a time. Knows nothing of what is in the folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from logqueue.storage.errors import DataFolderError
from logqueue.storage.file_system import DISK_FULL, FileSystem, write_all

FILE_NAME = ".lock"

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class DirectoryLock:
    """An flock on `.lock`, which the kernel releases when the process ends, however it ends."""

    def __init__(self, fs: FileSystem, fd: int) -> None:
        self._fs = fs
        self._fd = fd

    @classmethod
    def take(cls, fs: FileSystem, folder: Path) -> DirectoryLock:
        """Lock a folder, making it first if needed. Raises DataFolderError that names the folder and what to do."""
        fd = -1
        try:
            _make_folders(fs, folder)
            fd = fs.open(folder / FILE_NAME, create=True)
            if fs.lock(fd):
                _tell_holder(fs, fd)
                return cls(fs, fd)
            holder = fs.pread(fd, 32, 0).decode(errors="replace").strip()
        except OSError as error:
            if fd >= 0:
                fs.close(fd)
            raise _unusable(folder, error) from error
        fs.close(fd)
        who = f" by process {holder}" if holder.isdigit() else ""
        raise DataFolderError(f"The data folder {folder} is in use{who}; stop that process, or use another --data-dir")

    def release(self) -> None:
        """Let another process have the folder."""
        self._fs.close(self._fd)


def _tell_holder(fs: FileSystem, fd: int) -> None:
    """Write down whose the lock is, for whoever does not get it; a full disk keeps nobody from having it."""
    try:
        write_all(fs, fd, content := f"{os.getpid()}\n".encode(), 0)  # over the old one, which needs no space
        fs.truncate(fd, len(content))
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise


def _unusable(folder: Path, error: OSError) -> DataFolderError:
    if error.errno in _NOT_WRITABLE:
        return DataFolderError(
            f"The data folder {folder} is not writable ({error.strerror}); "
            "change its owner or mode, or use another --data-dir"
        )
    return DataFolderError(f"The data folder {folder} cannot be used: {error.strerror or error}")


def _make_folders(fs: FileSystem, folder: Path) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        fs.mkdir(path)
        fs.fsync_dir(path.parent)
