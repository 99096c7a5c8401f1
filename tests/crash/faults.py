"""Disks whose n-th call fails, and a life that goes on as well as it can. Refusals are fine; a broken word is not."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from logqueue.errors import ErrorCode, LogqueueError
from logqueue.storage.file_system import Buffer
from tests.crash import promises as p
from tests.crash.client import Refused
from tests.crash.disk_states import Disk
from tests.crash.life import Life
from tests.crash.power_cuts import try_image
from tests.crash.recording import RecordingFileSystem

SYNCS = ("fsync", "fsync_dir")
ADVICE = ("mend the disk and restart", "cannot be read or written", "cannot be used", "free some space")
"""What a message about a failing disk says: one of these."""


@dataclass(frozen=True, slots=True)
class Fault:
    """How the n-th call fails: with an error number; a write may (`short`) take half of its bytes first."""

    name: str
    number: int
    short: bool = False


EIO = Fault("EIO", errno.EIO)
ENOSPC = Fault("ENOSPC", errno.ENOSPC)
SHORT = Fault("a short write, then ENOSPC", errno.ENOSPC, short=True)
FAULTS = (EIO, ENOSPC, SHORT)


class FaultyFileSystem(RecordingFileSystem):
    """A recorded disk, but the `at`-th call that changes something fails, and with `for_good` every one after it."""

    def __init__(self, fault: Fault, *, at: int, for_good: bool) -> None:
        super().__init__()
        self.calls = 0
        self.failed_call: str | None = None
        self.fault = fault
        self._at = at
        self._for_good = for_good

    @property
    def has_failed(self) -> bool:
        return self.failed_call is not None

    def _count(self, call: str) -> None:
        self.calls += 1
        if self.calls == self._at or (self._for_good and self.has_failed):
            self.failed_call = self.failed_call or call
            raise OSError(self.fault.number, os.strerror(self.fault.number))

    def open(self, path: Path, *, create: bool = False) -> int:
        if create:
            self._count("open")
        return super().open(path, create=create)

    def pwrite(self, fd: int, data: Buffer, position: int, /) -> int:  # type: ignore[override]
        try:
            self._count("write")
        except OSError:
            if not self.fault.short or len(data) < 2:
                raise
            self._at = self.calls + 1  # what is left of it fails
            return super().pwrite(fd, memoryview(data)[: len(data) // 2], position)
        return super().pwrite(fd, data, position)

    def truncate(self, fd: int, size: int) -> None:
        self._count("truncate")
        super().truncate(fd, size)

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        self._count("fsync")
        super().fsync(fd)

    def fsync_dir(self, path: Path, fd: int | None = None) -> None:
        self._count("fsync_dir")
        super().fsync_dir(path, fd)

    def rename(self, source: Path, target: Path) -> None:
        self._count("rename")
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._count("unlink")
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self._count("mkdir")
        super().mkdir(path)


class TroubledLife(Life):
    """A life on a faulty disk: it goes on after refusals, and starts again once after a start that failed."""

    def __init__(self, folder: Path, fs: FaultyFileSystem, *, seed: int) -> None:
        super().__init__(folder, fs, seed=seed, on_event=fs.mark)
        self.refusals = 0
        self._faulty = fs
        self._was_stopped_by_fsync = False

    def run(self, steps: int) -> None:
        """Never raises LogqueueError; AssertionError if something was promised that could not be."""
        try:
            super().run(steps)
        except LogqueueError as error:
            self._check_advice(error)
            assert self._faulty.has_failed

    def take(self, step: Callable[[], None]) -> None:
        """A step that may be refused, but then has to be refused for the disk's sake."""
        plain = self.promises.topics.get("plain")
        if plain is not None and not plain.is_certain:
            return  # every step needs the topic whose creation was refused
        try:
            step()
        except Refused as error:
            self.refusals += 1
            assert self._faulty.has_failed, f"refused on a healthy disk: {error}"
            assert error.code is not ErrorCode.UNKNOWN_SERVER_ERROR, f"a disk error came out as {error}"
            # What was asked for together with the refused may have been synced before; what comes now was not.
            # A disk too full for a file that is replaced as a whole ends nothing: the old one is there.
            has_ended = self._faulty.failed_call in SYNCS and self._faulty.fault is EIO
            if error.code is ErrorCode.KAFKA_STORAGE_ERROR and has_ended:
                self._was_stopped_by_fsync = True

    def create(self, name: str, partitions: int, properties: dict[str, str], *, compacted: bool = False) -> None:
        self.take(lambda: Life.create(self, name, partitions, properties, compacted=compacted))

    def tell(self, event: p.Event) -> None:
        super().tell(event)
        if self._was_stopped_by_fsync:
            word = isinstance(event, p.Acked | p.Committed | p.Created | p.Deleted | p.Altered | p.Grown)
            assert not word, f"promised after a failed fsync: {event}"

    def start(self) -> None:
        self._was_stopped_by_fsync = False
        try:
            super().start()
        except LogqueueError as error:
            self._check_advice(error)
            super().start()

    def restart(self) -> None:
        try:
            self.stop()
        except LogqueueError as error:
            self._check_advice(error)
        self.start()

    def _check_advice(self, error: LogqueueError) -> None:
        assert any(advice in str(error) for advice in ADVICE), f"the message says not what to do: {error}"


def fail_once(folder: Path, fault: Fault, *, seed: int, steps: int, at: int, for_good: bool) -> FaultyFileSystem:
    """Live on a disk whose `at`-th call fails, then start on what is there for sure and on what may be there.

    The life's folder is removed when all is well: the next life of a long run may fail at a call of the same number.
    """
    fs = FaultyFileSystem(fault, at=at, for_good=for_good)
    data = folder / f"data-{at}"
    life = TroubledLife(data, fs, seed=seed)
    data.mkdir()
    life.run(steps)
    disk = Disk(data)
    for entry in fs.journal:
        disk.apply(entry)
    what = f"seed {seed}, call {at} ({fs.failed_call}) fails with {fault.name}{' for good' if for_good else ''}"
    for state in list(disk.states())[:2]:
        try_image(state.image(), folder / "target", life.promises, f"{what}, {state}")
    shutil.rmtree(data)
    return fs


def calls_of_a_life(folder: Path, *, seed: int, steps: int) -> int:
    fs = FaultyFileSystem(FAULTS[0], at=0, for_good=False)
    folder.mkdir()
    Life(folder, fs, seed=seed).run(steps)
    return fs.calls
