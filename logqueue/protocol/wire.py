"""The smallest pieces of the Kafka wire format: varints, tag buffers, what a bad frame is. Knows no message."""

from __future__ import annotations

from typing import TypeAlias

from logqueue.errors import ErrorCode, KafkaError

Buffer: TypeAlias = bytes | bytearray | memoryview

ZERO_UUID = bytes(16)  # Kafka's "no id"
STRING_BYTES_MAX = 0x7FFF  # of any string in a message or a record, however its length is written


class MalformedFrame(KafkaError):
    """Bytes that do not follow the schema they claim: truncated, a bad length, a bad varint, bad UTF-8."""

    code = ErrorCode.INVALID_REQUEST


class UnsupportedVersion(KafkaError):
    """An API key or version that the schema table does not hold."""

    code = ErrorCode.UNSUPPORTED_VERSION


class FileSlice:
    """Record bytes that stay in a file: `size` bytes of descriptor `fd` from `position`; `len()` is the size.

    Stands wherever a message takes records, so that a shell can send them with `sendfile`.
    """

    __slots__ = ("fd", "position", "size")

    def __init__(self, fd: int, position: int, size: int) -> None:
        self.fd = fd
        self.position = position
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"FileSlice(fd={self.fd}, position={self.position}, size={self.size})"


Records: TypeAlias = bytes | bytearray | memoryview | FileSlice
Segment: TypeAlias = Records


def read_uvarint(buf: Buffer, pos: int) -> tuple[int, int]:
    """Unsigned varint at `pos`: (value, position after it). Raises MalformedFrame past five bytes."""
    first = buf[pos]
    if first < 0x80:
        return first, pos + 1
    second = buf[pos + 1]
    if second < 0x80:
        return first & 0x7F | second << 7, pos + 2
    third = buf[pos + 2]
    value = first & 0x7F | (second & 0x7F) << 7 | (third & 0x7F) << 14
    if third < 0x80:  # lengths of record batches are mostly these: unrolled as far as here
        return value, pos + 3
    fourth = buf[pos + 3]
    value |= (fourth & 0x7F) << 21
    if fourth < 0x80:
        return value, pos + 4
    fifth = buf[pos + 4]
    if fifth < 0x80:
        return value | fifth << 28, pos + 5
    raise MalformedFrame(f"varint at byte {pos} is longer than five bytes")


def uvarint(value: int) -> bytes:
    """Bytes of an unsigned varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def skip_tags(buf: Buffer, pos: int) -> int:
    """Position after the tag buffer at `pos`; fields are skipped unread (KIP-482)."""
    count, pos = read_uvarint(buf, pos)
    for _ in range(count):
        _tag, pos = read_uvarint(buf, pos)
        size, pos = read_uvarint(buf, pos)
        pos += size
    return pos
