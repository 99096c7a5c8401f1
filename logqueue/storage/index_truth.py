"""Whether the indexes of a segment say what its log says, and making them anew. Index files have no checksum.

Lookups hold each entry that they use against the log. What no lookup can notice is looked for here: a last time that is
not the largest. It is trusted by lookups that pass a segment over, and by retention.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from logqueue.records.batch import NO_TIMESTAMP, BatchHeader
from logqueue.storage.errors import StorageError
from logqueue.storage.index_file import IndexFile

if TYPE_CHECKING:
    from logqueue.storage.segment import Segment

log = logging.getLogger("logqueue.storage")

MAX_RELATIVE_OFFSET = 2**31 - 1

LOOK_AHEAD_BATCHES = 64
"""How many batches behind the one with the largest time are looked at for a larger one. Where times rise as they should
the first of them shows that an index was cut short; further ones would make a start read whole logs."""


def has_true_times(segment: Segment) -> bool:
    """Whether the last entry of the time index names a batch with that time, and no larger one follows soon.

    Raises OSError.
    """
    entry = segment.time_index.last()
    position, largest = 0, NO_TIMESTAMP
    try:
        if entry is not None:
            found = segment.find(entry.offset)
            if found is None:
                return False
            header = segment.header_at(found)
            if header.max_timestamp != entry.timestamp_ms or header.base_offset > entry.offset:
                return False
            position, largest = found + header.size, entry.timestamp_ms
    except StorageError:
        return True  # the log itself is damaged there: its index is no worse
    following = islice(_batches(segment, position), LOOK_AHEAD_BATCHES)
    return all(header.max_timestamp <= largest for _, header in following)


def remake_offset_index(segment: Segment) -> None:
    """Make the offset index anew from the batches, up to the first that is damaged. Raises OSError."""
    index = segment.offset_index
    is_sealed = _begin(index)
    gap, newest = 0, -1
    for position, header in _batches(segment, 0):
        relative = header.last_offset - segment.base_offset
        if gap > segment.index_interval_bytes and newest < relative <= MAX_RELATIVE_OFFSET:
            index.append(header.last_offset, position)
            newest, gap = relative, 0
        gap += header.size
    if is_sealed:
        _end(index)


def remake_time_index(segment: Segment) -> None:
    """Make the time index anew from the batches, and with it the largest time of a finished segment. Raises OSError."""
    index = segment.time_index
    is_sealed = _begin(index)
    gap, largest, holder = 0, NO_TIMESTAMP, segment.base_offset
    for _, header in _batches(segment, 0):
        if header.last_offset - segment.base_offset > MAX_RELATIVE_OFFSET:
            break
        if header.max_timestamp > largest:
            largest, holder = header.max_timestamp, header.last_offset
        if gap > segment.index_interval_bytes:
            index.append(largest, holder)
            gap = 0
        gap += header.size
    if is_sealed:
        index.append(largest, holder)
        segment.max_timestamp, segment.offset_of_max_timestamp = largest, holder
        _end(index)


def _batches(segment: Segment, position: int) -> Iterator[tuple[int, BatchHeader]]:
    return iter(segment.scan(position))


def _begin(index: IndexFile) -> bool:
    """Forget what the index holds; answers whether it is that of a finished segment."""
    is_sealed = index.is_sealed
    index.forget()
    index.resume(b"")
    return is_sealed


def _end(index: IndexFile) -> None:
    """Bring the file of a finished segment to what was made. On a disk that takes nothing it stays in memory."""
    try:
        index.write_out()
    except OSError as error:
        log.error("%s cannot be written: %s", index.path, error)
    else:
        index.seal(index.size)
