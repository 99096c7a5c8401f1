"""A job status -> Avro bytes of `job_status.avsc`, field by field. Written out because it is the cost of every job.

Measured beside fastavro on one machine: 3.6 us against 9.0 us per status. The tests hold it equal to fastavro, byte for
byte. Source of the encoding: Apache Avro specification, "Binary Encoding".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logqueue_schemas.job_status import JobStatus, StatusError

REMEMBERED = 4096  # texts and heads that repeat from job to job

_SMALL = [bytes((number,)) for number in range(128)]
_NONE = b"\x00"  # branch 0 of a union: null
_SOME = b"\x02"  # branch 1
_FALSE, _TRUE = b"\x00", b"\x01"


def encode_status(status: JobStatus, symbols: dict[str, int]) -> bytes:
    """The Avro body of a status; `symbols` are the places of the states in the schema's enum."""
    key = status.id.encode()
    result, error, details = status.result, status.error, status.details
    return b"".join(
        (
            _long(len(key)),
            key,
            _head(
                status.type,
                status.queue,
                status.tenant,
                status.group,
                status.shadow,
                symbols[status.state],
                status.replay,
                status.attempt,
                status.rank,
            ),
            _long(status.sequence),
            _long(status.at),
            _optional_long(status.created_at),
            _optional_long(status.started_at),
            _optional_long(status.finished_at),
            _optional_long(status.due_at),
            _repeated_string(status.topic),
            _long(status.partition),
            _long(status.offset),
            _NONE if result is None else _SOME + _long(len(result)) + result,
            _NONE if error is None else _SOME + _error(error),
            _NONE if status.worker is None else _SOME + _repeated_string(status.worker),
            _NONE if details is None else _SOME + _long(len(details)) + details,
        )
    )


@lru_cache(maxsize=REMEMBERED)
def _head(
    type_: str | None,
    queue: str,
    tenant: str,
    group: str,
    shadow: bool,
    symbol: int,
    replay: int,
    attempt: int,
    rank: int,
) -> bytes:
    """The fields after the id that are equal for many jobs of a tenant."""
    return b"".join(
        (
            _NONE if type_ is None else _SOME + _string(type_),
            _string(queue),
            _string(tenant),
            _string(group),
            _TRUE if shadow else _FALSE,
            _long(symbol),
            _long(replay),
            _long(attempt),
            _long(rank),
        )
    )


def _error(error: StatusError) -> bytes:
    return _string(error.type) + _string(error.message) + _string(error.error_class)


def _string(text: str) -> bytes:
    encoded = text.encode("utf-8", "replace")  # texts of errors may hold what no UTF-8 can
    return _long(len(encoded)) + encoded


_repeated_string = lru_cache(maxsize=REMEMBERED)(_string)


def _optional_long(number: int | None) -> bytes:
    return _NONE if number is None else _SOME + _long(number)


def _long(number: int) -> bytes:
    """Zigzag, then seven bits a byte, the lowest first."""
    z = (number << 1) ^ (number >> 63)
    if z < 128:
        return _SMALL[z]
    if 1 << 49 <= z < 1 << 56:  # microseconds since the epoch, from 1978 to 3111
        return bytes(
            (
                z & 127 | 128,
                z >> 7 & 127 | 128,
                z >> 14 & 127 | 128,
                z >> 21 & 127 | 128,
                z >> 28 & 127 | 128,
                z >> 35 & 127 | 128,
                z >> 42 & 127 | 128,
                z >> 49,
            )
        )
    out = bytearray()
    while z > 127:
        out.append(z & 127 | 128)
        z >>= 7
    out.append(z)
    return bytes(out)
