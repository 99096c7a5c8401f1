"""All cron schedules as their records tell: which holds under a name, if it is paused, what its state is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from logqueue.jobs.schedules import (
    DECLARED,
    PAUSE,
    SCHEDULE,
    STATE,
    Mark,
    Override,
    Schedule,
    State,
    decode_declared,
    decode_mark,
    decode_override,
    decode_state,
)

V = TypeVar("V")


class ScheduleBook:
    """A fold of the records of partition 0 of `jobs.schedules`, in any order of keys."""

    def __init__(self) -> None:
        self.declared: dict[str, dict[str, Schedule]] = {}
        """By app, then by name."""
        self.overrides: dict[str, Override] = {}
        self.pauses: dict[str, Mark] = {}
        self.states: dict[str, State] = {}

    @classmethod
    def of(cls, records: Mapping[str, bytes]) -> ScheduleBook:
        """The book of these records; what is none of its own, or cannot be read, is left out."""
        book = cls()
        for key, value in records.items():
            kind, _, subject = key.partition("/")
            try:
                book.apply(kind + "/", subject, value)
            except (ValueError, RecursionError):
                continue
        return book

    def apply(self, kind: str, subject: str, value: bytes | None) -> set[str]:
        """Take a record in; returns the schedules that it is about. Raises ValueError or RecursionError."""
        if kind == DECLARED:
            before = self.declared.pop(subject, {})
            if value is not None:
                self.declared[subject] = decode_declared(value)
            return {*before, *self.declared.get(subject, {})}
        if kind == SCHEDULE:
            _keep(self.overrides, subject, value, decode_override)
        elif kind == PAUSE:
            _keep(self.pauses, subject, value, decode_mark)
        elif kind == STATE:
            _keep(self.states, subject, value, decode_state)
        return {subject}

    def schedule(self, name: str) -> Schedule | None:
        """The schedule that holds under a name: what an operator has set stands above what code declares."""
        override = self.overrides.get(name)
        return override.schedule if override is not None else self.declared_as(name)

    def declared_as(self, name: str) -> Schedule | None:
        """What code declares under a name; of several apps the first by name."""
        for app in sorted(self.declared):
            if name in self.declared[app]:
                return self.declared[app][name]
        return None

    def removed(self) -> list[Schedule]:
        """Schedules that code declares and an operator has removed, by name: taking his word back restores them."""
        gone = (self.declared_as(name) for name, override in self.overrides.items() if override.schedule is None)
        return sorted((schedule for schedule in gone if schedule is not None), key=lambda schedule: schedule.name)

    def names(self) -> set[str]:
        """Every name that a record speaks of."""
        declared = {name for schedules in self.declared.values() for name in schedules}
        return declared.union(self.overrides, self.pauses, self.states)

    def __iter__(self) -> Iterator[Schedule]:
        """The schedules that hold, by name."""
        for name in sorted(self.names()):
            schedule = self.schedule(name)
            if schedule is not None:
                yield schedule


def _keep(known: dict[str, V], subject: str, value: bytes | None, decode: Callable[[bytes], V]) -> None:
    known.pop(subject, None)
    if value is not None:
        known[subject] = decode(value)
