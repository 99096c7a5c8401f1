"""A disk for tests that look at nothing but what a living process sees."""

from __future__ import annotations

from pathlib import Path

from logqueue.storage.file_system import RealFileSystem


class HastyFileSystem(RealFileSystem):
    """The real disk without waiting for it."""

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        pass

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        pass

    def fsync_dir(self, path: Path, fd: int | None = None) -> None:
        pass
