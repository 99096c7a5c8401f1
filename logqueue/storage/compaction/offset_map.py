"""Key -> newest offset, in 24 bytes a key whatever the keys' length. Knows no records.

An open-addressing table as Kafka's cleaner has (SkimpyOffsetMap): 16 bytes that stand for the key, 8 for the offset.
Keys of up to 15 bytes stand for themselves, longer ones are hashed: a collision of MD5 would lose a record, so it must
not happen by chance, and does not (2^-128).

    slot    key or digest   16 bytes, all zero: the slot is free
            offset          i64
"""

from __future__ import annotations

import hashlib
from struct import Struct

from logqueue.storage.compaction.job import LOAD_FACTOR

SLOT_BYTES = 24
MIN_SLOTS = 16

_KEY_BYTES = 16
_SHORT = _KEY_BYTES - 1
_FREE = bytes(_KEY_BYTES)
_OFFSET = Struct(">q")
_PADDING = tuple(bytes(_SHORT - length) + bytes([length + 1]) for length in range(_SHORT + 1))


def _md5(key: bytes) -> bytes:
    return hashlib.md5(key, usedforsecurity=False).digest()


class OffsetMap:
    """At most `capacity` keys; `latest_offset` is how far the log has been read into it (-1: not at all)."""

    def __init__(self, memory_bytes: int, *, load_factor: float = LOAD_FACTOR, expected: int | None = None) -> None:
        """`expected` keys are the most that will come, if that is known: a table need not be larger than they need."""
        slots = memory_bytes // SLOT_BYTES
        if expected is not None:
            slots = min(slots, int(expected / load_factor * 1.5) + MIN_SLOTS)
        self._slots = max(slots, MIN_SLOTS)
        self._table = bytearray(self._slots * SLOT_BYTES)
        self._end = len(self._table)
        self.capacity = max(int(self._slots * load_factor), 1)
        self.count = 0
        self.latest_offset = -1

    def put(self, key: bytes, offset: int) -> bool:
        """Note the newest offset of a key; False if the key is new and the table is full."""
        cell = key + _PADDING[len(key)] if len(key) <= _SHORT else _md5(key)
        table = self._table
        at = hash(cell) % self._slots * SLOT_BYTES
        while True:
            found = table[at : at + _KEY_BYTES]
            if found == cell:
                break
            if found == _FREE:
                if self.count >= self.capacity:
                    return False
                self.count += 1
                table[at : at + _KEY_BYTES] = cell
                break
            at += SLOT_BYTES
            if at == self._end:
                at = 0
        _OFFSET.pack_into(table, at + _KEY_BYTES, offset)
        return True

    def get(self, key: bytes) -> int:
        """The newest offset of a key; -1 if the key has not been seen."""
        cell = key + _PADDING[len(key)] if len(key) <= _SHORT else _md5(key)
        table = self._table
        at = hash(cell) % self._slots * SLOT_BYTES
        while True:
            found = table[at : at + _KEY_BYTES]
            if found == cell:
                offset: int = _OFFSET.unpack_from(table, at + _KEY_BYTES)[0]
                return offset
            if found == _FREE:
                return -1
            at += SLOT_BYTES
            if at == self._end:
                at = 0
