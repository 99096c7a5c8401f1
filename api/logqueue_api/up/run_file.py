"""`run.json` and the lock beside it: who runs on a data folder, and where. Knows no process and no Kafka.

The lock decides: a run.json whose lock nobody holds was left by a run that was killed, and is not believed.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from logqueue.errors import LogqueueError
from logqueue.version import __version__

RUN_FILE = "run.json"
LOCK_FILE = "up.lock"
LONGEST_RUN_FILE_BYTES = 1 << 20
# A reader probes the lock for an instant (see `read`); a start that meets a probe tries again this often.
LOCK_ATTEMPTS = 20
LOCK_RETRY_SECONDS = 0.01


class DataFolderInUse(LogqueueError):
    """Another `logqueue up` holds the data folder; the text names the folder and the holder."""


class DataFolderUnusable(LogqueueError):
    """The data folder cannot be made or written; the text names it and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What runs on a data folder. `broker` is None where an outside cluster is used."""

    bootstrap: str
    api: str
    broker: int | None
    api_process: int | None
    workers: tuple[int, ...] = ()
    supervisor: int = field(default_factory=os.getpid)
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        pids: dict[str, Any] = {"api": self.api_process, "workers": list(self.workers), "up": self.supervisor}
        if self.broker is not None:
            pids["broker"] = self.broker
        return {"bootstrap": self.bootstrap, "api": self.api, "pids": pids, "version": self.version}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises KeyError or TypeError where `value` is not a run."""
        pids = value["pids"]
        return cls(
            bootstrap=str(value["bootstrap"]),
            api=str(value["api"]),
            broker=pids.get("broker"),
            api_process=pids.get("api"),
            workers=tuple(pids.get("workers", ())),
            supervisor=int(pids["up"]),
            version=str(value["version"]),
        )


class DataFolder:
    """A data folder held by this process: the lock, and its run.json.

    Raises DataFolderInUse or DataFolderUnusable on construction. The kernel frees the lock when the process ends,
    however it ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            # os.open leaves the descriptor closed on exec: no child may hold the lock on after us.
            self._lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DataFolderUnusable(f"the data folder {path} cannot be used: {error.strerror}") from error
        if not _locked_exclusively(self._lock):
            holder = _holder(path)
            os.close(self._lock)
            raise DataFolderInUse(f"the data folder {path} is in use by another `logqueue up`{holder}")
        os.truncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        self.forget()

    def publish(self, run: Run) -> None:
        """Replace run.json in one step: a reader sees the old one or the new one."""
        draft = self.path / f"{RUN_FILE}.{os.getpid()}.tmp"
        draft.write_text(json.dumps(run.to_json(), indent=2) + "\n")
        draft.replace(self.path / RUN_FILE)

    def forget(self) -> None:
        """Remove run.json: nothing is ready here."""
        (self.path / RUN_FILE).unlink(missing_ok=True)

    def release(self) -> None:
        os.close(self._lock)


def read(path: Path) -> Run | None:
    """The run that is alive on `path`, or None: no run.json, one that a killed run left, or one that is no run."""
    try:
        text = (path / RUN_FILE).read_bytes()[:LONGEST_RUN_FILE_BYTES]
        run = Run.from_json(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    # The lock may be another run's that has not yet removed what a killed one left.
    return run if _is_held(path) and _holder_of(path) == str(run.supervisor) else None


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _locked_exclusively(descriptor: int) -> bool:
    for attempt in range(LOCK_ATTEMPTS):
        if attempt:
            time.sleep(LOCK_RETRY_SECONDS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return True
    return False


def _holder(path: Path) -> str:
    text = _holder_of(path)
    return f" (process {text})" if text.isdecimal() else ""


def _holder_of(path: Path) -> str:
    """The process id that whoever took the lock last has written."""
    try:
        return (path / LOCK_FILE).read_text().strip()
    except OSError:
        return ""
