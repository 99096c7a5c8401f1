"""The field functions of the schema notation: one per wire type, typed as the value the field holds.

`since` and `until` are message versions, both included; see `schema` for the notation. Knows nothing of encoding.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast, overload

from logqueue.protocol.schema import (
    ARRAY,
    BOOL,
    BYTES,
    FLOAT64,
    INT8,
    INT16,
    INT32,
    INT64,
    LATEST,
    RECORDS,
    STRING,
    STRUCT,
    UINT16,
    UUID,
    Field,
    Kind,
)
from logqueue.protocol.wire import ZERO_UUID, Records

T = TypeVar("T")


def bool_(*, since: int = 0, until: int = LATEST, default: bool = False, tag: int | None = None) -> bool:
    """One byte, zero or not."""
    return cast(bool, Field(BOOL, since=since, until=until, default=default, tag=tag))


def int8(*, since: int = 0, until: int = LATEST, default: int = 0, tag: int | None = None) -> int:
    """Signed, one byte."""
    return cast(int, Field(INT8, since=since, until=until, default=default, tag=tag))


def int16(*, since: int = 0, until: int = LATEST, default: int = 0, tag: int | None = None) -> int:
    """Signed, two bytes."""
    return cast(int, Field(INT16, since=since, until=until, default=default, tag=tag))


def int32(*, since: int = 0, until: int = LATEST, default: int = 0, tag: int | None = None) -> int:
    """Signed, four bytes."""
    return cast(int, Field(INT32, since=since, until=until, default=default, tag=tag))


def int64(*, since: int = 0, until: int = LATEST, default: int = 0, tag: int | None = None) -> int:
    """Signed, eight bytes."""
    return cast(int, Field(INT64, since=since, until=until, default=default, tag=tag))


def uint16(*, since: int = 0, until: int = LATEST, default: int = 0, tag: int | None = None) -> int:
    """Unsigned, two bytes."""
    return cast(int, Field(UINT16, since=since, until=until, default=default, tag=tag))


def float64(*, since: int = 0, until: int = LATEST, default: float = 0.0, tag: int | None = None) -> float:
    """IEEE 754, eight bytes."""
    return cast(float, Field(FLOAT64, since=since, until=until, default=default, tag=tag))


def uuid(*, since: int = 0, until: int = LATEST, default: bytes = ZERO_UUID, tag: int | None = None) -> bytes:
    """Sixteen raw bytes; all zero means none."""
    return cast(bytes, Field(UUID, since=since, until=until, default=default, tag=tag))


@overload
def string(*, since: int = 0, until: int = LATEST, default: str = "", tag: int | None = None) -> str: ...


@overload
def string(
    *, nullable: int, since: int = 0, until: int = LATEST, default: str | None = None, tag: int | None = None
) -> str | None: ...


def string(
    *,
    nullable: int | None = None,
    since: int = 0,
    until: int = LATEST,
    default: str | None = None,
    tag: int | None = None,
) -> Any:
    """UTF-8 text."""
    if default is None and nullable is None:
        default = ""
    return Field(STRING, since=since, until=until, nullable=nullable, default=default, tag=tag)


@overload
def bytes_(*, since: int = 0, until: int = LATEST, tag: int | None = None) -> bytes: ...


@overload
def bytes_(*, nullable: int, since: int = 0, until: int = LATEST, tag: int | None = None) -> bytes | None: ...


def bytes_(*, nullable: int | None = None, since: int = 0, until: int = LATEST, tag: int | None = None) -> Any:
    """Opaque bytes, copied out of the frame."""
    default = b"" if nullable is None else None
    return Field(BYTES, since=since, until=until, nullable=nullable, default=default, tag=tag)


@overload
def records_(*, nullable: int = 0, since: int = 0, until: int = LATEST) -> Records | None: ...


@overload
def records_(*, nullable: None, since: int = 0, until: int = LATEST) -> Records: ...


def records_(*, nullable: int | None = 0, since: int = 0, until: int = LATEST) -> Any:
    """Record batches: a slice of the frame when read, a segment of its own when written; never copied."""
    default = b"" if nullable is None else None
    return Field(RECORDS, since=since, until=until, nullable=nullable, default=default)


@overload
def struct(item: type[T], *, since: int = 0, until: int = LATEST) -> T: ...


@overload
def struct(
    item: type[T], *, nullable: int | None = None, since: int = 0, until: int = LATEST, tag: int | None = None
) -> T | None: ...


def struct(
    item: Any, *, nullable: int | None = None, since: int = 0, until: int = LATEST, tag: int | None = None
) -> Any:
    """A struct in place. A tagged one is None when it is not sent."""
    return Field(STRUCT, since=since, until=until, nullable=nullable, default=None, tag=tag, item=item)


_EMPTY = object()


@overload
def array(item: type[T] | Kind[T], *, since: int = 0, until: int = LATEST, tag: int | None = None) -> list[T]: ...


@overload
def array(
    item: type[T] | Kind[T],
    *,
    nullable: int,
    since: int = 0,
    until: int = LATEST,
    default: None = ...,
    tag: int | None = None,
) -> list[T] | None: ...


def array(
    item: Any,
    *,
    nullable: int | None = None,
    since: int = 0,
    until: int = LATEST,
    default: Any = _EMPTY,
    tag: int | None = None,
) -> Any:
    """A list; the default is a fresh empty one unless it is given as None."""
    default = [] if default is _EMPTY else default
    return Field(ARRAY, since=since, until=until, nullable=nullable, default=default, tag=tag, item=item)
