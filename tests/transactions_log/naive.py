"""A log with transactions as a plain list: what each question should be answered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A batch as the model has it: data, or a marker if `commit` is set."""

    base: int
    count: int
    producer: int = -1
    epoch: int = 0
    transactional: bool = False
    sequence: int = -1
    commit: bool | None = None


@dataclass(frozen=True, slots=True)
class Transaction:
    producer: int
    first: int
    marker: int | None
    commit: bool


def transactions(entries: list[Entry]) -> list[Transaction]:
    """All transactions of a log, open ones last."""
    open_ones: dict[int, int] = {}
    found = []
    for entry in entries:
        if entry.commit is not None:
            first = open_ones.pop(entry.producer, None)
            if first is not None:
                found.append(Transaction(entry.producer, first, entry.base, entry.commit))
        elif entry.transactional:
            open_ones.setdefault(entry.producer, entry.base)
    return found + [Transaction(producer, first, None, False) for producer, first in open_ones.items()]


def end_of(entries: list[Entry]) -> int:
    return entries[-1].base + entries[-1].count if entries else 0


def stable_offset(entries: list[Entry], *, start: int = 0) -> int:
    """The first offset of the oldest open transaction, or the end; not below the start of the log."""
    starts = [transaction.first for transaction in transactions(entries) if transaction.marker is None]
    return max(min(starts, default=end_of(entries)), start)


def committed_offsets(entries: list[Entry], offset: int, *, start: int = 0) -> list[int]:
    """The records from an offset on that readers of committed records are shown."""
    hidden = {
        entry.base
        for transaction in transactions(entries)
        if not transaction.commit
        for entry in entries
        if entry.producer == transaction.producer
        and entry.transactional
        and transaction.first <= entry.base < (end_of(entries) if transaction.marker is None else transaction.marker)
    }
    shown = [
        each
        for entry in entries
        if entry.commit is None and entry.base not in hidden
        for each in range(entry.base, entry.base + entry.count)
    ]
    return [each for each in shown if offset <= each < stable_offset(entries, start=start)]


def aborted(entries: list[Entry], offset: int, upper: int) -> set[tuple[int, int]]:
    """Producer and first offset of the aborted transactions that overlap a range of offsets."""
    return {
        (each.producer, each.first)
        for each in transactions(entries)
        if each.marker is not None and not each.commit and each.marker >= offset and each.first < upper
    }
