"""What all logs of one data folder share. Values and services only; it does nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from logqueue.storage.file_system import FileSystem, RealFileSystem
from logqueue.storage.health import Health
from logqueue.storage.index_file import DEFAULT_CACHE_BYTES, IndexCache
from logqueue.storage.new_folders import NewFolders
from logqueue.storage.open_files import DEFAULT_MAX_OPEN_FILES, FilePool


def _random_below(limit: int) -> int:
    from random import randrange  # it takes 8 ms to import, and only topics with segment.jitter.ms ask for it

    return randrange(limit)


@dataclass(slots=True, kw_only=True)
class Environment:
    """The disk, its health, the bounded stores of descriptors and index entries, and randomness for roll jitter.

    `random_below` answers a random number from 0 up to, but not including, its argument.
    """

    fs: FileSystem = field(default_factory=RealFileSystem)
    max_open_files: int = DEFAULT_MAX_OPEN_FILES
    index_cache_bytes: int = DEFAULT_CACHE_BYTES
    random_below: Callable[[int], int] = _random_below
    health: Health = field(default_factory=Health)
    pool: FilePool = field(init=False)
    indexes: IndexCache = field(init=False)
    new_folders: NewFolders = field(init=False)

    def __post_init__(self) -> None:
        self.pool = FilePool(self.fs, self.health, limit=self.max_open_files)
        self.indexes = IndexCache(self.fs, limit_bytes=self.index_cache_bytes)
        self.new_folders = NewFolders(self.fs)
