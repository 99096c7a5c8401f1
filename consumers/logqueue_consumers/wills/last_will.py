"""The will of this process: written when it starts, whenever something in it changes, and torn up at an orderly end.

Shell. A process that cannot write one works all the same: its group then waits for its session when it is killed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog

from logqueue.jobs.settings import Settings
from logqueue_consumers.cache_folder import cache_folder
from logqueue_consumers.wills import will_file
from logqueue_consumers.wills.will import Membership, Will, encode, key_of
from logqueue_consumers.wills.will_file import WillFile

log = structlog.get_logger(__name__)


class LastWill:
    """One worker's will. The worker's thread and its keepers' both change it."""

    def __init__(self, folder: Path, key: str, will: Will, file: WillFile | None) -> None:
        self.folder = folder
        self.key = key
        self._will = will
        self._file = file
        self._lock = threading.Lock()
        self._write()

    @classmethod
    def draw_up(cls, settings: Settings, *, group: str, worker: str) -> LastWill:
        """A will with nothing in it yet."""
        folder = cache_folder(settings) / "wills"
        key = key_of(
            machine=will_file.machine(),
            bootstrap=settings.bootstrap,
            topic_prefix=settings.topic_prefix,
            group=group,
        )
        try:
            file = will_file.create(folder, key)
            will_file.remove_old(folder)
        except OSError as error:
            log.warning("if this worker is killed, its group waits for its session", folder=str(folder), why=str(error))
            file = None
        return cls(folder, key, Will(worker=worker), file)

    @property
    def will(self) -> Will:
        """What stands in it."""
        return self._will

    @property
    def path(self) -> Path | None:
        """Its file; None where none could be made."""
        return self._file.path if self._file is not None else None

    def writes_as(self, transactional_id: str) -> None:
        """The worker's transactions are those of this id, and nobody else's."""
        self._change(transactional_id=transactional_id)

    def is_member(self, group: str, member_id: str | None, transactional_ids: Iterable[str] = ()) -> None:
        """The process is in a group under this id (None: no more), and writes under ids that its place gives it."""
        others = [known for known in self._will.memberships if known.group != group]
        if member_id is not None:
            ids = tuple(transactional_ids)
            others.append(Membership(group=group, member_id=member_id, transactional_ids=ids))
        self._change(memberships=tuple(others))

    def tear_up(self) -> None:
        """The process ends in good order."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.remove()
                file.close()

    def _change(self, **changes: object) -> None:
        with self._lock:
            will = msgspec.structs.replace(self._will, **changes)
            if will != self._will:
                self._will = will
                self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        try:
            self._file.write(encode(self._will))
        except OSError as error:
            log.warning("last will not written", path=str(self._file.path), error=str(error))
