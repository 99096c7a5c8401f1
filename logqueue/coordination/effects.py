"""What every coordinator is told beside a request, and what all of them want done. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from logqueue.clock import Clock
from logqueue.protocol.schema import Message


class Now(NamedTuple):
    """One moment on both clocks: `monotonic` (seconds) moves deadlines, `time_ms` (Unix epoch) is what gets stored."""

    monotonic: float
    time_ms: int

    @classmethod
    def of(cls, clock: Clock) -> Now:
        """Read both clocks."""
        return cls(clock.monotonic(), clock.time_ms())


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request: `token` is the shell's own handle of the waiting request, given back in its Reply.

    `sees` tells the topics that it may know of, where patterns are resolved for it; None: all.
    """

    token: object
    version: int
    client_id: str = ""
    host: str = ""
    sees: Callable[[str], bool] | None = None


class LogRecord(NamedTuple):
    """A record of a coordinator's topic as bytes; a value of None is a tombstone."""

    key: bytes
    value: bytes | None


class Producer(NamedTuple):
    """Whose transaction a batch is part of."""

    producer_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Append:
    """Append `records` to a partition of the coordinator's topic as one batch, and make it durable.

    The shell reports the outcome with `on_appended(ticket)` or `on_append_failed(ticket, error)`, for each partition in
    the order of the appends. Replies that depend on the append come out of that report. With a `producer` the batch is
    part of its transaction. One that is not `awaited` is reported as soon as it is written: all that depends on it is
    written behind it, in the same partition, or tells of it after a power cut.
    """

    ticket: int
    partition: int
    records: tuple[LogRecord, ...]
    producer: Producer | None = None
    awaited: bool = True


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the request behind `token` now. Every request gets exactly one."""

    token: object
    response: Message


Effect: TypeAlias = Append | Reply
