"""How far each log is durable and where it starts, as two of Kafka's checkpoints say it. Knows no logs.

Both go by the names of topics: what they say of a topic that is gone must be out of them before its name is free, or
a start would take it for the next topic of that name, and cut that one's records off at the old one's start.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from logqueue.ids import TopicPartition
from logqueue.storage.checkpoint import read_offsets, write_offsets
from logqueue.storage.file_system import FileSystem

if TYPE_CHECKING:
    from logqueue.storage.log import PartitionLog

RECOVERY_POINTS = "recovery-point-offset-checkpoint"
LOG_STARTS = "log-start-offset-checkpoint"

Offsets = Mapping[TopicPartition, int]


class OffsetCheckpoints:
    """What is on the disk. Whoever calls `write` or `forget` holds `lock`, from the moment that it looks at the logs.

    `points` is None if they are lost: that says less than points that are zero.
    """

    def __init__(self, fs: FileSystem, folder: Path) -> None:
        self._fs = fs
        self._points_path = folder / RECOVERY_POINTS
        self._starts_path = folder / LOG_STARTS
        self._is_certain = False  # whether this process has written both, so that they are sure to be on the disk
        self.lock = Lock()
        self.points: Offsets | None = None
        self.starts: Offsets = {}

    def read(self) -> None:
        """Take over what a process before this one has left; damaged files count as missing. Raises OSError."""
        self.points = read_offsets(self._fs, self._points_path)
        self.starts = read_offsets(self._fs, self._starts_path) or {}

    def are_within(self, logs: Mapping[TopicPartition, PartitionLog], *, but_for: Collection[str]) -> bool:
        """Whether they tell of no other logs than these, and of no offset behind an end: what comes to be written there
        would count as durable, or as deleted. Topics that nobody writes to are left out by name.
        """
        known = {**self.starts, **(self.points or {})}
        return all(
            each in logs and offset <= logs[each].log_end_offset
            for each, offset in known.items()
            if each.topic not in but_for
        )

    def write(self, points: Offsets, starts: Offsets) -> None:
        """Replace both durably, if they have changed. Raises OSError."""
        if points != self.points or not self._is_certain:
            write_offsets(self._fs, self._points_path, points)
            self.points = points
        if starts != self.starts or not self._is_certain:
            write_offsets(self._fs, self._starts_path, starts)
            self.starts = starts
        self._is_certain = True

    def forget(self, topics: Collection[str]) -> None:
        """Topics are gone. Durable with the next sync of the folder. Raises OSError."""
        if self.points is not None:
            self.points = self._without(topics, self._points_path, self.points)
        self.starts = self._without(topics, self._starts_path, self.starts)

    def _without(self, topics: Collection[str], path: Path, offsets: Offsets) -> Offsets:
        kept = {partition: offset for partition, offset in offsets.items() if partition.topic not in topics}
        if len(kept) < len(offsets):
            write_offsets(self._fs, path, kept, sync_folder=False)
        return kept
