"""`cleaner-offset-checkpoint`: how far each log has been compacted. Knows no compaction."""

from __future__ import annotations

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

    def set(self, partition: TopicPartition, offset: int) -> None:
        """A log was compacted up to `offset`; durable when this returns. Any thread. Raises OSError."""
        with self._lock:
            self._write({**self._read(), partition: offset})

    def forget(self, topic: str) -> None:
        """A topic is gone; one of that name that comes later has never been compacted. Raises OSError."""
        with self._lock:
            kept = {partition: offset for partition, offset in self._read().items() if partition.topic != topic}
            if len(kept) < len(self._read()):
                self._write(kept)

    def _read(self) -> dict[TopicPartition, int]:
        if self._offsets is None:
            self._offsets = read_offsets(self._fs, self._path) or {}
        return self._offsets

    def _write(self, offsets: dict[TopicPartition, int]) -> None:
        write_offsets(self._fs, self._path, offsets)
        self._offsets = offsets
