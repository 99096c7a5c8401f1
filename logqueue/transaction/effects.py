"""What the transaction coordinator wants done beside appends and replies. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from logqueue.coordination.effects import Append, Reply
from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition


@dataclass(frozen=True, slots=True)
class WriteMarkers:
    """End the producer's transaction in each of these partitions with a commit or abort marker, durably.

    A start finds what decided it, and asks for the same again: readers may see a marker before it is durable.

    `transaction_version` is that of the end: from 2 on the marker's epoch is above that of the records (KIP-890).
    The shell reports with `on_markers_written(ticket)`, or `on_markers_failed(ticket, remaining)`. Partitions that
    are gone by now, and those where a newer epoch of the producer has written, need no marker and count as written.
    """

    ticket: int
    producer_id: int
    producer_epoch: int
    commit: bool
    transaction_version: int
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to who asked for something: NONE, or why not (a producer that wants to write, a start)."""

    token: object
    error: ErrorCode


Effect: TypeAlias = Append | WriteMarkers | Reply | Verdict
