"""A job status in two parts: the head, equal for many jobs, and the tail, which only the reader of one job asks for.

A status is cut without being read: one regular expression knows what an ordinary one looks like, so whoever keeps
statuses (the view) pays for the fields that it compares, and stores the rest as it came. Avro writes a record as its
fields one after the other, so a tail is a record by itself, of the schema's last fields.
Source of the encoding: Apache Avro specification, "Binary Encoding".
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import fastavro

from logqueue_schemas.avro import without_logical_types
from logqueue_schemas.job_status import SCHEMA, StatusError
from logqueue_schemas.status_decoding import Unusual, read_number
from logqueue_schemas.status_encoding import encode_birth, encode_end, encode_fields, encode_span, encode_time

# A number has seven bits in a byte, and the highest bit in all bytes but its last.
_NUMBER = rb"[\x80-\xff]{0,8}[\x00-\x7f]"
_SMALL = b"[" + b"".join(b"\\x%02x" % byte for byte in range(0, 128, 2)) + b"]"  # 0 to 63


def _text(character: bytes) -> bytes:
    """Up to 63 bytes behind their length. A pattern cannot count, so there is one for each length."""
    return b"(?:" + b"|".join(b"\\x%02x%s{%d}" % (size << 1, character, size) for size in range(64)) + b")"


def _optional(pattern: bytes) -> bytes:
    return rb"(?:\x00|\x02%s)" % pattern


_TEXT, _ASCII = _text(b"."), _text(rb"[\x00-\x7f]")
_HEAD = _optional(_TEXT) + _TEXT + _TEXT + _TEXT + rb"[\x00\x01]" + _SMALL * 4
_TIMES = _NUMBER + _NUMBER + _optional(_NUMBER) * 4
_PLACE = _ASCII + _NUMBER + _NUMBER
_ENDING = _optional(_TEXT) + rb"\x00" + _optional(_ASCII) + rb"\x00\Z"  # short result, no error, worker, no details
_ORDINARY = b"(" + _TEXT + b")(" + _HEAD + b")(" + _TIMES + _PLACE + b"(?:" + _ENDING + b")?)"

_TAIL_FIELDS = SCHEMA["fields"][10:]  # behind id, type .. rank
_TAIL = fastavro.parse_schema(
    without_logical_types({"type": "record", "name": "JobStatusTail", "fields": _TAIL_FIELDS}), {}
)


Cut = tuple[str, bytes, bytes]
"""A status that is cut: its id, the bytes of its head and of its tail."""


class Tail(NamedTuple):
    """What a tail says of an outcome; times in microseconds since the epoch, `result` and `details` JSON texts."""

    sequence: int
    at: int
    started_at: int | None
    finished_at: int | None
    due_at: int | None
    result: bytes | None
    error: StatusError | None
    worker: str | None
    details: bytes | None


def cutter(frame: bytes) -> Callable[[bytes], Cut]:
    """What cuts the values that begin with `frame`; it raises NOT_FOR_US where a status has to be read to be known."""
    match = re.compile(re.escape(frame) + _ORDINARY, re.DOTALL).match

    def cut(value: bytes) -> Cut:
        found = match(value)
        if found is None:
            raise Unusual("not an ordinary status")
        id_, head, tail = found.groups()
        if (end := found.end()) != len(value):
            _check_ending(value, end)
            tail = value[found.start(3) :]
        return id_[1:].decode(), head, tail

    return cut


def encode_tail(tail: Tail) -> bytes:
    """The bytes of a tail that came in no status. It has no birth of the job, which `read_tail` passes over."""
    sequence, at, started_at, finished_at, due_at, result, error, worker, details = tail
    end = encode_end(error, worker, details)
    whole = encode_fields(
        b"",
        b"",
        b"",
        b"",
        b"",
        sequence,
        encode_time(at),
        encode_birth(None),
        encode_span(started_at, finished_at, due_at),
        b"\x00\x00",
        0,
        result,
        end,
    )
    return whole[2:]  # behind the lengths of id and tenant


def read_tail(data: bytes) -> Tail:
    """The outcome in the tail of a status that was cut, or in an encoded one."""
    found: Any = fastavro.schemaless_reader(io.BytesIO(data), _TAIL, None)
    error = found["error"]
    return Tail(
        found["sequence"],
        found["at"],
        found["started_at"],
        found["finished_at"],
        found["due_at"],
        found["result"],
        None if error is None else StatusError(error["type"], error["message"], error["class"]),
        found["worker"],
        found["details"],
    )


def _check_ending(value: bytes, at: int) -> None:
    """There are a result, an error, a worker and details up to the last byte, whatever their lengths."""
    at = _skip(value, at, _skip_bytes)
    at = _skip(value, at, _skip_error)
    at = _skip(value, at, _skip_text)
    if _skip(value, at, _skip_bytes) != len(value):
        raise Unusual("cut off, or too long")


def _skip(value: bytes, at: int, skip_some: Callable[[bytes, int], int]) -> int:
    """The position behind a union with null."""
    if value[at] not in (0, 2):
        raise Unusual("branch of a union")
    return skip_some(value, at + 1) if value[at] else at + 1


def _skip_bytes(value: bytes, at: int) -> int:
    size, at = read_number(value, at)
    return at + size


def _skip_text(value: bytes, at: int) -> int:
    size, at = read_number(value, at)
    value[at : at + size].decode()
    return at + size


def _skip_error(value: bytes, at: int) -> int:
    for _ in StatusError.__struct_fields__:
        at = _skip_text(value, at)
    return at
