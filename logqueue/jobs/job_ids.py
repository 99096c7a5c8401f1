"""Ids of jobs: UUIDv7 for our own (RFC 9562, section 5.7), the position in the log for jobs that came without one."""

from __future__ import annotations

import os
import time

from logqueue.ids import JobId

MAX_ID_CHARS = 512

_BLOCK_IDS = 512  # one read of the system's randomness serves this many ids
_VERSION = bytes(0x70 | byte & 0x0F for byte in range(256))  # RFC 9562: 7, and four bits of chance
_VARIANT = bytes(0x80 | byte & 0x3F for byte in range(256))  # the bits 10, and six of chance


class JobIds:
    """A source of UUIDv7 texts that sort by time: 48 bits of milliseconds, then 74 random bits.

    The time never runs back within one source, so ids of one thread sort to the millisecond. Safe to share by threads:
    what they share is replaced whole, and no two of them take the same end of an id. A process that was forked off
    has to `forget` before it asks.
    """

    __slots__ = ("_ends", "_front")

    def __init__(self) -> None:
        self._front = -1, ""
        self._ends: list[str] = []

    def forget(self) -> None:
        """Drop what was made ahead: another process has it too."""
        self._ends = []

    def next(self, time_ms: int | None = None) -> JobId:
        """A new id; `time_ms` (milliseconds since the epoch) defaults to now."""
        now = time.time_ns() // 1_000_000 if time_ms is None else time_ms
        time_ms, front = self._front
        if now > time_ms:
            digits = f"{now & 0xFFFFFFFFFFFF:012x}"
            front = f"{digits[:8]}-{digits[8:]}-"
            self._front = now, front
        while True:
            try:
                return JobId(front + self._ends.pop())
            except IndexError:
                self._ends = _new_ends()


def _new_ends() -> list[str]:
    """What follows the time in a block of ids: `7xxx-yxxx-xxxxxxxxxxxx`, y being 8, 9, a or b."""
    marked = bytearray(os.urandom(_BLOCK_IDS * 4))
    marked[0::4] = marked[0::4].translate(_VERSION)
    marked[2::4] = marked[2::4].translate(_VARIANT)
    firsts, lasts = f"{marked.hex('-', 2)}-", os.urandom(_BLOCK_IDS * 6).hex()
    return [f"{firsts[10 * n : 10 * n + 10]}{lasts[12 * n : 12 * n + 12]}" for n in range(_BLOCK_IDS)]


def id_of_position(topic: str, partition: int, offset: int) -> JobId:
    """The id of a job whose producer gave none: where its record is, so that every reader derives the same."""
    return JobId(f"{topic}-{partition}-{offset}")


def time_of_id(job_id: str) -> int | None:
    """The milliseconds that a UUIDv7 text carries, or None if the id is no UUIDv7."""
    if len(job_id) != 36 or job_id[14] != "7" or job_id[8] != "-" or job_id[13] != "-":
        return None
    try:
        return int(job_id[:8] + job_id[9:13], 16)
    except ValueError:
        return None
