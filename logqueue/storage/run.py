"""Batches of clients that lie side by side in one segment, and are written with one call. No IO."""

from __future__ import annotations

from typing import NamedTuple

from logqueue.records.batch import NO_PRODUCER_ID, NO_TIMESTAMP, BatchHeader


class Room(NamedTuple):
    """What may be added to a segment without another segment or an index entry.

    A batch begins at most `unindexed` bytes behind the segment's end and ends at most `size` bytes behind it, its times
    are not behind `until_ms`, its last offset is not above `last_offset`.
    """

    unindexed: int
    size: int
    until_ms: int
    last_offset: int


NO_ROOM = Room(-1, -1, -1, -1)
NO_PLACE = -1


class Run:
    """What is to be written at the log's end; `end_offset` is where the log will end then.

    `producers` has the one batch of each idempotent producer, with its final offset: the state of producers learns of
    it when it is in the log.
    """

    __slots__ = ("batches", "end_offset", "max_timestamp", "offset_of_max_timestamp", "producers", "room", "size")

    def __init__(self, end_offset: int, room: Room) -> None:
        self.batches: list[bytearray | memoryview] = []
        self.producers: dict[int, tuple[BatchHeader, bytearray | memoryview]] = {}
        self.clear(end_offset, room)

    def clear(self, end_offset: int, room: Room) -> None:
        """Begin anew where the log ends now."""
        self.end_offset = end_offset
        self.room = room
        self.size = 0
        self.max_timestamp = NO_TIMESTAMP
        self.offset_of_max_timestamp = end_offset
        if self.batches:
            self.batches.clear()
            self.producers.clear()

    def add(self, batch: bytearray | memoryview, header: BatchHeader) -> int:
        """Its last offset if there is room for the batch, which begins at `end_offset`; else -1.

        One without a time has none: its segment goes by the clock.
        """
        unindexed, room, until_ms, highest = self.room
        base_offset, begin = self.end_offset, self.size
        end, max_timestamp = begin + len(batch), header.max_timestamp
        last_offset = base_offset + header.last_offset_delta
        if begin > unindexed or end > room or not 0 <= max_timestamp <= until_ms or last_offset > highest:
            return NO_PLACE
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.offset_of_max_timestamp = last_offset
        if header.producer_id != NO_PRODUCER_ID:
            self.producers[header.producer_id] = header._replace(base_offset=base_offset), batch
        self.batches.append(batch)
        self.size = end
        self.end_offset = last_offset + 1
        return last_offset
