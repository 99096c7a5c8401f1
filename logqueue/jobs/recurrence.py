"""When something recurs: cron in a time zone, or a fixed interval. Pure: times in, times out; milliseconds since 1970.

Cron is Debian's (cronsim): five fields, or six with seconds first; `L`, `MON#2` and names are understood. What daylight
saving time does to it, as Debian's cron has it:

| the clock       | fixed times (`30 2 * * *`)               | `*` in the hour or the minute      |
|-----------------|------------------------------------------|------------------------------------|
| skips an hour   | what falls into it runs at its end, once | real time: nothing is made up      |
| repeats an hour | run once, the first time                 | real time: they run both times     |

An interval counts from 1970-01-01T00:00Z, so `10m` means :00, :10, ... whenever it was declared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from logqueue.jobs.durations import Duration, format_duration, parse_duration
from logqueue.jobs.errors import InvalidDefinition
from logqueue.jobs.times import to_datetime

MIN_EVERY_S = 1.0
MAX_LOOKS = 100_000
"""Occurrences that are looked at for one question about the past."""
_FIRST_WINDOW_MS = 3_600_000
_SECOND = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """Either `cron` in `timezone` (an IANA name), or `every_ms`. Made by `recurrence`, which checks it."""

    cron: str | None = None
    every_ms: int | None = None
    timezone: str = "UTC"

    @property
    def key(self) -> str:
        """Tells two rhythms apart."""
        return f"every {self.every_ms}" if self.cron is None else f"{self.cron} @ {self.timezone}"

    @property
    def every(self) -> str | None:
        """The interval as people write it."""
        return None if self.every_ms is None else format_duration(self.every_ms / 1000)

    def next_after(self, ms: int) -> int | None:
        """The first occurrence after `ms`; None where there is none within fifty years."""
        return next(self._after(ms), None)

    def latest(self, *, after: int, until: int, limit: int) -> list[int]:
        """The last `limit` occurrences in (after, until], in order."""
        window = _FIRST_WINDOW_MS
        while True:
            start = max(after, until - window)
            found: list[int] = []
            for occurrence in self._after(start):
                if occurrence > until:
                    break
                found.append(occurrence)
                if len(found) > MAX_LOOKS:
                    found = found[-limit:]
            if len(found) >= limit or start == after:
                return found[-limit:]
            window *= 8

    def _after(self, ms: int) -> Iterator[int]:
        if self.every_ms is not None:
            occurrence = (ms // self.every_ms + 1) * self.every_ms
            while True:
                yield occurrence
                occurrence += self.every_ms
        assert self.cron is not None, "either cron or every_ms"
        from cronsim import CronSim

        # Where the clock repeats an hour, a start inside it may bring up what was before it; a gap may bring up
        # the same time twice.
        last = ms
        for moment in CronSim(self.cron, to_datetime(ms).astimezone(_zone(self.timezone))):
            occurrence = round(moment.timestamp()) * _SECOND
            if occurrence > last:
                last = occurrence
                yield occurrence


def recurrence(*, cron: str | None = None, every: Duration | None = None, timezone: str = "UTC") -> Recurrence:
    """A checked recurrence; InvalidDefinition says what is wrong with it."""
    if (cron is None) == (every is None):
        raise InvalidDefinition("A schedule has either cron= or every=")
    _zone(timezone)
    if every is not None:
        seconds = parse_duration(every)
        if seconds < MIN_EVERY_S:
            raise InvalidDefinition(f"every={every!r} is shorter than {MIN_EVERY_S:g} s")
        return Recurrence(every_ms=round(seconds * 1000), timezone=timezone)
    assert cron is not None
    from cronsim import CronSim, CronSimError

    text = " ".join(cron.split()) if isinstance(cron, str) else ""
    try:
        simulation = CronSim(text, datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise InvalidDefinition(
            f"cron={cron!r}: {error}; five fields are expected: minute hour day month weekday"
        ) from None
    if next(simulation, None) is None:
        raise InvalidDefinition(f"cron={cron!r} never happens")
    return Recurrence(cron=text, timezone=timezone)


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):  # ZoneInfoNotFoundError is a KeyError
        raise InvalidDefinition(f"Time zone {name!r} is unknown: give an IANA name such as Europe/Berlin") from None
