"""A disk that can be filled, or made read-only, and emptied again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from logqueue.storage.environment import Environment
from logqueue.storage.file_system import Buffer, RealFileSystem


class FullDisk(RealFileSystem):
    """The real disk, but while `is_full` nothing may grow, and while `is_read_only` nothing may change."""

    def __init__(self) -> None:
        self.is_full = False
        self.is_read_only = False
        self.half_writes = False  # a write that does not fit leaves its first half
        self.refused = 0

    @property
    def environment(self) -> Environment:
        return Environment(fs=self)

    def _check(self) -> None:
        if self.is_read_only:
            self._refuse(errno.EROFS)

    def _refuse(self, number: int) -> None:
        self.refused += 1
        raise OSError(number, os.strerror(number))

    def open(self, path: Path, *, create: bool = False) -> int:
        if create and not path.exists():
            self._check()
            if self.is_full:
                self._refuse(errno.ENOSPC)
        return super().open(path, create=create)

    def pwrite(self, fd: int, data: Buffer, position: int, /) -> int:  # type: ignore[override]
        self._check()
        if self.is_full and position + len(data) > os.fstat(fd).st_size:
            if self.half_writes and len(data) > 1:
                os.pwrite(fd, memoryview(data)[: len(data) // 2], position)
            self._refuse(errno.ENOSPC)
        return os.pwrite(fd, data, position)

    def mkdir(self, path: Path) -> None:
        self._check()
        if self.is_full and not path.exists():
            self._refuse(errno.ENOSPC)
        super().mkdir(path)

    def rename(self, source: Path, target: Path) -> None:
        self._check()
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._check()
        super().unlink(path)

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        self._check()
        os.ftruncate(fd, size)
