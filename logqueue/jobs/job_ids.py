"""Ids of jobs: UUIDv7 for our own (RFC 9562, section 5.7), the position in the log for jobs that came without one."""

from __future__ import annotations

import os
import threading
import time

from logqueue.ids import JobId

MAX_ID_CHARS = 512

_BLOCK_IDS = 512  # one read of the system's randomness serves this many ids
_DIGITS = 19  # random hexadecimal digits of one id
_VARIANTS = {
    digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"
}  # RFC 9562: the bits 10 and two of chance


class JobIds:
    """A source of UUIDv7 texts that sort by time: 48 bits of milliseconds, then 74 random bits.

    The time never runs back within one source, so ids of one process sort to the millisecond. Safe to share by threads.
    """

    __slots__ = ("_lock", "_pool", "_position", "_time_ms", "_time_text")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool = ""
        self._position = 0
        self._time_ms = -1
        self._time_text = ""

    def next(self, time_ms: int | None = None) -> JobId:
        """A new id; `time_ms` (milliseconds since the epoch) defaults to now."""
        now = time.time_ns() // 1_000_000 if time_ms is None else time_ms
        with self._lock:
            if now > self._time_ms:
                digits = f"{now & 0xFFFFFFFFFFFF:012x}"
                self._time_ms, self._time_text = now, f"{digits[:8]}-{digits[8:]}-7"
            if self._position >= len(self._pool):
                self._pool, self._position = os.urandom(_BLOCK_IDS * _DIGITS // 2).hex(), 0
            start = self._position
            self._position = start + _DIGITS
            chance, front = self._pool[start : start + _DIGITS], self._time_text
        return JobId(f"{front}{chance[:3]}-{_VARIANTS[chance[3]]}{chance[4:7]}-{chance[7:]}")


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
