"""Which of the matching letters an operator's verb takes: each job once, and none that is closed already. Pure.

| the letters of a job  | named                            | by filters | named, and closed ones count too |
|-----------------------|----------------------------------|------------|----------------------------------|
| one is open           | its newest open one              | the same   | its newest one                   |
| several are open      | the newest; the others close too | the same   | the same, of all                 |
| all are closed        | `LettersClosed`: nothing is done | left alone | its newest one                   |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from logqueue.errors import LogqueueError
from logqueue.jobs.times import format_time
from logqueue_consumers.letters.letter import DeadLetter, Deed, LetterFilter

MAX_TOLD = 5
"""Closed letters that an error names."""


class LettersClosed(LogqueueError):
    """Letters that were named are closed already, or their jobs have succeeded."""

    def __init__(self, closed: Iterable[tuple[DeadLetter, Deed | None]]) -> None:
        self.closed = list(closed)
        told = [_told(letter, deed) for letter, deed in self.closed[:MAX_TOLD]]
        if len(self.closed) > MAX_TOLD:
            told.append(f"{len(self.closed) - MAX_TOLD} more are closed too")
        super().__init__("; ".join(told) + "; nothing was done")


@dataclass(slots=True)
class ChosenJob:
    """The letter whose record goes round, and all letters of its job that this closes."""

    letter: DeadLetter
    record: Any
    closes: list[DeadLetter]


@dataclass(slots=True)
class LetterChoice:
    """Letters go in as they are read; `jobs` is what was chosen. With `again` closed letters count as open ones do."""

    where: LetterFilter
    again: bool = False
    jobs: dict[str, ChosenJob] = field(default_factory=dict)
    size: int = 0
    """Bytes of the values that are kept."""
    _closed: dict[str, tuple[DeadLetter, Deed | None]] = field(default_factory=dict)

    def add(self, letter: DeadLetter, record: Any, deed: Deed | None, *, may_grow: bool = True) -> None:
        """Take a letter in if it is meant; without `may_grow` only one of a job that was chosen before."""
        if not self.where.means(letter):
            return
        if not (letter.is_open or self.again):
            if self.where.is_named:
                self._closed[letter.job_key] = (letter, deed)
            return
        known = self.jobs.get(letter.job_key)
        if known is None:
            if may_grow:
                self.jobs[letter.job_key] = ChosenJob(letter, record, [letter])
                self.size += letter.size
            return
        known.closes.append(letter)
        if _age(letter) >= _age(known.letter):
            self.size += letter.size - known.letter.size
            known.letter, known.record = letter, record

    def check(self) -> None:
        """Raise LettersClosed if a letter was named of whose job no other one is open."""
        closed = [found for key, found in self._closed.items() if key not in self.jobs]
        if closed:
            raise LettersClosed(closed)


def _age(letter: DeadLetter) -> tuple[int, int, int]:
    return letter.replay, letter.died_ms, letter.offset


def _told(letter: DeadLetter, deed: Deed | None) -> str:
    if letter.is_open:
        return f"the job of dead letter {letter.id!r} ({letter.position}) has succeeded since"
    who = "" if deed is None else f" by {deed.by} at {format_time(deed.at_ms)}"
    return f"dead letter {letter.id!r} ({letter.position}) is closed: it was {letter.status}{who}"
