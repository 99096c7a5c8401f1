"""The work of one compaction: reads segments twice, writes `.cleaned` segments. Changes nothing that a log uses.

First pass: the newest offset of every key in the dirty part. Second pass: everything from the log's start up to where
the first pass came is copied, without what the map makes superfluous. Every output is synced before it is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from logqueue.config import LogConfig
from logqueue.records.batch import BatchHeader, check_crc, is_whole, parse_header
from logqueue.records.builder import read_records
from logqueue.records.control import parse_marker
from logqueue.records.errors import CorruptMessage
from logqueue.storage.compaction.batch_filter import BatchFilter, outline, unpacked
from logqueue.storage.compaction.job import CleanedSegment, CompactionDone, CompactionJob, SourceSegment, groups
from logqueue.storage.compaction.offset_map import OffsetMap
from logqueue.storage.compaction.transactions import TransactionsSeen
from logqueue.storage.environment import Environment
from logqueue.storage.file_system import FileSystem, remove_gently, write_all
from logqueue.storage.names import CLEANED, LOG, SEGMENT_SUFFIXES, segment_file
from logqueue.storage.segment import Segment
from logqueue.storage.txn_index import AbortEntry

SYNC_STEP_BYTES = 2 * 1024 * 1024
"""Unsynced output at which it is synced: the log's own fsync must not have to wait for a gigabyte of ours."""


class NothingToRead(Exception):
    """The part to be compacted holds a single batch with more keys than the table has room for."""


class Throttle:
    """Keeps bytes per second under a rate by sleeping (log.cleaner.io.max.bytes.per.second)."""

    def __init__(
        self,
        bytes_per_second: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._monotonic = monotonic
        self._sleep = sleep
        self._free_at = 0.0  # when the bytes so far may have been moved

    def moved(self, count: int) -> None:
        """Account for bytes read or written; sleeps if they came too fast."""
        now = self._monotonic()
        self._free_at = max(self._free_at, now) + count / self._rate
        if self._free_at > now:
            self._sleep(self._free_at - now)


class Compactor:
    """Does one job. `run` yields a segment as soon as it may be swapped in, and the end of the job at last.

    `keep_going` is called for every buffer read; what it raises ends the job. Raises CorruptMessage for a log that
    cannot be read, OSError, NothingToRead.
    """

    def __init__(
        self,
        fs: FileSystem,
        job: CompactionJob,
        *,
        keep_going: Callable[[], None] = lambda: None,
        throttle: Throttle | None = None,
    ) -> None:
        self._fs = fs
        self._job = job
        self._keep_going = keep_going
        self._throttle = throttle or Throttle(job.max_bytes_per_second)
        self._bytes_before = self._bytes_after = 0

    def run(self) -> Iterator[CleanedSegment | CompactionDone]:
        job, started = self._job, time.monotonic()
        offsets = OffsetMap(
            job.memory_bytes, load_factor=job.load_factor, expected=max(job.end_offset - job.dirty_offset, 1)
        )
        self._fill(offsets)
        clean_offset = offsets.latest_offset + 1
        if clean_offset <= job.dirty_offset:
            raise NothingToRead(
                f"the table of keys is full within one batch at offset {job.dirty_offset}; "
                "raise log.cleaner.dedupe.buffer.size"
            )
        transactions = TransactionsSeen(job.aborted)
        keep = BatchFilter(
            offsets,
            transactions,
            now_ms=job.now_ms,
            delete_retention_ms=job.delete_retention_ms,
            end_offset=job.end_offset,
            last_batches=job.last_batch_of(),
        )
        for group in groups(job, below=clean_offset):
            yield self._clean(group, keep, transactions)
        yield CompactionDone(
            clean_offset=clean_offset,
            bytes_before=self._bytes_before,
            bytes_after=self._bytes_after,
            records_before=keep.records_read,
            records_after=keep.records_kept,
            map_utilisation=offsets.count / offsets.capacity,
            seconds=time.monotonic() - started,
        )

    # First pass

    def _fill(self, offsets: OffsetMap) -> None:
        """Read the dirty part into the map, as far as there is room; segments that fit count to their very end."""
        job = self._job
        transactions = TransactionsSeen(entry for entry in job.aborted if entry.last_offset >= job.dirty_offset)
        for index, segment in enumerate(job.segments):
            is_last = index + 1 == len(job.segments)
            end = job.end_offset if is_last else job.segments[index + 1].base_offset
            if end <= job.dirty_offset:
                continue
            for buffer, position, header in self._batches(segment):
                if header.is_control:
                    marker = next(map(parse_marker, read_records(buffer, position, header)), None)
                    transactions.is_marker_free(header, None if marker is None else marker.control_type)
                elif not transactions.is_aborted(header) and not self._note_keys(offsets, buffer, position, header):
                    return
                if header.last_offset >= job.dirty_offset:
                    offsets.latest_offset = max(offsets.latest_offset, header.last_offset)
            offsets.latest_offset = max(offsets.latest_offset, end - 1)

    def _note_keys(self, offsets: OffsetMap, buffer: bytes, position: int, header: BatchHeader) -> bool:
        """Enter the keys of a batch; False as soon as one finds no room."""
        put, base, first = offsets.put, header.base_offset, self._job.dirty_offset
        if header.last_offset < first:
            return True
        for _, _, delta, key, _ in outline(unpacked(buffer, position, header), header.record_count):
            if key is not None and base + delta >= first and not put(key, base + delta):
                return False
        return True

    # Second pass

    def _clean(self, group: list[SourceSegment], keep: BatchFilter, transactions: TransactionsSeen) -> CleanedSegment:
        folder, base_offset = self._job.folder, group[0].base_offset
        for suffix in SEGMENT_SUFFIXES:  # of a compaction that was broken off
            try:
                remove_gently(self._fs, folder / (segment_file(base_offset, suffix) + CLEANED))
            except FileNotFoundError:
                continue
        output = _Output(self._fs, self._job, base_offset)
        try:
            for segment in group:
                self._bytes_before += segment.size
                for buffer, position, header in self._batches(segment):
                    kept = keep.apply(buffer, position, header)
                    if kept is not None:
                        self._throttle.moved(len(kept))
                        output.add(kept, header)
            cleaned = output.finish(
                tuple(segment.base_offset for segment in group),
                transactions.take_kept(),
                modified_ms=self._modified_ms(group[-1]),
            )
        finally:
            output.close()
        self._bytes_after += cleaned.size
        return cleaned

    def _modified_ms(self, segment: SourceSegment) -> int:
        """The age of what was written last, which retention goes by where records have no time."""
        fd = self._fs.open(self._path(segment))
        try:
            return self._fs.modified_ms(fd)
        finally:
            self._fs.close(fd)

    def _path(self, segment: SourceSegment) -> Path:
        return self._job.folder / segment_file(segment.base_offset, LOG)

    def _batches(self, segment: SourceSegment) -> Iterator[tuple[bytes, int, BatchHeader]]:
        """(buffer, position in it, header) of every batch of a segment. Raises CorruptMessage."""
        path = self._path(segment)
        fd = self._fs.open(path)
        try:
            at, step = 0, self._job.buffer_bytes
            while at < segment.size:
                self._keep_going()
                buffer = self._fs.pread(fd, min(step, segment.size - at), at)
                position = 0
                while position < len(buffer) and is_whole(buffer, position, end=len(buffer)):
                    header = parse_header(buffer, position)
                    check_crc(buffer, position, header)
                    yield buffer, position, header
                    position += header.size
                if position == 0:
                    if len(buffer) < min(step, segment.size - at) or at + len(buffer) >= segment.size:
                        raise CorruptMessage(f"{path}: no whole batch at position {at}")
                    step *= 2
                    continue
                self._throttle.moved(position)
                at, step = at + position, self._job.buffer_bytes
        except CorruptMessage as error:
            raise CorruptMessage(f"{path} cannot be compacted: {error.detail}") from None
        finally:
            self._fs.close(fd)


class _Output:
    """A `.cleaned` segment being written, its indexes in memory until it is finished."""

    def __init__(self, fs: FileSystem, job: CompactionJob, base_offset: int) -> None:
        self._fs = fs
        self._folder = job.folder
        self._buffer = bytearray()
        self._buffer_bytes = job.buffer_bytes
        self._written = self._synced = 0
        config = LogConfig(
            index_interval_bytes=job.index_interval_bytes,
            segment_bytes=job.segment_bytes,
            segment_index_bytes=job.segment_index_bytes,
        )
        self._segment = Segment(
            Environment(fs=fs), config, job.folder, base_offset=base_offset, created_ms=job.now_ms, ending=CLEANED
        )
        self._fd = fs.open(self._segment.path, create=True)

    def add(self, batch: bytes | bytearray, header: BatchHeader) -> None:
        """Append a batch; `header` is the one it had before."""
        max_timestamp = int.from_bytes(batch[35:43], "big", signed=True)
        self._segment.account(self._segment.size, len(batch), header.last_offset, max_timestamp)
        self._buffer += batch
        if len(self._buffer) >= self._buffer_bytes:
            self._flush()

    def _flush(self) -> None:
        write_all(self._fs, self._fd, self._buffer, self._written)
        self._written += len(self._buffer)
        self._buffer.clear()
        if self._written - self._synced >= SYNC_STEP_BYTES:
            self._fs.fdatasync(self._fd)
            self._synced = self._written

    def finish(self, replaces: tuple[int, ...], aborted: list[AbortEntry], *, modified_ms: int) -> CleanedSegment:
        """Make the segment with its indexes durable, all but the names."""
        segment = self._segment
        if self._buffer:
            self._flush()
        self._fs.set_modified(self._fd, modified_ms)
        self._fs.fsync(self._fd)
        segment.note_max_timestamp()
        for entry in aborted:
            segment.txn_index.append(entry)
        segment.write_indexes()
        return CleanedSegment(
            replaces=replaces,
            size=segment.size,
            max_timestamp=segment.max_timestamp,
            offset_of_max_timestamp=segment.offset_of_max_timestamp,
            first_timestamp=segment.first_timestamp,
            offset_index_bytes=segment.offset_index.size,
            time_index_bytes=segment.time_index.size,
            txn_index_bytes=segment.txn_index.size,
        )

    def close(self) -> None:
        self._fs.close(self._fd)
