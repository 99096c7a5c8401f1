"""What clients saw, one line of JSON for each event, written as it happens. Knows no Kafka.

Times are CLOCK_MONOTONIC, which all processes of a machine share. A line that a killed client left half is ignored.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeAlias

READ_COMMITTED = "read_committed"
READ_UNCOMMITTED = "read_uncommitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """A record is handed to a producer; `number` counts the sends of this client in order."""

    at: float
    client: str
    partition: int
    value: str
    number: int
    transaction: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The producer says that the record is stored."""

    at: float
    client: str
    value: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionEnd:
    """How a transaction ended: committed, aborted, or None if nobody could tell."""

    at: float
    client: str
    transaction: str
    committed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """Records as (partition, offset, value) in the order in which a consumer was given them.

    `assignment` counts this client's assignments: within one, offsets of a partition rise.
    """

    at: float
    client: str
    group: str
    assignment: int
    isolation: str
    records: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A group was asked to note offsets, as (partition, offset); `ok` is None while nobody can tell.

    Told twice under one `number`: before it is asked, and with the answer. A client may be killed in between.
    """

    number: int
    started: float
    at: float
    client: str
    group: str
    offsets: tuple[tuple[int, int], ...]
    ok: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRead:
    """What a group said it had noted, as (partition, offset); -1 for nothing."""

    started: float
    at: float
    client: str
    group: str
    offsets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalLog:
    """One partition as a reader of this isolation finds it at the very end: (offset, value)."""

    partition: int
    isolation: str
    records: tuple[tuple[int, str], ...]


Event: TypeAlias = Send | Ack | TransactionEnd | Poll | Commit | CommitRead | FinalLog
KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Send, Ack, TransactionEnd, Poll, Commit, CommitRead, FinalLog)
}


class Recorder:
    """Appends events to a file, each with one write, so that a kill loses at most the one being written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def add(self, event: Event) -> None:
        self._file.write(json.dumps({"kind": type(event).__name__, **asdict(event)}).encode() + b"\n")

    def close(self) -> None:
        self._file.close()


def now() -> float:
    return time.monotonic()


def read_history(paths: Iterable[Path]) -> Iterator[Event]:
    """All events of some files, file by file."""
    for path in paths:
        for line in path.read_bytes().split(b"\n"):
            try:
                values = json.loads(line)
            except ValueError:
                continue  # the half line of a killed client
            kind = KINDS[values.pop("kind")]
            names = {field.name for field in fields(kind)}
            assert names == values.keys(), f"{path}: {kind.__name__} with {values.keys()}"
            yield kind(**{name: _frozen(value) for name, value in values.items()})


def _frozen(value: object) -> object:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
