"""A disk whose fsyncs can be held up folder by folder, and whose power can be cut."""

from __future__ import annotations

import threading
from pathlib import Path

from logqueue.storage.environment import Environment
from tests.crash.disk_states import Disk, File, Folder, write_image
from tests.crash.recording import RecordingFileSystem

TIMEOUT_SECONDS = 20


class HeldDisk(RecordingFileSystem):
    """Writes down what becomes durable. Fsyncs of data in folders whose names begin with a held one wait."""

    def __init__(self) -> None:
        super().__init__()
        self._held: tuple[str, ...] = ()
        self._waiting: list[str] = []
        self._changed = threading.Condition()

    @property
    def environment(self) -> Environment:
        """Every log is synced in its own file, by a thread of its own."""
        return Environment(fs=self, is_steady=False, journal_bytes=0)

    def hold(self, *folders: str) -> None:
        """Let go who waits; from now on fsyncs of these wait, those of others do not."""
        with self._changed:
            self._held = folders
            self._waiting = []
            self._changed.notify_all()

    def await_fsync(self, folder: str) -> None:
        """Wait until an fsync of a held folder is waiting."""
        with self._changed:
            assert self._changed.wait_for(lambda: folder in self._waiting, TIMEOUT_SECONDS), f"no fsync of {folder}"

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        name = self._paths[fd].parent.name
        with self._changed:
            held = next((each for each in self._held if name.startswith(each)), None)
            if held is not None:
                waiting = self._waiting
                waiting.append(held)
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: waiting is not self._waiting, TIMEOUT_SECONDS), "held for long"
        super().fdatasync(fd)

    def after_power_cut(self, data: Path, target: Path) -> Path:
        """What is left of folder `data` if the power goes now and nothing is kept but what was synced."""
        disk = Disk(data)
        for entry in list(self.journal):
            disk.apply(entry)
        return write_image(disk.image(content=_synced, names=_synced_names), target)


def _synced(file: File) -> bytes:
    return file.durable


def _synced_names(folder: Folder) -> dict[str, File | Folder]:
    return folder.durable
