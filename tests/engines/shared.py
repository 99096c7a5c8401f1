"""Servers that all processes of a test run share: who needs one first starts it, and ends it when everybody has left.

Knows nothing of the servers themselves. Locks are the kernel's: a process that crashed has left, and nothing is stale.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time: for what is started, downloaded or built once and used by all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class SharedServers:
    """This process's part in the servers of a run; `folder` is the same one for all processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: dict[str, ExitStack] = {}
        self._presence = (folder / "present").open("a")
        fcntl.flock(self._presence, fcntl.LOCK_SH)

    def address(self, name: str, start: Callable[[], AbstractContextManager[str]]) -> str:
        """The address of a server, which is started here where no process has done so yet."""
        told = self._told(name)
        with self._deciding(name):
            if not told.exists():
                stack = ExitStack()
                address = stack.enter_context(start())
                self._own[name] = stack
                told.write_text(address)
            return told.read_text()

    def alone(self, name: str) -> AbstractContextManager[None]:
        """One process of the run at a time: for tests that change what others look at."""
        return locked(self._folder / f"{name}.lock")

    def close(self) -> None:
        """Leave; what was started here ends when all other processes have left too."""
        fcntl.flock(self._presence, fcntl.LOCK_EX if self._own else fcntl.LOCK_UN)
        for name, stack in self._own.items():
            with self._deciding(name):
                self._told(name).unlink()
                stack.close()
        self._own.clear()
        self._presence.close()

    def _told(self, name: str) -> Path:
        return self._folder / f"{name}.address"

    def _deciding(self, name: str) -> AbstractContextManager[None]:
        return locked(self._folder / f"{name}.lock")
