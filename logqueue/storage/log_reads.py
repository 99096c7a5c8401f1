"""What is read of a partition's log: batches by offset, offsets by time, where transactions stand. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from logqueue.storage.durability import Durability
from logqueue.storage.errors import OffsetOutOfRange
from logqueue.storage.file_system import FileSystem
from logqueue.storage.producer_state import NO_OFFSET, ProducerState
from logqueue.storage.results import FetchSlice
from logqueue.storage.segment import Segment
from logqueue.storage.segment_list import SegmentList, TimestampOffset
from logqueue.storage.txn_index import AbortedTransaction


class LogReads:
    """The reading half of `storage.log.PartitionLog`, which says what these are and keeps them."""

    log_start_offset: int
    log_end_offset: int
    producer_state: ProducerState
    _segments: SegmentList
    _durability: Durability
    _fs: FileSystem

    def read(
        self, *, offset: int, max_bytes: int, max_offset: int | None = None, min_one_batch: bool = True
    ) -> FetchSlice:
        """Find whole batches from the one that holds `offset` on: at most `max_bytes`, all below `max_offset`.

        With `min_one_batch` the first batch is answered even if it alone is larger. Nothing is read but headers.
        Raises OffsetOutOfRange if `offset` is below the log's start or beyond its end.
        """
        end_offset = self.log_end_offset
        if not self.log_start_offset <= offset <= end_offset:
            raise OffsetOutOfRange(offset, start=self.log_start_offset, end=end_offset)
        if max_offset is not None and max_offset < end_offset:
            end_offset = max_offset
        found = self._segments.locate(offset) if offset < end_offset else None
        if found is None:
            return FetchSlice(None, 0, 0, offset)
        segment, position = found
        limit, limit_offset = self._limit(segment, end_offset)
        end = segment.cut(position, max_bytes=max_bytes, limit=limit)
        if end <= position:
            if not min_one_batch or limit <= position:
                return FetchSlice(None, 0, 0, offset)
            end = segment.batch_end(position)
        if end == limit:
            next_offset = limit_offset
            following = self._segments.after(segment) if end == segment.size else None
            self._segments.remember(next_offset, *((segment, end) if following is None else (following, 0)))
        else:
            next_offset = segment.offset_at(end)
            self._segments.remember(next_offset, segment, end)
        return FetchSlice(segment.open(), position, end - position, next_offset)

    def _limit(self, segment: Segment, end_offset: int) -> tuple[int, int]:
        """Where in a segment the readable part ends, and the offset there."""
        durability = self._durability
        for offset, known_segment, position in (durability.end, durability.durable):
            if end_offset == offset and segment is known_segment:
                return position, end_offset
        following = self._segments.after(segment)
        if following is not None and following.base_offset <= end_offset:
            return segment.size, following.base_offset
        found = segment.find(end_offset)
        return (segment.size if found is None else found), end_offset

    def read_bytes(self, part: FetchSlice) -> bytes:
        """The bytes of a slice, in memory: for coordinators and tools, not for fetches."""
        return self._fs.pread(part.fd, part.size, part.position) if part.size else b""

    def iterate_batches(self, *, offset: int, chunk_bytes: int = 1024 * 1024) -> Iterator[bytes]:
        """Runs of whole batches from `offset` to the end the log has now, about `chunk_bytes` at a time."""
        end = self.log_end_offset
        while offset < end:
            part = self.read(offset=offset, max_bytes=chunk_bytes, max_offset=end)
            if not part.size:
                return
            yield self.read_bytes(part)
            offset = part.next_offset

    def offset_for_timestamp(self, timestamp_ms: int, *, max_offset: int | None = None) -> TimestampOffset | None:
        """The first record at or after a time; None if there is none."""
        end = self.log_end_offset if max_offset is None else max_offset
        return self._segments.find_time(timestamp_ms, from_offset=self.log_start_offset, end_offset=end)

    def max_timestamp_offset(self, *, max_offset: int | None = None) -> TimestampOffset | None:
        """The first record with the largest timestamp (ListOffsets -3); None if there is none."""
        end = self.log_end_offset if max_offset is None else max_offset
        return self._segments.find_max_time(from_offset=self.log_start_offset, end_offset=end)

    # Transactions

    @property
    def last_stable_offset(self) -> int:
        """Every transaction below is decided; the log's end if none is open."""
        first = self.producer_state.first_open_transaction
        return self.log_end_offset if first is None else max(first, self.log_start_offset)

    def first_unstable_offset(self, high_watermark: int) -> int | None:
        """Where the first transaction begins that is open, or whose marker is not below `high_watermark`."""
        first = self.producer_state.first_unstable(high_watermark)
        return None if first is None else max(first, self.log_start_offset)

    def open_transaction(self, producer_id: int) -> int | None:
        """First offset of the transaction that a producer has open here."""
        entry = self.producer_state.get(producer_id)
        return None if entry is None or entry.transaction_start == NO_OFFSET else entry.transaction_start

    def aborted_transactions(self, fetch_offset: int, upper_offset: int) -> list[AbortedTransaction]:
        """The aborted transactions with records from `fetch_offset` up to, not including, `upper_offset`.

        `upper_offset` is at most the last stable offset: of what is above it nobody knows. Raises OSError.
        """
        found: list[AbortedTransaction] = []
        for segment in self._segments.from_offset(fetch_offset):
            if segment.txn_index.collect(fetch_offset, upper_offset, found):
                break
        return found
