"""Every call that touches the disk, in one small interface. Knows nothing of what is in the files.

Tests put a recording or a failing implementation in its place; nothing in this room calls `os` for I/O elsewhere.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol, cast

Buffer = bytes | bytearray | memoryview

CHUNK_BYTES = 1024 * 1024
"""Size of the steps in which a file is shrunk before it is unlinked: every fsync waits for the step under way. Steps of
16 MiB (ext4, with discard) take 5 ms each and lifted the worst ack by up to 40 ms; of 1 MiB 0.5 ms, as fast in all."""


class FileSystem(Protocol):
    """What the log asks of a disk. Everything raises OSError; offsets and sizes are bytes."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open for reading and writing and answer the descriptor; with `create` the file is made if missing."""
        ...

    def open_private(self, path: Path) -> int:
        """Make a new file in place of one of that name, which nobody but its owner may ever read (mode 0600)."""
        ...

    def close(self, fd: int) -> None: ...

    def pwrite(self, fd: int, data: Buffer, position: int, /) -> int:
        """Write at `position`; may write less than all, as the system call may."""
        ...

    def pread(self, fd: int, size: int, position: int, /) -> bytes: ...

    def preadv(self, fd: int, buffer: bytearray | memoryview, position: int, /) -> int:
        """Read into `buffer` and answer how many bytes came."""
        ...

    def size(self, fd: int) -> int: ...

    def modified_ms(self, fd: int) -> int:
        """When an open file was last written to, in milliseconds since the epoch."""
        ...

    def set_modified(self, fd: int, time_ms: int) -> None:
        """Say when an open file was last written to."""
        ...

    def truncate(self, fd: int, size: int) -> None: ...

    def fsync(self, fd: int) -> None: ...

    def fdatasync(self, fd: int) -> None: ...

    def write_back(self, fd: int, position: int, size: int, *, wait: bool) -> None:
        """Get a range on its way to the disk, and `wait` for it: no promise, but a later sync has less to do.

        Raises OSError for what the disk has refused: the sync would not tell it any more.
        """
        ...

    def open_dir(self, path: Path) -> int:
        """Open a folder, for `fsync_dir` of it to need no descriptor when it is too late to go back."""
        ...

    def fsync_dir(self, path: Path, fd: int | None = None) -> None:
        """Make the names in a folder durable; `fd` is its descriptor, if it is open."""
        ...

    def rename(self, source: Path, target: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def mkdir(self, path: Path) -> None:
        """Make one folder; it is fine if it is there."""
        ...

    def rmdir(self, path: Path) -> None: ...

    def list_dir(self, path: Path) -> dict[str, int]:
        """Names in a folder with the size of each regular file (-1 for anything else)."""
        ...

    def read_file(self, path: Path) -> bytes | None:
        """A whole file's content (indexes and smaller); None if there is no such file."""
        ...

    def lock(self, fd: int) -> bool:
        """Take the exclusive lock of an open file; False if another process has it. Released when it is closed."""
        ...


class RealFileSystem:
    """The machine's disk."""

    __slots__ = ()

    pwrite = staticmethod(os.pwrite)
    pread = staticmethod(os.pread)
    close = staticmethod(os.close)
    fsync = staticmethod(os.fsync)
    fdatasync = staticmethod(os.fdatasync)
    truncate = staticmethod(os.ftruncate)

    def open(self, path: Path, *, create: bool = False) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o644)

    def open_private(self, path: Path) -> int:
        path.unlink(missing_ok=True)  # somebody may have it open
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL, 0o600)

    def preadv(self, fd: int, buffer: bytearray | memoryview, position: int, /) -> int:
        return os.preadv(fd, (buffer,), position)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def modified_ms(self, fd: int) -> int:
        return os.fstat(fd).st_mtime_ns // 1_000_000

    def set_modified(self, fd: int, time_ms: int) -> None:
        os.utime(fd, ns=(time_ms * 1_000_000, time_ms * 1_000_000))

    def write_back(self, fd: int, position: int, size: int, *, wait: bool) -> None:
        if sys.platform == "linux":
            _sync_file_range(fd, position, size, _WRITE_AND_WAIT if wait else _WRITE)

    def open_dir(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def fsync_dir(self, path: Path, fd: int | None = None) -> None:
        if fd is not None:
            os.fsync(fd)
            return
        fd = self.open_dir(path)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)  # noqa: PTH104 - one name for one system call

    def unlink(self, path: Path) -> None:
        os.unlink(path)  # noqa: PTH108

    def mkdir(self, path: Path) -> None:
        try:
            os.mkdir(path, 0o755)  # noqa: PTH102
        except FileExistsError:
            if not path.is_dir():
                raise

    def rmdir(self, path: Path) -> None:
        os.rmdir(path)  # noqa: PTH106

    def list_dir(self, path: Path) -> dict[str, int]:
        with os.scandir(path) as entries:
            return {e.name: e.stat().st_size if e.is_file(follow_symlinks=False) else -1 for e in entries}

    def read_file(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def lock(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        return True


DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a quota or a file size limit that takes no more: they pass when there is space again."""

NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
"""Errors of a process or a machine that has too many files open: they pass when others are closed. Only what opens a
file raises them, and then has changed nothing."""

PASSING = (*DISK_FULL, *NO_DESCRIPTORS)


class NoSpace(OSError):
    """The disk is full, or too many files are open, and what was to be replaced is as it was before: whoever tries
    again later may succeed.
    """


def remedy(error: OSError) -> str:
    """What to do about an error that passes."""
    return "raise the limit of open files (ulimit -n)" if error.errno in NO_DESCRIPTORS else "free some space"


_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_WRITE_AND_WAIT = 1 | _WRITE | 4  # SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE, _WAIT_AFTER
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ESPIPE, errno.EPERM)  # by this file system, or this sandbox


def _sync_file_range(fd: int, position: int, size: int, flags: int) -> None:
    call, last_error = _system_call()
    if call(fd, position, size, flags) and (number := last_error()) not in _UNSUPPORTED:
        raise OSError(number, os.strerror(number))


@cache
def _system_call() -> tuple[Callable[[int, int, int, int], int], Callable[[], int]]:
    """The call, and what tells this thread why it failed."""
    import ctypes  # takes some ms to import, and only large flushes and those of several files ask for it

    call = ctypes.CDLL(None, use_errno=True).sync_file_range
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return cast("Callable[[int, int, int, int], int]", call), ctypes.get_errno


def write_all(fs: FileSystem, fd: int, data: Buffer, position: int) -> None:
    """Write all of `data`, going on after a short write. Raises OSError (ENOSPC if the disk takes no more)."""
    written = fs.pwrite(fd, data, position)
    view = memoryview(data)
    while written < len(view):
        step = fs.pwrite(fd, view[written:], position + written)
        if step == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += step


def write_atomically(
    fs: FileSystem, path: Path, data: bytes, *, sync_folder: bool = True, is_private: bool = False
) -> None:
    """Replace a small file so that a crash leaves either the old content or the new: temp, fsync, rename.

    Nobody but its owner may read one that `is_private`, at any moment.
    With `sync_folder` it is certain to be the new one when this returns. Raises NoSpace if the disk is full or no file
    can be opened, and the old content stays; any other OSError leaves open which of them a restart will find.
    """
    temporary = path.with_name(path.name + ".tmp")
    folder = None
    try:
        try:
            if sync_folder:
                folder = fs.open_dir(path.parent)  # behind the rename there might be no descriptor for it
            _write_anew(fs, temporary, data, is_private=is_private)
        except OSError as error:
            if error.errno in PASSING:
                raise NoSpace(error.errno, error.strerror) from error
            raise
        fs.rename(temporary, path)
        if folder is not None:
            fs.fsync_dir(path.parent, folder)
    finally:
        if folder is not None:
            fs.close(folder)


def _write_anew(fs: FileSystem, path: Path, data: bytes, *, is_private: bool) -> None:
    fd = fs.open_private(path) if is_private else fs.open(path, create=True)
    try:
        fs.truncate(fd, 0)
        write_all(fs, fd, data, 0)
        fs.fsync(fd)
    finally:
        fs.close(fd)


def remove_gently(fs: FileSystem, path: Path) -> None:
    """Unlink a file that may be large: shrink it in steps first. Meant for a thread."""
    fd = fs.open(path)
    try:
        size = fs.size(fd)
        while size > CHUNK_BYTES:
            size -= CHUNK_BYTES
            fs.truncate(fd, size)
    finally:
        fs.close(fd)
    fs.unlink(path)
