"""What a keeper does with the records of its partition: the form that every machine has. Values and Protocols; no IO.

A machine is pure: records and the time come in, records to be written come out. What it knows lies in its `Index`,
which only `apply` changes. Whatever a machine writes to its own topic comes back through `apply`, so its state is the
fold of its topic and of nothing else, and recovery is reading.

    due/on_event -> records -> one Kafka transaction -> apply (own topic)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from logqueue_consumers.keeper.index import Index
from logqueue_consumers.writing.outgoing import Outgoing

Headers = Sequence[tuple[str, bytes]]


class Kept(NamedTuple):
    """A record as it stands in the topic (or, for events, in the status topic); `value` None is a tombstone."""

    key: bytes
    value: bytes | None
    headers: Headers = ()
    offset: int = -1
    timestamp_ms: int = 0


class KeeperMachine(Protocol):
    """The state of one partition of a keeper's topic. All times are milliseconds since the epoch."""

    def apply(self, record: Kept) -> None:
        """Fold a record of the own topic into the index: one that was read, or one that was just written.

        Called in the order of the log, inside the index's transaction. Of one key only the latest may be seen.
        """
        ...

    def next_due(self) -> int | None:
        """When `due` has something to do: a time, one in the past for at once, None for not by itself."""
        ...

    def due(self, now_ms: int, limit: int) -> list[Outgoing]:
        """What is to be written now; at least one record if `next_due() <= now_ms`, unless what was due is put off.

        About `limit` things are handled; whoever calls asks again. Nothing changes here: the records do, in `apply`.
        They must therefore include one to the own topic for each thing handled, so that it is not due again.
        """
        ...

    def put_off(self, now_ms: int) -> None:
        """What `due(now_ms, 1)` gives may not be writable: let it be due later, each time longer, so that others go on.

        A record about it, in `apply`, may make it due earlier. Memory is enough: the next owner tries at once.
        """
        ...

    def events_since(self) -> int | None:
        """From which time on events are of interest; None: not now (then none are read, which costs nothing)."""
        ...

    def on_event(self, event: Kept) -> list[Outgoing]:
        """What an event makes to be written; most of them nothing. Its offset goes into the same transaction."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which partition a machine works for, and how many partitions other topics have."""

    topic: str
    partition: int
    partitions: int
    count_of: Callable[[str], int]
    """Of a topic that the keepers were told to make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSpec:
    """A keeper's topic and its machine.

    `make` builds the machine on an index that may hold what was read before. `layout` is raised when the machine
    stores other things in its index than before: older files are then thrown away. `events` is a topic of which the
    machine of partition n sees partition n.
    """

    topic: str
    make: Callable[[Index, Place], KeeperMachine]
    layout: int = 1
    events: str | None = None
