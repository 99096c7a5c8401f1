"""What a relay asks of an outbox table, whichever database it is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from logqueue.errors import LogqueueError
from logqueue_consumers.bridges.outbox_rows import Row

MAX_ROWS = 500
"""Rows of one batch: one transaction of the log, one DELETE."""
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Arguments and headers of one batch; one row is always taken."""


class TableUnreachable(LogqueueError):
    """The database does not answer; a relay tries again."""


class TableMissing(LogqueueError):
    """There is no outbox table there, or another one than ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many rows wait, how many were refused, and when the oldest that waits was created (ms; None: none waits)."""

    pending: int
    refused: int
    oldest_ms: int | None


class Batch(NamedTuple):
    """The rows that are moved next, and whether others wait behind them."""

    rows: list[Row]
    has_more: bool


class OutboxTable(Protocol):
    """One table over one connection. Every method raises TableUnreachable when the connection is gone."""

    async def open(self) -> str:
        """Connect; the table's identity. Raises TableMissing."""

    async def try_lead(self) -> bool:
        """Whether this relay is the one that moves rows, until its connection ends; the others stand by."""

    async def read(self, *, max_row_bytes: int) -> Batch:
        """The next rows by position, at most MAX_ROWS and MAX_BATCH_BYTES; longer ones are refused in the table.

        A text that is not UTF-8 comes with lone surrogates, which no record takes.
        """

    async def delete(self, rows: Sequence[tuple[int, str]]) -> None:
        """Remove rows that are on the log, by position and id."""

    async def refuse(self, row: Row, reason: str) -> None:
        """Write why a row is no job, and read it no more until the user takes that back."""

    async def changed(self, timeout_s: float) -> None:
        """Wait until there may be new rows, at most that long."""

    async def counts(self) -> Counts:
        """What is in the table."""

    async def close(self) -> None:
        """End the connection."""


def batch_of(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """The positions of the first rows, given (position, bytes) in order, that fit into one batch."""
    taken: list[int] = []
    total = 0
    for position, size in sizes:
        total += size
        if taken and total > MAX_BATCH_BYTES:
            break
        taken.append(position)
    return taken


def too_large(size: int, max_bytes: int) -> str:
    """The reason of a row whose arguments alone are larger than a record may be."""
    return f"args and headers are {size:,} bytes; at most {max_bytes:,} are sent (LOGQUEUE_MAX_RECORD_BYTES)"
