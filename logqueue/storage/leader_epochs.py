"""Which leader epoch began at which offset of a log (KIP-101). Knows no batches.

File `leader-epoch-checkpoint`: a text checkpoint of `epoch startOffset` lines, both rising.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import pairwise
from pathlib import Path

from logqueue.storage.checkpoint import format_lines, read_lines
from logqueue.storage.file_system import FileSystem, write_atomically

NO_EPOCH = -1


class LeaderEpochs:
    """The epochs of one log, oldest first; `latest` is the newest one, -1 before the first."""

    def __init__(self, entries: list[tuple[int, int]] | None = None) -> None:
        self.is_written = True
        self.latest = NO_EPOCH
        self._entries: list[tuple[int, int]] = []
        self._set(entries or [])

    def _set(self, entries: list[tuple[int, int]]) -> None:
        self._entries = entries
        self.latest = entries[-1][0] if entries else NO_EPOCH

    def assign(self, epoch: int, start_offset: int) -> None:
        """Note that `epoch` writes from `start_offset` on; a no-op for the epoch that already does."""
        if epoch <= self.latest:
            return
        self._set([*(entry for entry in self._entries if entry[1] < start_offset), (epoch, start_offset)])
        self.is_written = False

    def epoch_of(self, offset: int) -> int:
        """The epoch that wrote an offset; -1 if it is older than what is known."""
        index = bisect_right(self._entries, offset, key=lambda entry: entry[1])
        return self._entries[index - 1][0] if index else NO_EPOCH

    def truncate_to(self, end_offset: int) -> None:
        """Forget epochs that began at or after a log end that moved back."""
        kept = self._entries[: bisect_left(self._entries, end_offset, key=lambda entry: entry[1])]
        if len(kept) < len(self._entries):
            self._set(kept)
            self.is_written = False

    def start_at(self, offset: int) -> None:
        """Forget epochs that ended at or before a log start that moved on; the one that covers it starts there."""
        index = bisect_right(self._entries, offset, key=lambda entry: entry[1])
        if index and (index > 1 or self._entries[0][1] < offset):
            self._set([(self._entries[index - 1][0], offset), *self._entries[index:]])
            self.is_written = False

    def write(self, fs: FileSystem, path: Path) -> None:
        """Replace the file; durable once its folder is synced. Raises OSError."""
        self.is_written = True  # before, not after: what is assigned meanwhile makes it false again
        lines = format_lines(f"{epoch} {start}" for epoch, start in self._entries)
        try:
            write_atomically(fs, path, lines, sync_folder=False)
        except OSError:
            self.is_written = False
            raise

    @classmethod
    def read(cls, fs: FileSystem, path: Path) -> LeaderEpochs | None:
        """The epochs of a file; None if it is missing or damaged."""
        lines = read_lines(fs, path)
        if lines is None:
            return None
        try:
            entries = [(int(epoch), int(start)) for epoch, start in lines]
        except ValueError:
            return None
        rising = all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(entries))
        return cls(entries) if rising else None
