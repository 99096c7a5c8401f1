"""Messages to bytes and back, one (message, version) at a time; compiles each codec when it is first used.

Knows no headers and no API keys: see `frames` for whole requests and responses.
"""

from __future__ import annotations

from struct import Struct as Packing
from typing import Any, TypeVar

from logqueue.protocol.schema import Message
from logqueue.protocol.wire import Buffer, MalformedFrame, Segment, UnsupportedVersion

M = TypeVar("M", bound=Message)

_PREFIX = Packing(">h")
_readers: dict[tuple[type[Message], int], Any] = {}
_writers: dict[tuple[type[Message], int], Any] = {}


def reader(message: type[Message], version: int) -> Any:
    """The function `read(memoryview, pos) -> (message, end)` of one version; see `reading.compile_reader`."""
    found = _readers.get((message, version))
    if found is None:
        from logqueue.protocol.reading import compile_reader

        _check(message, version)
        found = _readers[message, version] = compile_reader(message, version)
    return found


def writer(message: type[Message], version: int) -> Any:
    """The function `write(message) -> segments` of one version; see `writing.compile_writer`."""
    found = _writers.get((message, version))
    if found is None:
        from logqueue.protocol.writing import compile_writer

        _check(message, version)
        found = _writers[message, version] = compile_writer(message, version)
    return found


def _check(message: type[Message], version: int) -> None:
    if version not in message.versions:
        low, high = message.versions
        raise UnsupportedVersion(f"{message.__name__} has versions {low} to {high}, not {version}")


def read(message: type[M], version: int, buf: Buffer, pos: int = 0) -> tuple[M, int]:
    """Read one message: (message, position after it). Raises MalformedFrame, or UnsupportedVersion."""
    found: tuple[M, int] = reader(message, version)(memoryview(buf), pos)
    return found


def write(message: Message, version: int) -> list[Segment]:
    """The bytes of a message as segments in order; record bytes are segments of their own."""
    segments: list[Segment] = writer(type(message), version)(message)
    return segments


def write_versioned(message: Message, version: int) -> bytes:
    """Version (int16) and body: the form of keys and values in internal topics, and of embedded protocols."""
    body = write(message, version)
    return _PREFIX.pack(version) + b"".join(body)  # type: ignore[arg-type]  # such messages hold no file slices


def read_version(buf: Buffer) -> int:
    """The version that prefixes a versioned message. Raises MalformedFrame when there is none."""
    if len(buf) < _PREFIX.size:
        raise MalformedFrame(f"{len(buf)} bytes hold no version")
    version: int = _PREFIX.unpack_from(buf)[0]
    return version


def read_versioned(message: type[M], buf: Buffer, *, is_forward_compatible: bool = False) -> M:
    """Read version and body. Raises MalformedFrame; UnsupportedVersion for versions outside the schema.

    `is_forward_compatible`: newer versions only add fields at the end (Kafka's rule for the embedded consumer
    protocol), so they are read as the newest known one and the rest is left alone.
    """
    version = read_version(buf)
    newest = message.versions.max
    if is_forward_compatible and version > newest:
        version = newest
    return read(message, version, buf, _PREFIX.size)[0]
