"""The file `logqueue-security`: who may do what, readable by its owner alone. Knows nothing of what is in it."""

from __future__ import annotations

from pathlib import Path

from logqueue.storage.file_system import FileSystem, write_atomically

FILE_NAME = "logqueue-security"


def read_security(fs: FileSystem, folder: Path) -> bytes | None:
    """The file's content; None if there is none. Raises OSError."""
    return fs.read_file(folder / FILE_NAME)


def write_security(fs: FileSystem, folder: Path, content: bytes) -> None:
    """Replace the file durably: a crash leaves the old content or the new. Raises NoSpace or OSError."""
    write_atomically(fs, folder / FILE_NAME, content, is_private=True)
