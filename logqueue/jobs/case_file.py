"""Jobs in a file: what `logqueue export` writes and tests load. One JSON object a line; bytes <-> values, no IO.

Everything that a handler needs to run the job again is in its line: arguments as JSON (decoded from Avro where the
record was Avro), headers, ids, times; and what the live run came to. The record's own bytes are kept beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from logqueue.errors import LogqueueError

FORMAT = "logqueue-case/1"


class InvalidCase(LogqueueError):
    """A file that holds no exported jobs, or a line of it that cannot be read."""


class CaseEnding(msgspec.Struct, frozen=True, kw_only=True):
    """How the live run ended."""

    state: str
    result: Any = None
    error: dict[str, Any] | None = None
    details: dict[str, Any] = {}
    attempt: int = 1
    group: str | None = None


class CaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One job. `value` and `headers` are the record's own bytes (base64 in the file), `args` its decoded arguments."""

    format: str = FORMAT
    id: str
    type: str | None
    queue: str
    tenant: str
    created_ms: int
    replay: int = 0
    topic: str
    partition: int
    offset: int
    args: dict[str, Any] | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    recorded: CaseEnding | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CaseRecord).decode


def write_line(case: CaseRecord) -> bytes:
    """The line of one job."""
    return _encode(case) + b"\n"


def read_lines(lines: Iterable[bytes], *, name: str) -> Iterator[CaseRecord]:
    """The jobs of a file; InvalidCase names the line that is none."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            case = _decode(line)
        except (ValueError, RecursionError) as error:
            raise InvalidCase(f"{name}, line {number}: no exported job: {error}") from None
        if case.format != FORMAT:
            raise InvalidCase(f"{name}, line {number}: format {case.format!r}, not {FORMAT!r}")
        yield case
