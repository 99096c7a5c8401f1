"""File systems for tests: one that records every change so that crashes can be played, one that fails on command."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from logqueue.storage.file_system import Buffer, RealFileSystem

SECTOR = 512


class Inode:
    """A file's content as the disk has it for certain, and what was done to it since."""

    def __init__(self) -> None:
        self.durable = b""
        self.pending: list[tuple[int, bytes] | int] = []  # writes (position, data) and truncations (size)

    def content(self, pending: list[tuple[int, bytes] | int]) -> bytes:
        data = bytearray(self.durable)
        for change in pending:
            if isinstance(change, int):
                data = data[:change].ljust(change, b"\0")
            else:
                position, piece = change
                data = data.ljust(position, b"\0")
                data[position : position + len(piece)] = piece
        return bytes(data)


@dataclass
class Disk:
    """A tree of names: as programs see it (`seen`), and as it is certain to come back (`durable`)."""

    seen: dict[Path, Inode | None] = field(default_factory=dict)  # None: a folder
    durable: dict[Path, Inode | None] = field(default_factory=dict)

    def apply(self, change: tuple[object, ...]) -> None:
        match change:
            case ("create", Path() as path):
                self.seen.setdefault(path, Inode())
            case ("mkdir", Path() as path):
                self.seen.setdefault(path, None)
            case ("write", Path() as path, int() as position, bytes() as data):
                self._inode(path).pending.append((position, data))
            case ("truncate", Path() as path, int() as size):
                self._inode(path).pending.append(size)
            case ("sync", Path() as path):
                inode = self._inode(path)
                inode.durable, inode.pending = inode.content(inode.pending), []
            case ("rename", Path() as source, Path() as target):
                moved = {p: i for p, i in self.seen.items() if p == source or source in p.parents}
                for path, inode in moved.items():
                    del self.seen[path]
                    self.seen[target / path.relative_to(source)] = inode
            case ("remove", Path() as path):
                del self.seen[path]
            case ("sync_dir", Path() as folder):
                self._sync_names(folder)
            case ("mark", *_):
                pass
            case _:
                raise AssertionError(change)

    def _inode(self, path: Path) -> Inode:
        inode = self.seen[path]
        assert inode is not None
        return inode

    def _sync_names(self, folder: Path) -> None:
        """The names in a folder become certain; what lies in a subfolder moves with its name."""
        before = {p for p in self.durable if p.parent == folder}
        now = {p: i for p, i in self.seen.items() if p.parent == folder}
        certain = {id(inode) for inode in self.durable.values() if inode is not None}
        folders = {path for path, inode in now.items() if inode is None}
        # What was certain inside a folder stays so under the folder's new name.
        kept_below = {p: i for p, i in self.seen.items() if id(i) in certain and folders.intersection(p.parents)}
        for path in before - set(now):
            for gone in [p for p in self.durable if p == path or path in p.parents]:
                del self.durable[gone]
        self.durable.update(now)
        self.durable.update(kept_below)

    def images(self, *, step: int = SECTOR) -> Iterator[tuple[str, dict[Path, bytes | None]]]:
        """What the disk may hold after a crash now, by kind of loss."""
        whole = {p: None if i is None else i.content(i.pending) for p, i in self.seen.items()}
        yield "everything reached the disk", whole
        yield "only what was synced", {p: None if i is None else i.durable for p, i in self.durable.items()}
        yield "names but no unsynced bytes", {p: None if i is None else i.durable for p, i in self.seen.items()}
        yield (
            "bytes but no unsynced names",
            {p: None if i is None else i.content(i.pending) for p, i in self.durable.items()},
        )
        for path, inode in self.seen.items():
            if inode is None or not inode.pending:
                continue
            for index in range(len(inode.pending)):
                rest = inode.pending[:index] + inode.pending[index + 1 :]
                yield f"change {index} of {path.name} is lost", {**whole, path: inode.content(rest)}
            grown = len(inode.content(inode.pending))
            yield f"{path.name} grew but holds zeros", {**whole, path: inode.durable[:grown].ljust(grown, b"\0")}
            last = inode.pending[-1]
            if isinstance(last, tuple):
                for size in range(0, len(last[1]), step):
                    torn = [*inode.pending[:-1], (last[0], last[1][:size])]
                    yield f"the last write to {path.name} is torn at {size}", {**whole, path: inode.content(torn)}


class HastyFileSystem(RealFileSystem):
    """The real disk without waiting for it: for what is only looked at while the process lives."""

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        pass

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        pass

    def fsync_dir(self, path: Path) -> None:
        pass


class RecordingFileSystem(RealFileSystem):
    """The real disk, with a journal of everything that changes it; `mark` puts the test's own events between."""

    def __init__(self) -> None:
        self.journal: list[tuple[object, ...]] = []
        self._paths: dict[int, Path] = {}

    def mark(self, *event: object) -> None:
        self.journal.append(("mark", *event))

    def open(self, path: Path, *, create: bool = False) -> int:
        is_new = create and not path.exists()
        fd = super().open(path, create=create)
        self._paths[fd] = path
        if is_new:
            self.journal.append(("create", path))
        return fd

    def pwrite(self, fd: int, data: Buffer, position: int, /) -> int:  # type: ignore[override]
        count = os.pwrite(fd, data, position)
        self.journal.append(("write", self._paths[fd], position, bytes(data[:count])))
        return count

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        os.ftruncate(fd, size)
        self.journal.append(("truncate", self._paths[fd], size))

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        self.journal.append(("sync", self._paths[fd]))

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self.fsync(fd)

    def fsync_dir(self, path: Path) -> None:
        self.journal.append(("sync_dir", path))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._paths = {
            fd: target / path.relative_to(source) if path == source or source in path.parents else path
            for fd, path in self._paths.items()
        }
        self.journal.append(("rename", source, target))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.journal.append(("remove", path))

    def mkdir(self, path: Path) -> None:
        is_new = not path.exists()
        super().mkdir(path)
        if is_new:
            self.journal.append(("mkdir", path))

    def rmdir(self, path: Path) -> None:
        super().rmdir(path)
        self.journal.append(("remove", path))


class ForgetfulFileSystem(RecordingFileSystem):
    """A disk whose fsync does nothing: the tests have to notice."""

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        pass

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        pass


@dataclass
class Failure:
    """How a call fails: with an error, or (short) by writing only half."""

    name: str
    number: int
    short: bool = False


EIO = Failure("EIO", errno.EIO)
ENOSPC = Failure("ENOSPC", errno.ENOSPC)
SHORT_THEN_FULL = Failure("short write, then ENOSPC", errno.ENOSPC, short=True)


class FailingFileSystem(RealFileSystem):
    """The real disk, but the `at`-th changing call fails, and with `for_good` every one after it."""

    def __init__(self, *, at: int, failure: Failure, for_good: bool) -> None:
        self.calls = 0
        self.failed_call: str | None = None
        self._at = at
        self._failure = failure
        self._for_good = for_good

    @property
    def has_failed(self) -> bool:
        return self.failed_call is not None

    def _count(self, name: str) -> None:
        self.calls += 1
        if self.calls == self._at or (self._for_good and self.has_failed):
            self.failed_call = self.failed_call or name
            raise OSError(self._failure.number, os.strerror(self._failure.number))

    def _guard(self, name: str, call: Callable[[], None]) -> None:
        self._count(name)
        call()

    def open(self, path: Path, *, create: bool = False) -> int:
        if create:
            self._count("open")
        return super().open(path, create=create)

    def pwrite(self, fd: int, data: Buffer, position: int, /) -> int:  # type: ignore[override]
        try:
            self._count("write")
        except OSError:
            if self._failure.short and len(data) > 1:
                self._at = self.calls + 1  # what is left of it fails
                return os.pwrite(fd, memoryview(data)[: len(data) // 2], position)
            raise
        return os.pwrite(fd, data, position)

    def truncate(self, fd: int, size: int) -> None:  # type: ignore[override]
        self._guard("truncate", lambda: os.ftruncate(fd, size))

    def fsync(self, fd: int) -> None:  # type: ignore[override]
        self._count("fsync")

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._count("fsync")

    def fsync_dir(self, path: Path) -> None:
        self._count("fsync_dir")

    def rename(self, source: Path, target: Path) -> None:
        self._guard("rename", lambda: RealFileSystem.rename(self, source, target))

    def unlink(self, path: Path) -> None:
        self._guard("unlink", lambda: RealFileSystem.unlink(self, path))

    def mkdir(self, path: Path) -> None:
        self._guard("mkdir", lambda: RealFileSystem.mkdir(self, path))


def write_image(image: dict[Path, bytes | None], *, source: Path, target: Path) -> None:
    """Put what a crash left into a fresh folder."""
    for path, content in sorted(image.items()):
        if path != source and source not in path.parents:
            continue
        place = target / path.relative_to(source)
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
