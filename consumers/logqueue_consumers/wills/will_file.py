"""Wills as files: one for each worker process, locked by it for as long as it lives. Shell over one folder.

The lock is flock's, so the kernel gives it up however the process ends, and keeps it while the process is merely
stopped: who gets the lock of somebody else's file knows that its owner is dead. (A child that was forked without exec
holds it too. Then nobody sees to the will before that child has ended, and the group waits for its session.)
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".will"
MAX_BYTES = 64 * 1024
OLD_S = 24 * 3600
"""Files of the dead that nobody saw to in this time (of logs that are gone) are removed."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class WillFile:
    """A file that is locked by this object. `path` is None once it was removed."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path: Path | None = path
        self._descriptor = descriptor

    def write(self, content: bytes) -> None:
        """Replace the content. In place: the lock is the file's, not the name's."""
        os.pwrite(self._descriptor, content, 0)

    def read(self) -> bytes:
        """The content."""
        return os.pread(self._descriptor, MAX_BYTES, 0)

    def remove(self) -> None:
        """Remove the file: there is nothing to see to any more."""
        path, self.path = self.path, None
        if path is not None:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock up."""
        os.close(self._descriptor)


def create(folder: Path, key: str) -> WillFile:
    """A new file of this process. Raises OSError where the folder cannot be used."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    name = f"{key}-{os.getpid()}-{secrets.token_hex(4)}"
    path, hidden = folder / f"{name}{SUFFIX}", folder / f".{name}"
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(path)  # it is never to be seen without its lock
    except OSError:
        os.close(descriptor)
        hidden.unlink(missing_ok=True)
        raise
    return WillFile(path, descriptor)


def paths(folder: Path, start: str = "") -> list[Path]:
    """The files whose names begin like this, of the living and of the dead."""
    try:
        with os.scandir(folder) as entries:
            return [Path(e.path) for e in entries if e.name.startswith(start) and e.name.endswith(SUFFIX)]
    except OSError:
        return []


@contextmanager
def claim(path: Path) -> Iterator[WillFile | None]:
    """The file of somebody who is dead; None if he lives, or if another is seeing to it or has done so."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield None
        return
    try:
        yield WillFile(path, descriptor) if _is_ours(path, descriptor) else None
    finally:
        os.close(descriptor)


def _is_ours(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), path.lstat())  # else it was removed before the lock was got
    except OSError:
        return False


def remove_old(folder: Path) -> None:
    """Remove what the dead left so long ago that nobody will come for it."""
    before_s = time.time() - OLD_S
    for path in paths(folder):
        try:
            is_old = path.lstat().st_mtime < before_s
        except OSError:
            continue
        if is_old:
            with claim(path) as found:
                if found is not None:
                    found.remove()


def machine() -> str:
    """Names the running kernel, whose locks all its processes and containers share; else the host."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return socket.gethostname()
