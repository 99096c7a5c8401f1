"""The offset map: which offsets above a committed one are finished, as text for commit metadata. No IO.

A commit says "everything below this offset is done". Jobs finish out of order, so the finished offsets above it travel
beside it in the commit's metadata, which Kafka limits to 4096 bytes (`offset.metadata.max.bytes`). Layout of the text:

    | part      | bytes      | meaning                                                          |
    |-----------|------------|------------------------------------------------------------------|
    | version   | 2          | `q1`                                                             |
    | kind      | 1          | `b` bitmap, `r` run lengths; the encoder takes the smaller        |
    | payload   | base64     | varint(base), body, CRC-32 of kind, base and body (4 bytes, big)  |

    bitmap body       bit i (most significant first) is set when offset base + i is finished
    run length body   varints: unfinished run, finished run, unfinished run, ... starting at base

A map is believed only for the offset it was written with: tools that reset a group's offset may leave old metadata.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from logqueue.protocol.wire import uvarint

METADATA_LIMIT_BYTES = 4096
"""Kafka's default `offset.metadata.max.bytes`."""
MAP_LIMIT_BYTES = METADATA_LIMIT_BYTES - 512
"""What the map may take of it: the rest belongs to the bookmark."""

VERSION = "q1"
_BITMAP = "b"
_RUNS = "r"
_CRC_BYTES = 4
_RUN_OF_ONES = re.compile("1+")


class Run(NamedTuple):
    """Finished offsets `start <= offset < end`."""

    start: int
    end: int


def merge(runs: Iterable[Run]) -> list[Run]:
    """The same offsets as ascending runs that lie apart."""
    merged: list[Run] = []
    for run in sorted(runs):
        if merged and run.start <= merged[-1].end:
            merged[-1] = Run(merged[-1].start, max(merged[-1].end, run.end))
        else:
            merged.append(run)
    return merged


def encode(base: int, finished: Sequence[Run], *, limit: int = MAP_LIMIT_BYTES) -> str:
    """Write the runs of finished offsets above `base` (ascending, apart, the first above `base`) as ASCII text.

    Empty when nothing is finished. When even the smaller form exceeds `limit` bytes the highest runs are left out:
    their jobs may run again after a crash, which is safe; the caller's intake rule keeps this from happening.
    """
    if not finished:
        return ""
    text = _encode_whole(base, finished)
    if len(text) <= limit:
        return text
    low, high = 0, len(finished) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if len(_encode_whole(base, finished[:middle])) <= limit:
            low = middle
        else:
            high = middle - 1
    return _encode_whole(base, finished[:low]) if low else ""


def decode(text: str, *, base: int) -> tuple[Run, ...]:
    """Read the runs back; empty when the text is not ours, damaged, or written for another base than `base`."""
    if not text.startswith(VERSION) or len(text) < len(VERSION) + 1:
        return ()
    kind = text[len(VERSION)]
    try:
        payload = base64.b64decode(text[len(VERSION) + 1 :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return ()
    content, checksum = payload[:-_CRC_BYTES], payload[-_CRC_BYTES:]
    if len(checksum) < _CRC_BYTES or _checksum(kind, content) != checksum:
        return ()
    numbers = read_varints(content)
    if kind == _RUNS:
        values = list(numbers)
        if not values or values[0] != base or len(values) % 2 == 0:
            return ()
        return _runs_of_lengths(base, values[1:])
    if kind == _BITMAP:
        written_base = next(numbers, None)
        return _runs_of_bits(base, content[len(uvarint(base)) :]) if written_base == base else ()
    return ()


def _encode_whole(base: int, finished: Sequence[Run]) -> str:
    lengths = bytearray()
    position = base
    for start, end in finished:
        assert position < start < end, "runs are ascending, apart and above base"
        lengths += uvarint(start - position)
        lengths += uvarint(end - start)
        position = end
    bitmap_bytes = (position - base + 7) // 8
    if bitmap_bytes < len(lengths):
        kind, body = _BITMAP, _bits(base, finished)
    else:
        kind, body = _RUNS, bytes(lengths)
    content = uvarint(base) + body
    return VERSION + kind + base64.b64encode(content + _checksum(kind, content)).decode("ascii")


def _bits(base: int, finished: Sequence[Run]) -> bytes:
    span = finished[-1].end - base
    digits = bytearray(b"0" * ((span + 7) // 8 * 8))
    for start, end in finished:
        digits[start - base : end - base] = b"1" * (end - start)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def _runs_of_bits(base: int, body: bytes) -> tuple[Run, ...]:
    digits = format(int.from_bytes(body, "big"), f"0{len(body) * 8}b") if body else ""
    return tuple(Run(base + match.start(), base + match.end()) for match in _RUN_OF_ONES.finditer(digits))


def _runs_of_lengths(base: int, lengths: Sequence[int]) -> tuple[Run, ...]:
    runs = []
    position = base
    for unfinished, done in zip(lengths[::2], lengths[1::2], strict=True):
        position += unfinished
        runs.append(Run(position, position + done))
        position += done
    return tuple(runs)


def _checksum(kind: str, content: bytes) -> bytes:
    return zlib.crc32(content, zlib.crc32(kind.encode("ascii", "replace"))).to_bytes(_CRC_BYTES, "big")


def read_varints(content: bytes) -> Iterator[int]:
    """The numbers of bytes that are nothing but varints; an unfinished last one is left out."""
    value = shift = 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
