"""What a disk may hold after a power cut, given the journal of what was done to it. Knows no logs.

Bytes and names become certain separately: an fsync of a file says nothing of its name, an fsync of a folder nothing of
the bytes. Whatever is not certain may be there, be missing, or be there in part (Pillai et al., "All file systems are
not created equal", OSDI 2014).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from random import Random
from typing import NamedTuple, TypeAlias

from tests.crash.recording import Entry

SECTOR = 512
PAGE = 4096
SMALL_WRITE = 96
"""Writes up to this size are torn at every byte, larger ones in their header and at the edges of sectors and pages."""
HEADER = 62

Image: TypeAlias = dict[PurePosixPath, bytes | None]
"""A tree by relative path; None is a folder."""


class Change(NamedTuple):
    """A write (`position`, `data`), or a truncation to `size`; `number` is its place in the journal."""

    number: int
    position: int
    data: bytes
    size: int | None = None


@dataclass(eq=False)
class File:
    """Bytes that are on the disk for certain, and what was done to them since."""

    durable: bytes = b""
    pending: list[Change] = field(default_factory=list)

    def content(self, changes: list[Change] | None = None) -> bytes:
        return applied(self.durable, self.pending if changes is None else changes)


class NameChange(NamedTuple):
    """Names that appear in or vanish from a folder at once."""

    number: int
    gone: tuple[str, ...]
    come: tuple[tuple[str, File | Folder], ...]

    def __str__(self) -> str:
        come = ",".join(name for name, _ in self.come)
        return f"{','.join(self.gone) or '-'} -> {come or '-'}"


@dataclass(eq=False)
class Folder:
    """Names as programs see them, as they are certain to come back, and the changes between the two."""

    seen: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[NameChange] = field(default_factory=list)

    def names(self, changes: list[NameChange]) -> dict[str, File | Folder]:
        names = dict(self.durable)
        for change in changes:
            for name in change.gone:
                names.pop(name, None)
            names.update(change.come)
        return names


def applied(durable: bytes, changes: list[Change]) -> bytes:
    if not changes:
        return durable
    data = bytearray(durable)
    for _, position, piece, size in changes:
        if size is not None:
            del data[size:]
            data.extend(bytes(size - len(data)))
            continue
        if len(data) < position:
            data.extend(bytes(position - len(data)))
        data[position : position + len(piece)] = piece
    return bytes(data)


class State(NamedTuple):
    """One thing that a power cut may leave; `image` makes it when it is wanted."""

    kind: str
    detail: str
    image: Callable[[], Image]

    def __str__(self) -> str:
        return f"{self.kind}{': ' + self.detail if self.detail else ''}"


class Disk:
    """The folder `root` over time: `apply` entries of a journal, then ask for `states`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tree = Folder()
        self._number = 0

    @classmethod
    def of(cls, image: Image, root: Path) -> Disk:
        """A disk that holds an image, all of it for certain."""
        disk = cls(root)
        for path, content in image.items():
            folder = disk._folder(root / path.parent)
            folder.seen[path.name] = Folder() if content is None else File(content)
        for _, node in disk._walk(disk._tree, PurePosixPath()):
            if isinstance(node, Folder):
                node.durable = dict(node.seen)
        return disk

    def apply(self, entry: Entry) -> None:
        number, self._number = self._number, self._number + 1
        match entry:
            case ("mark", _):
                return
            case ("sync", Path() as path, int() as upto):
                file = self._file(path)
                file.durable = applied(file.durable, [change for change in file.pending if change.number < upto])
                file.pending = [change for change in file.pending if change.number >= upto]
            case ("sync_dir", Path() as path, int() as upto):
                if path == self._root or self._root in path.parents:
                    folder = self._folder(path)
                    folder.durable = folder.names([change for change in folder.pending if change.number < upto])
                    folder.pending = [change for change in folder.pending if change.number >= upto]
            case ("write", Path() as path, int() as position, bytes() as data):
                self._file(path).pending.append(Change(number, position, data))
            case ("truncate", Path() as path, int() as size):
                self._file(path).pending.append(Change(number, 0, b"", size))
            case ("open" | "mkdir" as what, Path() as path):
                if path != self._root:
                    self._rename_in(path.parent, NameChange(number, (), ((path.name, _new(what)),)))
            case ("rename", Path() as source, Path() as target):
                assert source.parent == target.parent, "nothing is moved from folder to folder"
                node = self._folder(source.parent).seen[source.name]
                self._rename_in(source.parent, NameChange(number, (source.name,), ((target.name, node),)))
            case ("remove", Path() as path):
                self._rename_in(path.parent, NameChange(number, (path.name,), ()))
            case _:
                raise AssertionError(entry)

    def _rename_in(self, folder: Path, change: NameChange) -> None:
        node = self._folder(folder)
        node.pending.append(change)
        for name in change.gone:
            del node.seen[name]
        node.seen.update(change.come)

    def _node(self, path: Path) -> File | Folder:
        node: File | Folder = self._tree
        for name in path.relative_to(self._root).parts:
            assert isinstance(node, Folder)
            node = node.seen[name]
        return node

    def _file(self, path: Path) -> File:
        node = self._node(path)
        assert isinstance(node, File)
        return node

    def _folder(self, path: Path) -> Folder:
        node = self._node(path)
        assert isinstance(node, Folder)
        return node

    # States

    def image(
        self,
        *,
        content: Callable[[File], bytes] = File.content,
        names: Callable[[Folder], dict[str, File | Folder]] = lambda folder: folder.seen,
    ) -> Image:
        """The tree with the bytes and names that the two functions choose; all of them by default."""
        image: Image = {}

        def walk(folder: Folder, path: PurePosixPath) -> None:
            for name, node in names(folder).items():
                if isinstance(node, Folder):
                    image[path / name] = None
                    walk(node, path / name)
                else:
                    image[path / name] = content(node)

        walk(self._tree, PurePosixPath())
        return image

    def states(self) -> Iterator[State]:
        """Everything that a power cut at this moment may leave, one kind of loss after the other."""
        synced = _durable_content
        certain = _durable_names
        yield State("everything reached the disk", "", self.image)
        yield State("only what was synced", "", lambda: self.image(content=synced, names=certain))
        yield State("names but no unsynced bytes", "", lambda: self.image(content=synced))
        yield State("bytes but no unsynced names", "", lambda: self.image(names=certain))
        for path, node in self._walk(self._tree, PurePosixPath()):
            if isinstance(node, File):
                yield from self._states_of_file(str(path), node)
            else:
                yield from self._states_of_folder(str(path), node)

    def random_state(self, random: Random) -> State:
        """Any mixture of losses: each change is kept or lost by the toss of a coin, torn writes included."""
        seed = random.random()
        return State("a mixture of losses", f"seed {seed}", lambda: self._mixture(Random(seed)))

    def _mixture(self, random: Random) -> Image:
        odds = random.choice((0.2, 0.5, 0.8))

        def content(file: File) -> bytes:
            kept = [change for change in file.pending if random.random() < odds]
            if kept and kept[-1].size is None and random.random() < 0.3:
                kept[-1] = kept[-1]._replace(data=kept[-1].data[: random.randrange(len(kept[-1].data) + 1)])
            return file.content(kept)

        def names(folder: Folder) -> dict[str, File | Folder]:
            return folder.names(folder.pending[: random.randint(0, len(folder.pending))])

        return self.image(content=content, names=names)

    def _walk(self, folder: Folder, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, File | Folder]]:
        yield path, folder
        for name, node in folder.seen.items():
            if isinstance(node, Folder):
                yield from self._walk(node, path / name)
            else:
                yield path / name, node

    def _states_of_file(self, path: str, file: File) -> Iterator[State]:
        pending = file.pending
        if not pending:
            return

        def kept(*changes: Change) -> Callable[[], Image]:
            return lambda: self._with_content(file, file.content(list(changes)))

        yield State("one file lost its unsynced bytes", path, kept())
        if len(pending) > 1:
            for index in range(len(pending)):
                rest = pending[:index] + pending[index + 1 :]
                yield State("one unsynced change is lost", f"{path} {pending[index][:2]}", kept(*rest))
        grown = len(file.content())
        if grown > len(file.durable):
            zeros = file.durable.ljust(grown, b"\0")
            yield State("a file grew but holds zeros", path, lambda: self._with_content(file, zeros))
        last = pending[-1]
        if last.size is None:
            for size in torn_sizes(last.position, len(last.data)):
                torn = last._replace(data=last.data[:size])
                yield State("the last write is torn", f"{path} at {size}", kept(*pending[:-1], torn))

    def _with_content(self, file: File, data: bytes) -> Image:
        return self.image(content=lambda each: data if each is file else each.content())

    def _states_of_folder(self, path: str, folder: Folder) -> Iterator[State]:
        pending = folder.pending

        def kept(changes: list[NameChange]) -> Callable[[], Image]:
            return lambda: self.image(names=lambda each: folder.names(changes) if each is folder else each.seen)

        # In one folder names change in order on every journaling file system; between folders nothing is ordered.
        for index, change in enumerate(pending):
            yield State("names are lost from one change on", f"{path} {change}", kept(pending[:index]))


def states_over_time(
    journal: Iterable[Entry], root: Path, *, every: int, start: Image | None = None
) -> Iterator[tuple[object, str, Image]]:
    """What power cuts may leave of a journal, one in `every`: the last event marked before it, its kind, the image."""
    disk, event, number = Disk(root) if start is None else Disk.of(start, root), None, 0
    for entry in journal:
        disk.apply(entry)
        if entry[0] == "mark":
            event = entry[1]
            continue
        for state in disk.states():
            number += 1
            if number % every == 0:
                yield event, f"crash state {number} ({state}, after {entry[:2]})", state.image()


def _new(what: str) -> File | Folder:
    return File() if what == "open" else Folder()


def _durable_content(file: File) -> bytes:
    return file.durable


def _durable_names(folder: Folder) -> dict[str, File | Folder]:
    return folder.durable


def torn_sizes(position: int, size: int) -> list[int]:
    """How many bytes of a write may have arrived."""
    if size <= SMALL_WRITE:
        return list(range(1, size))
    edges = {edge - position for edge in range(position - position % SECTOR, position + size, SECTOR)}
    sizes = {*range(1, HEADER, 6), 61, *edges, size - 1}
    if size > 4 * PAGE:
        sizes = {*(edge - position for edge in range(position - position % PAGE, position + size, PAGE)), 61, size - 1}
    return sorted(each for each in sizes if 0 < each < size)


def write_image(image: Image, target: Path) -> Path:
    """Put what a power cut left into a fresh folder; answers it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path, content in image.items():
        place = target / path
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.write_bytes(content)
    return target
