"""`cleaner-offset-checkpoint`: how far each log has been compacted. Knows no compaction."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from threading import Lock

from logqueue.ids import TopicPartition
from logqueue.storage.checkpoint import read_offsets, write_offsets
from logqueue.storage.file_system import FileSystem

CLEANER_OFFSETS = "cleaner-offset-checkpoint"


class CleanerOffsets:
    """Read at the first use, written at every change. A damaged file counts as none: all is compacted once more."""

    def __init__(self, fs: FileSystem, folder: Path) -> None:
        self._fs = fs
        self._path = folder / CLEANER_OFFSETS
        self._lock = Lock()
        self._offsets: dict[TopicPartition, int] | None = None

    def get(self, partition: TopicPartition) -> int | None:
        """Below this offset a log was compacted; None if never."""
        return self._read().get(partition)

    def set(self, partition: TopicPartition, offset: int, *, is_there: Callable[[], bool] = lambda: True) -> None:
        """A log was compacted up to `offset`; durable when this returns. Any thread. Raises OSError.

        Nothing is noted if the log is no longer there by then: another may have its name.
        """
        with self._lock:
            if is_there():
                self._write({**self._read(), partition: offset})

    def forget(self, topics: Collection[str]) -> None:
        """Topics are gone; those of their names that come later have never been compacted.

        Durable with the next sync of the folder. Raises OSError.
        """
        with self._lock:
            before = self._read()
            kept = {partition: offset for partition, offset in before.items() if partition.topic not in topics}
            if len(kept) < len(before):
                self._write(kept, sync_folder=False)

    def _read(self) -> dict[TopicPartition, int]:
        if self._offsets is None:
            self._offsets = read_offsets(self._fs, self._path) or {}
        return self._offsets

    def _write(self, offsets: dict[TopicPartition, int], *, sync_folder: bool = True) -> None:
        write_offsets(self._fs, self._path, offsets, sync_folder=sync_folder)
        self._offsets = offsets
