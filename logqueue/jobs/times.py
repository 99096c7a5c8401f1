"""Instants as RFC 3339 text in UTC with milliseconds <-> milliseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z, the end of RFC 3339

_MILLISECOND = timedelta(milliseconds=1)


def format_time(ms: int) -> str:
    """`2026-01-31T12:00:00.000Z` for milliseconds since the epoch."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=256)  # jobs sent in one second share all but the milliseconds
def _second(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).isoformat()[:-6]


def parse_time(text: str) -> int:
    """Milliseconds since the epoch of RFC 3339 text; ValueError for anything else, also where the zone is missing.

    Sub-millisecond digits round up, so that nothing is due early.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return to_ms(moment)


def to_ms(moment: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime, rounded up; ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a datetime needs a time zone: datetime.now(UTC)")
    return -((EPOCH - moment) // _MILLISECOND)


def to_datetime(ms: int) -> datetime:
    """The aware UTC datetime of milliseconds since the epoch."""
    return EPOCH + ms * _MILLISECOND
