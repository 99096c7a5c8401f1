"""Is a stored range in memory? And if not: reading it, somewhere where waiting for the disk does no harm.

`sendfile` waits for pages that are not in the page cache, and with it the whole event loop. A read that must not wait
(RWF_NOWAIT) tells before.
"""

from __future__ import annotations

import errno
import os

PROBE_STEP_BYTES = 256 * 1024
"""Distance of the bytes that are probed: the kernel reads ahead, and evicts, in runs of about that size."""

PROBE_BYTES = 1024 * 1024
"""Most bytes that one probe answers for."""

READ_BYTES = 4 * 1024 * 1024
"""Bytes read into memory before sending goes on."""

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_one_byte = [bytearray(1)]


def leading_cached(fd: int, position: int, size: int) -> int:
    """How many bytes of a range, from its start on, can be sent without waiting for the disk: 0 up to PROBE_BYTES.

    A range behind the file's end counts as cached, and so does everything where the file system cannot tell.
    """
    limit = size if size < PROBE_BYTES else PROBE_BYTES
    if not _NOWAIT:
        return limit
    cached = 0
    try:
        while cached < limit:
            step = min(PROBE_STEP_BYTES, limit - cached)
            os.preadv(fd, _one_byte, position + cached + step - 1, _NOWAIT)
            cached += step
    except BlockingIOError:
        return cached
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return limit
    return cached


def read_cached(fd: int, position: int, size: int) -> bytearray | None:
    """A small range if all of it can be read without waiting for the disk; None if not, or if nobody can tell."""
    if not _NOWAIT:
        return None
    data = bytearray(size)
    try:
        return data if os.preadv(fd, (data,), position, _NOWAIT) == size else None
    except OSError:  # whoever sends it the other way meets it again, and tells
        return None


def read_in(fd: int, position: int, size: int) -> None:
    """Bring the beginning of a range into memory; waits for the disk. Any thread. Raises OSError."""
    scratch = [bytearray(PROBE_STEP_BYTES)]
    end = position + min(size, READ_BYTES)
    while position < end:
        count = os.preadv(fd, scratch, position)
        if not count:
            return
        position += count
