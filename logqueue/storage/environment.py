"""What all logs of one data folder share. Values and services only; it does nothing itself."""

from __future__ import annotations

from collections.abc import Callable

from logqueue.storage.file_system import FileSystem, RealFileSystem
from logqueue.storage.health import Health
from logqueue.storage.index_file import DEFAULT_CACHE_BYTES, IndexCache
from logqueue.storage.new_folders import NewFolders
from logqueue.storage.open_files import DEFAULT_MAX_OPEN_FILES, FilePool


def _random_below(limit: int) -> int:
    from random import randrange  # it takes 8 ms to import, and only topics with segment.jitter.ms ask for it

    return randrange(limit)


class Environment:
    """The disk, its health, the bounded stores of descriptors and index entries, and randomness for roll jitter."""

    __slots__ = ("fs", "health", "indexes", "is_steady", "new_folders", "pool", "random_below")

    def __init__(
        self,
        *,
        fs: FileSystem | None = None,
        max_open_files: int = DEFAULT_MAX_OPEN_FILES,
        index_cache_bytes: int = DEFAULT_CACHE_BYTES,
        random_below: Callable[[int], int] = _random_below,
        is_steady: bool = True,
    ) -> None:
        """`random_below` answers a random number from 0 up to, but not including, its argument.

        Unless the disk `is_steady`, what an fsync took says nothing about the next: each is waited for by itself.
        """
        self.fs: FileSystem = fs or RealFileSystem()
        self.is_steady = is_steady
        self.health = Health()
        self.random_below = random_below
        self.pool = FilePool(self.fs, self.health, limit=max_open_files)
        self.indexes = IndexCache(self.fs, limit_bytes=index_cache_bytes)
        self.new_folders = NewFolders(self.fs)
