"""Durations as people write them: "1s", "1h30m", 2.5, timedelta -> seconds. Knows nothing of jobs."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from logqueue.errors import LogqueueError

Duration = str | int | float | timedelta

UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
MAX_SECONDS = 100 * 365 * 86_400.0  # a century: anything longer is a mistake of units

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)


class InvalidDuration(LogqueueError, ValueError):
    """Not a duration; the text shows what was given and what is understood."""

    def __init__(self, given: object, why: str = "expected seconds, a timedelta, or text such as '250ms', '1h30m'"):
        super().__init__(f"Invalid duration {given!r}: {why}")


def parse_duration(value: Duration) -> float:
    """Seconds of a duration (numbers are seconds); InvalidDuration for text that is none, negatives and NaN."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _parse_text(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = _as_float(value)
    else:
        raise InvalidDuration(value)
    if math.isnan(seconds) or seconds < 0:
        raise InvalidDuration(value, "it must not be negative")
    if seconds > MAX_SECONDS:
        raise InvalidDuration(value, "longer than a century")
    return seconds


def format_duration(seconds: float) -> str:
    """Text that `parse_duration` reads back to the same milliseconds, in the largest units that fit: "1h30m"."""
    rest = round(seconds * 1000)
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InvalidDuration("a number of many digits", "longer than a century") from None


def _parse_text(text: str) -> float:
    compact = text.strip().replace(" ", "").lower()
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise InvalidDuration(text)
    return math.fsum(float(number) * UNIT_SECONDS[unit] for number, unit in parts)
