"""One record inside a batch: its value type and its varint layout. Knows no batches, no compression.

    length varint | attributes i8 | timestamp delta varlong | offset delta varint
    | key length varint (-1: null) | key | value length varint (-1: null) | value
    | header count varint | { key length varint, key (UTF-8), value length varint (-1: null), value }*

All varints are zigzag (Protocol Buffers). Source: Kafka documentation, "Record".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from logqueue.records.batch import NO_TIMESTAMP, Buffer
from logqueue.records.errors import CorruptMessage

MAX_VARINT_BYTES = 10

Header = tuple[str, bytes | None]


class Record(NamedTuple):
    """A record: `offset` absolute, `timestamp_ms` since the epoch (-1: none), headers as (name, value or None)."""

    offset: int = 0
    timestamp_ms: int = NO_TIMESTAMP
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[Header, ...] = ()


def write_varint(out: bytearray, value: int) -> None:
    """Append a signed number as zigzag varint."""
    value = value << 1 if value >= 0 else (-value << 1) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def read_varint(buffer: Buffer, position: int) -> tuple[int, int]:
    """Read a zigzag varint: (value, position after it). Raises CorruptMessage on more than ten bytes; IndexError at
    the buffer's end, which callers turn into CorruptMessage once per batch."""
    byte = buffer[position]
    position += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), position
    value = byte & 0x7F
    shift = 7
    while True:
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift >= 7 * MAX_VARINT_BYTES:
            raise CorruptMessage(f"Varint at {position} is longer than {MAX_VARINT_BYTES} bytes")


def _write_bytes(out: bytearray, value: bytes | None) -> None:
    if value is None:
        out.append(1)  # zigzag of -1
    else:
        write_varint(out, len(value))
        out += value


def write_record(out: bytearray, record: Record, *, timestamp_delta: int, offset_delta: int) -> None:
    """Append a record in the layout above; offset and time are relative to the batch."""
    body = bytearray(1)  # attributes: none are defined
    write_varint(body, timestamp_delta)
    write_varint(body, offset_delta)
    _write_bytes(body, record.key)
    _write_bytes(body, record.value)
    write_varint(body, len(record.headers))
    for name, value in record.headers:
        _write_bytes(body, name.encode())
        _write_bytes(body, value)
    write_varint(out, len(body))
    out += body


def _read_bytes(buffer: Buffer, position: int, end: int) -> tuple[bytes | None, int]:
    length, position = read_varint(buffer, position)
    if length < 0:
        return None, position
    stop = position + length
    if stop > end:
        raise CorruptMessage(f"Field at {position} needs {length} bytes, its record has {end - position}")
    return bytes(buffer[position:stop]), stop


def _read_headers(buffer: Buffer, position: int, end: int) -> tuple[tuple[Header, ...], int]:
    count, position = read_varint(buffer, position)
    if not 0 <= count <= end - position:
        raise CorruptMessage(f"Record has an impossible header count of {count}")
    headers = []
    for _ in range(count):
        name, position = _read_bytes(buffer, position, end)
        if name is None:
            raise CorruptMessage("Record has a header without a name")
        value, position = _read_bytes(buffer, position, end)
        headers.append((name.decode(errors="replace"), value))
    return tuple(headers), position


def iterate_records(
    buffer: Buffer, *, count: int, base_offset: int, base_timestamp: int, append_time: int | None
) -> Iterator[Record]:
    """Decode `count` records from uncompressed bytes; with `append_time` every record carries that time.

    Raises CorruptMessage if a record does not fill its length, or bytes are left over or missing.
    """
    position = 0
    total = len(buffer)
    try:
        for _ in range(count):
            length, position = read_varint(buffer, position)
            end = position + length
            if length < 0 or end > total:
                raise CorruptMessage(f"Record at {position} needs {length} bytes, {total - position} are there")
            timestamp_delta, position = read_varint(buffer, position + 1)
            offset_delta, position = read_varint(buffer, position)
            key, position = _read_bytes(buffer, position, end)
            value, position = _read_bytes(buffer, position, end)
            if buffer[position] == 0:
                headers: tuple[Header, ...] = ()
                position += 1
            else:
                headers, position = _read_headers(buffer, position, end)
            if position != end:
                raise CorruptMessage(f"Record ends at {position}, its length says {end}")
            timestamp = append_time if append_time is not None else base_timestamp + timestamp_delta
            yield Record(base_offset + offset_delta, timestamp, key, value, headers)
    except IndexError:
        raise CorruptMessage(f"Records end after {total} bytes, in the middle of a record") from None
    if position != total:
        raise CorruptMessage(f"{total - position} bytes are left over after the last of {count} records")


def keyless_indexes(buffer: Buffer, count: int) -> Sequence[int]:
    """Indexes of the records without a key; decodes nothing else. Raises CorruptMessage."""
    found = []
    position = 0
    try:
        for index in range(count):
            length, position = read_varint(buffer, position)
            end = position + length
            if length < 0 or end > len(buffer):
                raise CorruptMessage(f"Record at {position} needs {length} bytes, {len(buffer) - position} are there")
            position += 1
            while buffer[position] > 0x7F:  # timestamp delta
                position += 1
            position += 1
            while buffer[position] > 0x7F:  # offset delta
                position += 1
            position += 1
            if buffer[position] & 1 and read_varint(buffer, position)[0] < 0:
                found.append(index)
            position = end
    except IndexError:
        raise CorruptMessage(f"Records end after {len(buffer)} bytes, in the middle of a record") from None
    if position != len(buffer):
        raise CorruptMessage(f"{len(buffer) - position} bytes are left over after the last of {count} records")
    return found
