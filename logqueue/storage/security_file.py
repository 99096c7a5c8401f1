"""The file `logqueue-security`: who may do what, readable by its owner alone. Knows nothing of what is in it."""

from __future__ import annotations

from pathlib import Path

from logqueue.storage.file_system import FileSystem, write_all

FILE_NAME = "logqueue-security"


def read_security(fs: FileSystem, folder: Path) -> bytes | None:
    """The file's content; None if there is none. Raises OSError."""
    return fs.read_file(folder / FILE_NAME)


def write_security(fs: FileSystem, folder: Path, content: bytes) -> None:
    """Replace the file durably: a crash leaves the old content or the new. Raises OSError."""
    path = folder / FILE_NAME
    temporary = path.with_name(path.name + ".tmp")
    fd = fs.open(temporary, create=True)
    try:
        fs.restrict(fd)  # before the first byte: nobody else ever reads a secret
        fs.truncate(fd, 0)
        write_all(fs, fd, content, 0)
        fs.fsync(fd)
    finally:
        fs.close(fd)
    fs.rename(temporary, path)
    fs.fsync_dir(folder)
