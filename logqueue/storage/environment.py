"""What all logs of one data folder share. Values and services only; it does nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from logqueue.storage.file_system import FileSystem, RealFileSystem
from logqueue.storage.health import Health
from logqueue.storage.index_file import DEFAULT_CACHE_BYTES, IndexCache
from logqueue.storage.journal import MAX_BYTES
from logqueue.storage.new_folders import NewFolders
from logqueue.storage.open_files import DEFAULT_MAX_OPEN_FILES, FilePool


def _random_below(limit: int) -> int:
    from random import randrange  # it takes 8 ms to import, and only topics with segment.jitter.ms ask for it

    return randrange(limit)


def _in_thread(work: Callable[[], None]) -> bool:
    """Run something beside; False if the system has no thread for it."""
    try:
        Thread(target=work, name="logqueue-journal", daemon=True).start()
    except RuntimeError:
        return False
    return True


class Environment:
    """The disk, its health, the bounded stores of descriptors and index entries, and randomness for roll jitter."""

    __slots__ = (
        "fs",
        "health",
        "in_background",
        "indexes",
        "is_steady",
        "journal_bytes",
        "new_folders",
        "pool",
        "random_below",
    )

    def __init__(
        self,
        *,
        fs: FileSystem | None = None,
        max_open_files: int = DEFAULT_MAX_OPEN_FILES,
        index_cache_bytes: int = DEFAULT_CACHE_BYTES,
        random_below: Callable[[int], int] = _random_below,
        is_steady: bool = True,
        journal_bytes: int = MAX_BYTES,
        in_background: Callable[[Callable[[], None]], bool] = _in_thread,
    ) -> None:
        """`random_below` answers a random number from 0 up to, but not including, its argument.

        Unless the disk `is_steady`, what an fsync took says nothing about the next: each is waited for by itself.
        Each of the journal's two files has `journal_bytes` at most; with 0 there is none. `in_background` runs what
        makes room in them, or answers False.
        """
        self.fs: FileSystem = fs or RealFileSystem()
        self.is_steady = is_steady
        self.journal_bytes = journal_bytes
        self.in_background = in_background
        self.health = Health()
        self.random_below = random_below
        self.pool = FilePool(self.fs, self.health, limit=max_open_files)
        self.indexes = IndexCache(self.fs, limit_bytes=index_cache_bytes)
        self.new_folders = NewFolders(self.fs)
