"""A record on its way into the log, and the verdict on one that the log will not take. Values; no client."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A record to be written to `partition` of `topic`; None is the partition that the key has (murmur2)."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = []
    timestamp_ms: int | None = None


class Refusal(NamedTuple):
    """A record that the log will not take, by its place in what was sent."""

    place: int
    error: Exception
