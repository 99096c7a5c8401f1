"""Progress and log lines of a job as they stand in the details of its statuses. Pure: old details in, new ones out.

{"progress": {"done": 3, "total": 10, "message": "page 3", "at": 1767225600000},
 "log": [{"at": 1767225600000, "attempt": 1, "line": "began"}], "log_dropped": 12}
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

import msgspec

from logqueue.jobs.headers import DETAILS
from logqueue.jobs.texts import utf8_text

MAX_LOG_LINES = 100
MAX_LOG_BYTES = 8 * 1024
"""UTF-8 of the lines that are kept; statuses are compacted, and each carries all of them."""
MAX_LINE_CHARS = 1_000
MAX_MESSAGE_CHARS = 200
MAX_DETAILS_BYTES = 32 * 1024
"""Larger details do not travel with a retry record."""

Details = dict[str, Any]

encode_details = msgspec.json.Encoder().encode


def with_progress(
    details: Mapping[str, Any] | None, *, done: float, total: float | None, message: str | None, at_ms: int
) -> Details:
    """The details with this progress; raises as `progress_of` does."""
    progress = progress_of(done=done, total=total, message=message)
    return {**(details or {}), "progress": {**progress, "at": at_ms}}


def progress_of(*, done: float, total: float | None, message: str | None) -> Details:
    """Progress as JSON values: numbers of any type, texts of which what has no UTF-8 form is a `?`.

    ValueError (or OverflowError) for what is not finite, TypeError for what is no number.
    """
    progress: Details = {"done": _finite(done), "total": None if total is None else _finite(total)}
    if message is not None:
        progress["message"] = utf8_text(str(message)[:MAX_MESSAGE_CHARS])
    return progress


def line_of(line: object) -> str:
    """A log line as it is kept: cut, and with a `?` for what has no UTF-8 form."""
    return utf8_text(str(line)[:MAX_LINE_CHARS])


def with_line(details: Mapping[str, Any] | None, line: str, *, attempt: int, at_ms: int) -> Details:
    """The details with one more log line; the oldest ones make room for it."""
    known = details or {}
    lines = [*known.get("log", ()), {"at": at_ms, "attempt": attempt, "line": line_of(line)}]
    size = sum(_size(entry) for entry in lines)
    dropped = 0
    while len(lines) - dropped > MAX_LOG_LINES or size > MAX_LOG_BYTES:
        size -= _size(lines[dropped])
        dropped += 1
    changed: Details = {**known, "log": lines[dropped:]}
    if dropped:
        changed["log_dropped"] = known.get("log_dropped", 0) + dropped
    return changed


def with_header(headers: Iterable[tuple[str, bytes]], details: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Headers of a retry, parked or dead-letter record with which the details go on, unless they are too large."""
    kept = [pair for pair in headers if pair[0] != DETAILS]
    encoded = encode_details(details)
    return [*kept, (DETAILS, encoded)] if len(encoded) <= MAX_DETAILS_BYTES else kept


def read_details(headers: Iterable[tuple[str, bytes]]) -> Details | None:
    """The details that a record carries; None where it has none, or something else under that name."""
    for name, value in headers:
        if name == DETAILS and value is not None:
            try:
                found = msgspec.json.decode(value)
            except (ValueError, RecursionError):
                return None
            return found if isinstance(found, dict) else None
    return None


def _finite(number: Any) -> float:
    """The number as one that JSON has: a Fraction, say, or one of numpy's is none."""
    try:
        is_finite = math.isfinite(number)
    except TypeError:
        takes = "progress takes done and total, both numbers, and a message"
        raise TypeError(f"{takes}: {number!r} is no number") from None
    if not is_finite:
        raise ValueError(f"progress takes finite numbers, not {number!r}")
    return int(number) if isinstance(number, Integral) else float(number)


def _size(entry: Mapping[str, Any]) -> int:
    line = entry.get("line", "")
    return len(str(line).encode("utf-8", "replace"))
