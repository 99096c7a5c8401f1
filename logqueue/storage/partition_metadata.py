"""`partition.metadata`: which topic id a partition's folder belongs to. Two lines of text, as Kafka writes them.

version: 0
topic_id: c29tZXRoaW5nIHJhbmRvbQ
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from uuid import UUID

VERSION = 0


def format_id(value: UUID) -> str:
    """An id as Kafka prints it: 22 characters of URL-safe base64."""
    return urlsafe_b64encode(value.bytes).decode().rstrip("=")


def parse_id(text: str) -> UUID | None:
    """The id of a text, or None if it is none."""
    try:
        return UUID(bytes=urlsafe_b64decode(text + "=="))
    except (Error, ValueError):
        return None


def format_metadata(topic_id: UUID) -> bytes:
    """The file's content."""
    return f"version: {VERSION}\ntopic_id: {format_id(topic_id)}".encode()


def parse_metadata(data: bytes) -> UUID | None:
    """The topic id in a file's content; None if the file is not whole, which the length of the id tells."""
    fields = dict(line.split(": ", 1) for line in data.decode(errors="replace").splitlines() if ": " in line)
    return parse_id(fields.get("topic_id", ""))
