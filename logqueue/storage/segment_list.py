"""The segments of a log in order, and the lookups that cross them: by offset and by time. Writes nothing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from logqueue.records.batch import MAX_TIMESTAMP, NO_TIMESTAMP, BatchHeader
from logqueue.records.builder import read_records
from logqueue.records.record import Record
from logqueue.storage.segment import Segment

MAX_KNOWN_POSITIONS = 128
"""Read positions that are remembered, so that a consumer that reads on is found without a lookup."""


class TimestampOffset(NamedTuple):
    """A record found by time: its timestamp (ms), its offset and the leader epoch that wrote it."""

    timestamp_ms: int
    offset: int
    leader_epoch: int


class SegmentList:
    """Segments by rising base offset; the last one is written to."""

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments
        self._bases = [segment.base_offset for segment in segments]
        self._known: dict[int, tuple[Segment, int]] = {}

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    def append(self, segment: Segment) -> None:
        """Add the segment that is written to from now on."""
        assert not self._bases or segment.base_offset > self._bases[-1]
        self._segments.append(segment)
        self._bases.append(segment.base_offset)

    def remove_before(self, offset: int, *, may_go: Callable[[Segment], bool]) -> list[Segment]:
        """Take out the segments that lie wholly below an offset, up to one that may not go, and never the last one."""
        count = 0
        while count + 1 < len(self._segments) and self._bases[count + 1] <= offset and may_go(self._segments[count]):
            count += 1
        removed = self._segments[:count]
        del self._segments[:count], self._bases[:count]
        self._known.clear()
        return removed

    def replace(self, old: Sequence[Segment], new: Segment) -> bool:
        """Put one segment in the place of some that follow each other; False if they are not there any more."""
        index = bisect_left(self._bases, old[0].base_offset)
        if self._segments[index : index + len(old)] != list(old):
            return False
        assert new.base_offset == old[0].base_offset, "offsets do not change"
        assert index + len(old) < len(self._segments), "the segment that is written to is never replaced"
        self._segments[index : index + len(old)] = [new]
        self._bases[index : index + len(old)] = [new.base_offset]
        self._known.clear()
        return True

    def after(self, segment: Segment) -> Segment | None:
        """The segment that follows."""
        index = bisect_right(self._bases, segment.base_offset)
        return self._segments[index] if index < len(self._segments) else None

    def from_offset(self, offset: int) -> list[Segment]:
        """The segment that holds an offset, and those behind it."""
        return self._segments[max(bisect_right(self._bases, offset) - 1, 0) :]

    # By offset

    def remember(self, offset: int, segment: Segment, position: int) -> None:
        """Note where a reader will go on."""
        known = self._known
        if len(known) >= MAX_KNOWN_POSITIONS and offset not in known:
            del known[next(iter(known))]
        known[offset] = (segment, position)

    def locate(self, offset: int) -> tuple[Segment, int] | None:
        """Segment and position of the batch that holds `offset`, or of the next one; None past the last batch."""
        known = self._known.get(offset)
        if known is not None and known[1] < known[0].size:
            return known
        index = max(bisect_right(self._bases, offset) - 1, 0)
        for segment in self._segments[index:]:
            found = segment.find(offset) if segment.size else None
            if found is not None:
                return segment, found
        return None

    # By time

    def find_time(self, timestamp_ms: int, *, from_offset: int, end_offset: int) -> TimestampOffset | None:
        """The first record in the offset range whose timestamp is at least `timestamp_ms`.

        One whose delta takes its time out of 64 bits has none that could be asked for, or answered.
        """
        for segment in self._segments:
            found = segment.find_time(timestamp_ms, from_offset=from_offset)
            if found is None:
                continue
            for header, record in self._records(segment, *found, timestamp_ms=timestamp_ms):
                if record.offset >= end_offset:
                    return None
                if timestamp_ms <= record.timestamp_ms <= MAX_TIMESTAMP and record.offset >= from_offset:
                    return TimestampOffset(record.timestamp_ms, record.offset, header.leader_epoch)
        return None

    def find_max_time(self, *, from_offset: int, end_offset: int) -> TimestampOffset | None:
        """The first record that carries the largest timestamp of all."""
        largest = max((segment.proven_max_timestamp() for segment in self._segments), default=NO_TIMESTAMP)
        if largest == NO_TIMESTAMP:
            return None
        return self.find_time(largest, from_offset=from_offset, end_offset=end_offset)

    def _records(
        self, segment: Segment, position: int, header: BatchHeader, *, timestamp_ms: int
    ) -> Iterator[tuple[BatchHeader, Record]]:
        """The records of the batch at `position` and of those behind it in the segment, of none whose header says that
        it is older: a header may tell a time that no record of its batch has, and many batches may follow."""
        while True:
            if header.max_timestamp >= timestamp_ms:
                batch = segment.read_at(header.size, position)
                for record in read_records(batch):
                    yield header, record
            position += header.size
            if position >= segment.size:
                return
            header = segment.header_at(position)
