"""Confluent's wire format: one magic byte 0, a 4-byte schema id (big endian), then the Avro body.

Source: Confluent Schema Registry, "Wire format". Knows no Avro.
"""

from __future__ import annotations

import struct

MAGIC = b"\x00"
HEADER_BYTES = 5

_HEADER = struct.Struct(">bI")


class InvalidFrame(ValueError):
    """Bytes that are not in the Confluent wire format."""


def frame_header(schema_id: int) -> bytes:
    """The five bytes before every body of that schema."""
    return _HEADER.pack(0, schema_id)


def read_frame(value: bytes | memoryview) -> tuple[int, memoryview]:
    """Schema id and body of a framed value; InvalidFrame if it is too short or has another magic byte."""
    if len(value) < HEADER_BYTES:
        raise InvalidFrame(f"{len(value)} bytes are too short for the Confluent wire format (5 bytes and a body)")
    magic, schema_id = _HEADER.unpack_from(value)
    if magic != 0:
        raise InvalidFrame(f"magic byte {magic & 0xFF:#04x} is not 0: not the Confluent wire format")
    return schema_id, memoryview(value)[HEADER_BYTES:]
