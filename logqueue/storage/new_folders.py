"""Names of new partition folders in the data folder: one fsync of it serves every log that waits. Knows no logs."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from logqueue.storage.file_system import FileSystem


class NewFolders:
    """Counts the folders made, and how many of them are certain to come back after a power cut."""

    def __init__(self, fs: FileSystem) -> None:
        self._fs = fs
        self._lock = Lock()
        self._made = 0
        self._synced = 0

    def add(self) -> int:
        """A folder was made; answers its number, for `sync`. The owner's thread only."""
        self._made += 1
        return self._made

    def sync(self, root: Path, number: int) -> None:
        """Make the name of folder `number` durable, and with it all that were made before this call. Any thread.

        Raises OSError.
        """
        with self._lock:
            if number > self._synced:
                made = self._made
                self._fs.fsync_dir(root)
                self._synced = made
