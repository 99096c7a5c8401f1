"""Disks to watch, to hold up and to break, in place of the real one."""

from __future__ import annotations

import os
import threading

from logqueue.storage.environment import Environment
from logqueue.storage.file_system import RealFileSystem

TIMEOUT_SECONDS = 20


class Disk(RealFileSystem):
    """The real disk, with a count of the fsyncs of data, a gate before each and a switch that makes them fail."""

    def __init__(self) -> None:
        self.fdatasyncs = 0
        self.is_broken = False
        self.reached = threading.Semaphore(0)  # released by every fdatasync that arrives at the gate
        self._gate = threading.Event()
        self._gate.set()

    @property
    def environment(self) -> Environment:
        return Environment(fs=self, is_steady=False)  # with the loop at the gate nobody could open it

    def hold(self) -> None:
        """From now on every fdatasync waits for `let_go`."""
        self._gate.clear()

    def let_go(self) -> None:
        self._gate.set()

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.reached.release()
        if not self._gate.wait(TIMEOUT_SECONDS):
            raise OSError(5, "nobody opened the gate")
        if self.is_broken:
            raise OSError(5, "Input/output error")
        self.fdatasyncs += 1
        os.fdatasync(fd)
