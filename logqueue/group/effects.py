"""What the group coordinator wants done beside replies. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from logqueue.coordination.effects import LogRecord, Reply


class Producer(NamedTuple):
    """Who commits offsets in a transaction."""

    producer_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Append:
    """Append `records` to partition `partition` of `__consumer_offsets` as one batch, and make it durable.

    The shell reports the outcome with `on_appended(ticket, ...)` or `on_append_failed(ticket, ...)`, for each
    partition in the order of the appends. Replies that depend on the append come out of that report. With a `producer`
    (id and epoch) the batch is part of its transaction.
    """

    ticket: int
    partition: int
    records: tuple[LogRecord, ...]
    producer: Producer | None = None


Effect: TypeAlias = Append | Reply
