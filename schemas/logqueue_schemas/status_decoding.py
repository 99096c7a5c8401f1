"""Avro bytes of `job_status.avsc` -> a job status, field by field. Written out as it is the cost of every job.

It reads what our encoder writes of an ordinary job: short texts, times in eight bytes, no error. Whatever else there
is, broken or only rare, is Unusual, and fastavro decides what it means. The tests hold both equal.
Source of the encoding: Apache Avro specification, "Binary Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logqueue_schemas.job_status import State

    # id .. details in the order of the schema; there is never an error
    Fields = tuple[
        str,
        str | None,
        str,
        str,
        str,
        bool,
        State,
        int,
        int,
        int,
        int,
        int,
        int | None,
        int | None,
        int | None,
        int | None,
        str,
        int,
        int,
        bytes | None,
        None,
        str | None,
        bytes | None,
    ]

REMEMBERED = 4096  # texts and heads that repeat from job to job

_MORE = 128  # set in every byte of a number but its last
_ODD = 1  # zigzag: a negative number
_MAX_SHIFT = 49  # numbers of up to eight bytes
_TIME_BYTES = 8  # microseconds since the epoch, from 1978 to 3111
_split_time: Callable[[bytes], tuple[int, int, int, bytes]] = struct.Struct("<BBB5s").unpack
_LOW_MORE = _MORE + (_MORE << 7) + (_MORE << 14)

# type, queue, tenant, group, shadow, place of the state in the schema's enum, replay, attempt, rank
_Head = tuple[str | None, str, str, str, bool, int, int, int, int]


class Unusual(ValueError):
    """Not the bytes of an ordinary job's status."""


# Nothing is measured beforehand: missing bytes and texts that are no UTF-8 show as these.
NOT_FOR_US = (ValueError, IndexError, struct.error)


def decode_fields(data: bytes, position: int, states: Sequence[State]) -> Fields:
    """The fields of the status that begins at `position`; `states` are the symbols of the schema's enum in their order.

    Raises NOT_FOR_US where fastavro has to read.
    """
    id_end = position + 1 + (data[position] >> 1)
    if data[position] & (_MORE | _ODD):
        raise Unusual("a long or broken text")
    id_ = data[position + 1 : id_end].decode()
    # The ends of texts are only looked up here: what is wrong with them shows when a new head is read.
    at = id_end + (2 + (data[id_end + 1] >> 1) if data[id_end] else 1)
    at += 1 + (data[at] >> 1)
    at += 1 + (data[at] >> 1)
    head_end = at + 6 + (data[at] >> 1)
    type_, queue, tenant, group, shadow, symbol, replay, attempt, rank = read_head(data[id_end:head_end])
    sequence = _read_time(data[head_end : head_end + _TIME_BYTES])
    at = head_end + 2 * _TIME_BYTES
    entered = _read_repeated_time(data[head_end + _TIME_BYTES : at])
    created, at = _read_optional_time(data, at)
    started, at = _read_optional_time(data, at)
    finished, at = _read_optional_time(data, at)
    due, at = _read_optional_time(data, at)
    topic_end = at + 1 + (data[at] >> 1)
    place_end = topic_end + (2 if data[topic_end] & _MORE else 1)
    topic, partition = _read_place(data[at:place_end])
    offset, at = read_number(data, place_end)
    result = None
    if data[at]:
        result, at = _read_bytes(data, at)
    else:
        at += 1
    if data[at]:
        raise Unusual("an error")
    at += 1
    worker = None
    if data[at]:
        if data[at] != 2:
            raise Unusual("branch of a union")
        worker_end = at + 2 + (data[at + 1] >> 1)
        worker = _read_repeated_text(data[at + 1 : worker_end])
        at = worker_end
    else:
        at += 1
    details = None
    if data[at]:
        details, at = _read_bytes(data, at)
        if at > len(data):
            raise Unusual("cut off")
    return (
        id_,
        type_,
        queue,
        tenant,
        group,
        shadow,
        states[symbol],
        replay,
        attempt,
        rank,
        sequence,
        entered,
        created,
        started,
        finished,
        due,
        topic,
        partition,
        offset,
        result,
        None,
        worker,
        details,
    )


@lru_cache(maxsize=REMEMBERED)
def read_head(data: bytes) -> _Head:
    """The fields after the id that are equal for many jobs of a tenant; each number of them has one byte."""
    type_, at = None, 1
    if data[0]:
        if data[0] != 2:
            raise Unusual("branch of a union")
        at = 2 + (data[1] >> 1)
        type_ = _read_text(data[1:at])
    texts = []
    for _ in range(3):
        start, at = at, at + 1 + (data[at] >> 1)
        texts.append(_read_text(data[start:at]))
    shadow, *numbers = data[at:]
    if len(numbers) != 4 or shadow > 1 or any(number & (_MORE | _ODD) for number in numbers):
        raise Unusual("a long or negative number")
    symbol, replay, attempt, rank = (number >> 1 for number in numbers)
    queue, tenant, group = texts
    return type_, queue, tenant, group, shadow == 1, symbol, replay, attempt, rank


def _read_text(data: bytes) -> str:
    """The text that fills `data`, behind its length."""
    if data[0] & (_MORE | _ODD) or len(data) != 1 + (data[0] >> 1):
        raise Unusual("a long or broken text")
    return data[1:].decode()


_read_repeated_text = lru_cache(maxsize=REMEMBERED)(_read_text)


@lru_cache(maxsize=REMEMBERED)
def _read_place(data: bytes) -> tuple[str, int]:
    """The topic and partition of a job's record; the number has one byte or two."""
    topic_end = 1 + (data[0] >> 1)
    partition, end = read_number(data, topic_end)
    if end != len(data):
        raise Unusual("a long number")
    return _read_text(data[:topic_end]), partition


def _read_time(data: bytes) -> int:
    low, middle, high, rest = _split_time(data)
    if not low & middle & high & _MORE or low & _ODD:
        raise Unusual("a number of another length")
    return (low + (middle << 7) + (high << 14) - _LOW_MORE + _read_second(rest)) >> 1


# Times of states are whole milliseconds, so jobs share them under load.
_read_repeated_time = lru_cache(maxsize=REMEMBERED)(_read_time)


@lru_cache(maxsize=REMEMBERED)
def _read_second(data: bytes) -> int:
    """The high bytes of a time, which stay the same for a second."""
    number, end = _read_zigzag(data, 0)
    if end != len(data):
        raise Unusual("a number of another length")
    return number << 21


def _read_optional_time(data: bytes, at: int) -> tuple[int | None, int]:
    """A time or none, and the position behind it."""
    if data[at] == 0:
        return None, at + 1
    if data[at] != 2:
        raise Unusual("branch of a union")
    end = at + 1 + _TIME_BYTES
    return _read_repeated_time(data[at + 1 : end]), end


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """The bytes of a union with null, and the position behind them."""
    if data[at] != 2:
        raise Unusual("branch of a union")
    size, at = read_number(data, at + 1)
    return data[at : at + size], at + size


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """A number that is not negative, and the position behind it."""
    number, at = _read_zigzag(data, at)
    if number & _ODD:
        raise Unusual("a negative number")
    return number >> 1, at


def _read_zigzag(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    number, shift = byte & 127, 7
    while byte & _MORE:
        if shift > _MAX_SHIFT:
            raise Unusual("a number of another length")
        at += 1
        byte = data[at]
        number |= (byte & 127) << shift
        shift += 7
    return number, at + 1
