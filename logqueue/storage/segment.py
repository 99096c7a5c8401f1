"""A segment: one .log file with its indexes. Knows positions and offsets, no producers and no other segments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING

from logqueue.config import LogConfig
from logqueue.records.batch import HEADER_SIZE, LENGTH_PREFIX, MIN_BATCH_LENGTH, NO_TIMESTAMP, BatchHeader
from logqueue.storage.environment import Environment
from logqueue.storage.errors import StorageError
from logqueue.storage.file_system import Buffer, write_all
from logqueue.storage.names import LOG, OFFSET_INDEX, TIME_INDEX, TXN_INDEX, segment_file
from logqueue.storage.offset_index import OffsetIndex, last_entry_offset, offset_entries_below
from logqueue.storage.open_files import FileHolder, OpenFile, Readers
from logqueue.storage.run import NO_ROOM, Room, Run
from logqueue.storage.scan import Scan, stored_header
from logqueue.storage.time_index import TimeIndex, time_entries_below
from logqueue.storage.txn_index import TransactionIndex

if TYPE_CHECKING:
    from logqueue.storage.index_file import IndexFile

log = logging.getLogger("logqueue.storage")

MAX_RELATIVE_OFFSET = 2**31 - 1

GENTLE_STEP_BYTES = 2 * 1024 * 1024
"""Steps in which many unsynced bytes are written back before their sync: at once they would stall every other fsync."""

LONG_WALK_BYTES = 4 * 1024 * 1024
"""No lookup goes so far from an index entry, unless entries are missing or a wrong one has led the search astray."""

_NO_BORDER = (-1, -1)
_OFFSET = Struct(">q")
_WALKED = Struct(">qi11xi")  # base offset, length, ..., last offset delta
_WALK_BYTES = 4096


class Segment:
    """Batches from `base_offset` on, in `size` bytes.

    `max_timestamp` is the largest time in it and `offset_of_max_timestamp` the last offset of the batch that brought
    it; `first_timestamp` is the largest time of its first batch (-1 while empty). Times are milliseconds.
    `has_durable_name` is kept by whoever syncs the folder. `are_times_proven` is False while the largest time is what
    an index file says that nobody has held against the log.
    """

    __slots__ = (
        "_border",
        "_bytes_since_entry",
        "_file",
        "_fs",
        "_is_index_full",
        "_max_bytes",
        "_pwrite",
        "_synced_size",
        "are_times_proven",
        "base_offset",
        "created_ms",
        "first_timestamp",
        "has_durable_name",
        "index_interval_bytes",
        "max_timestamp",
        "offset_index",
        "offset_of_max_timestamp",
        "roll_after_ms",
        "size",
        "time_index",
        "txn_index",
    )

    def __init__(
        self,
        environment: Environment,
        config: LogConfig,
        folder: Path,
        *,
        base_offset: int,
        created_ms: int,
        ending: str = "",
    ) -> None:
        """`ending` is what the names of its files end in while compaction makes it, until `move_to`."""
        self.base_offset = base_offset
        self.size = 0
        self.created_ms = created_ms
        roll_after_ms = config.segment_ms
        if "compact" in config.cleanup_policy:  # only what has been rolled can be compacted (KIP-354)
            roll_after_ms = min(roll_after_ms, config.max_compaction_lag_ms)
        jitter = min(config.segment_jitter_ms, roll_after_ms)
        self.roll_after_ms = roll_after_ms - (environment.random_below(jitter) if jitter else 0)
        self.first_timestamp = NO_TIMESTAMP
        self.max_timestamp = NO_TIMESTAMP
        self.offset_of_max_timestamp = base_offset
        self.has_durable_name = False
        self.are_times_proven = True
        self.index_interval_bytes = config.index_interval_bytes
        self._bytes_since_entry = 0
        self._border = _NO_BORDER
        self._max_bytes = config.segment_bytes
        self._is_index_full = False
        self._synced_size = 0
        self._file = FileHolder(environment.pool, folder / (segment_file(base_offset, LOG) + ending))
        self._fs = environment.fs
        self._pwrite = environment.fs.pwrite
        self.offset_index = OffsetIndex(
            environment.indexes,
            folder / (segment_file(base_offset, OFFSET_INDEX) + ending),
            base_offset=base_offset,
            max_bytes=config.segment_index_bytes,
        )
        self.time_index = TimeIndex(
            environment.indexes,
            folder / (segment_file(base_offset, TIME_INDEX) + ending),
            base_offset=base_offset,
            max_bytes=config.segment_index_bytes,
        )
        self.txn_index = TransactionIndex(environment.indexes, folder / (segment_file(base_offset, TXN_INDEX) + ending))

    @property
    def path(self) -> Path:
        """Where the .log file is."""
        return self._file.path

    def should_roll(self, batch_bytes: int, last_offset: int, max_timestamp: int, now_ms: int) -> bool:
        """Whether a batch belongs into a new segment: by size, age, full indexes or too wide an offset range.

        Age is measured between the largest times of the first batch and of this one, so that segments of old data
        being copied in are cut as they were; only records without a time use the clock (Kafka's LogSegment).
        """
        size = self.size
        if size == 0:
            return False
        if size > self._max_bytes - batch_bytes or self._is_index_full:
            return True
        if self.first_timestamp != NO_TIMESTAMP and max_timestamp != NO_TIMESTAMP:
            age = max_timestamp - self.first_timestamp
        else:
            age = now_ms - self.created_ms
        return age > self.roll_after_ms or last_offset - self.base_offset > MAX_RELATIVE_OFFSET

    def append(self, batch: Buffer, last_offset: int, max_timestamp: int) -> None:
        """Write a patched batch at the end and keep the indexes. Raises OSError; the size then stays as it was."""
        holder = self._file
        file = holder.file or holder.open(create=True)
        holder.touched = holder.dirty = True
        size = len(batch)
        position = self.size
        written = self._pwrite(file.fd, batch, position)
        if written != size:
            write_all(self._fs, file.fd, memoryview(batch)[written:], position + written)
        self.account(position, size, last_offset, max_timestamp)

    @property
    def room(self) -> Room:
        """What may be added so that `should_roll` is false of each batch, and no entry is due before the last one."""
        if not self.size or self._is_index_full or self.first_timestamp == NO_TIMESTAMP:
            return NO_ROOM
        return Room(
            self.index_interval_bytes - self._bytes_since_entry,
            self._max_bytes - self.size,
            self.first_timestamp + self.roll_after_ms,
            self.base_offset + MAX_RELATIVE_OFFSET,
        )

    def append_run(self, run: Run) -> None:
        """Write patched batches that there is room for. Raises OSError; the size then stays as it was."""
        holder = self._file
        file = holder.file or holder.open(create=True)
        holder.touched = holder.dirty = True
        position = self.size
        data = b"".join(run.batches)
        written = self._pwrite(file.fd, data, position)
        if written != len(data):
            write_all(self._fs, file.fd, memoryview(data)[written:], position + written)
        if run.max_timestamp > self.max_timestamp:
            self.max_timestamp = run.max_timestamp
            self.offset_of_max_timestamp = run.offset_of_max_timestamp
        self._bytes_since_entry += run.size
        self.size = position + run.size

    def account(self, position: int, size: int, last_offset: int, max_timestamp: int) -> None:
        """Take a batch that lies at `position` into the indexes and the segment's figures."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.offset_of_max_timestamp = last_offset
        if position == 0:
            self.first_timestamp = max_timestamp
        gap = self._bytes_since_entry
        if gap > self.index_interval_bytes:
            self.offset_index.append(last_offset, position)
            self.time_index.append(self.max_timestamp, self.offset_of_max_timestamp)
            self._is_index_full = self.offset_index.is_full or self.time_index.is_full
            gap = 0
        self._bytes_since_entry = gap + size
        self.size = position + size

    def cut_back(self) -> None:
        """Cut what lies behind the size: the rest of a failed append, or of a torn tail. Raises OSError."""
        self._border = _NO_BORDER
        try:
            file = self.open()  # it may have been closed since, to make room for others
        except FileNotFoundError:
            return  # it could not even be made, so nothing was written
        self._fs.truncate(file.fd, self.size)

    def open(self) -> OpenFile:
        """The open .log file, for a reply that holds on to it while it is being sent."""
        holder = self._file
        holder.touched = True
        return holder.file or holder.open()

    def make_file(self) -> None:
        """Make the .log file if it is not there. From any thread. Raises OSError, with nothing changed."""
        self._file.open(create=True)

    def sync(self, check: Callable[[], None] | None = None) -> None:
        """Make the bytes written so far durable, not the file's name. Callable from a thread. Raises OSError.

        `check` is called before each step of many bytes, and may raise what ends it.
        """
        holder = self._file
        holder.dirty = False  # before, not after: a batch that is appended meanwhile makes it dirty again
        file = holder.open(create=True)
        size, position = self.size, self._synced_size
        while size - position > GENTLE_STEP_BYTES:
            if check is not None:
                check()
            self._fs.write_back(file.fd, position, GENTLE_STEP_BYTES, wait=True)
            position += GENTLE_STEP_BYTES
        self._fs.fdatasync(file.fd)
        self._synced_size = size

    def start_sync(self) -> None:
        """Get what `sync` would wait for on its way, if it is little. Callable from a thread. Raises OSError."""
        file, position = self._file.file, self._synced_size
        size = self.size - position
        if file is not None and 0 < size <= GENTLE_STEP_BYTES:
            self._fs.write_back(file.fd, position, size, wait=False)

    def note_max_timestamp(self) -> None:
        """Give the time index its last entry, as every roll and close does."""
        if self.max_timestamp != NO_TIMESTAMP:
            self.time_index.append(self.max_timestamp, self.offset_of_max_timestamp)

    def write_indexes(self) -> None:
        """Make the index files durable. Callable from a thread. Raises OSError."""
        for index in (self.offset_index, self.time_index, self.txn_index):
            if not index.is_written:
                index.write_out()

    def resume_indexes(self, offsets: bytes, times: bytes, *, below: int | None) -> None:
        """Take over sane index content, but for entries of offsets at or above `below`."""
        if below is not None:
            relative = below - self.base_offset
            offsets = offset_entries_below(offsets, relative)
            times = time_entries_below(times, relative)
        # What lies behind the last entry is read again, so times from there are not needed, and may be half written.
        times = time_entries_below(times, last_entry_offset(offsets) + 1)
        self.offset_index.resume(offsets)
        self.time_index.resume(times)
        self._is_index_full = self.offset_index.is_full or self.time_index.is_full
        last = self.time_index.last()
        if last is not None:
            self.max_timestamp, self.offset_of_max_timestamp = last
        self.offset_index.shed()
        self.time_index.shed()

    def forget_indexes(self) -> None:
        """Start the indexes and the figures kept with them anew, before they are rebuilt."""
        self.offset_index.resume(b"")
        self.time_index.resume(b"")
        self.size = self._bytes_since_entry = 0
        self._is_index_full = False
        self.max_timestamp = self.first_timestamp = NO_TIMESTAMP
        self.offset_of_max_timestamp = self.base_offset

    def seal(self) -> None:
        """Let go of the indexes in memory once the files hold them: no batch will follow."""
        for index in (self.offset_index, self.time_index, self.txn_index):
            index.seal(index.size)

    def find(self, offset: int) -> int | None:
        """Position of the first batch that ends at or after `offset`; None if the segment has none."""
        known, start = self.offset_index.floor(offset)
        if start and not self._is_true(known, start):
            self._remake(self.offset_index)
            start = self.offset_index.floor(offset)[1]
        before = start
        for position, last_offset, _ in self._walk(start):
            if last_offset >= offset:
                if before - start > max(self.index_interval_bytes, LONG_WALK_BYTES):
                    self._remake(self.offset_index)
                return position
            before = position
        return None

    def _is_true(self, last_offset: int, position: int) -> bool:
        """Whether an index entry names a batch: the file has no checksum, and a wrong one would skip records."""
        try:
            header = self.header_at(position)
        except StorageError:
            return False
        if header.last_offset != last_offset:
            return False
        self._border = (position, header.base_offset)
        return True

    def find_time(self, timestamp_ms: int, *, from_offset: int) -> tuple[int, BatchHeader] | None:
        """Position and header of the first batch at or after `from_offset` that holds a time >= `timestamp_ms`."""
        if self.proven_max_timestamp() < timestamp_ms:
            return None
        position = self._before_time(timestamp_ms, from_offset)
        while position is not None and position < self.size:
            header = self.header_at(position)
            if header.max_timestamp >= timestamp_ms:
                return position, header
            position += header.size
        return None

    def _before_time(self, timestamp_ms: int, from_offset: int) -> int | None:
        """Position of a batch at or after `from_offset`, with none before it there that holds a time so late."""
        entry = self.time_index.floor(timestamp_ms - 1)
        if entry.offset > from_offset and entry.offset != self.base_offset:  # else it makes nothing be passed over
            position = self.find(entry.offset)
            if position is not None:
                header = self.header_at(position)
                if header.max_timestamp == entry.timestamp_ms and header.base_offset <= entry.offset:
                    return position
            self._remake(self.time_index)
            entry = self.time_index.floor(timestamp_ms - 1)
        return self.find(max(entry.offset, from_offset))

    def proven_max_timestamp(self) -> int:
        """The largest time in it; -1 if there is none. Raises OSError.

        What an index file says of it is held against the log once, before lookups pass the segment over or retention
        deletes it.
        """
        if not self.are_times_proven:
            from logqueue.storage.index_truth import has_true_times

            self.are_times_proven = True
            if not has_true_times(self):
                self._remake(self.time_index)
        return self.max_timestamp

    def _remake(self, index: IndexFile) -> None:
        """Make an index anew from the log, after an entry was found to be wrong. Raises OSError."""
        from logqueue.storage.index_truth import remake_offset_index, remake_time_index

        log.error("%s is damaged; it is made anew from the log", index.path)
        if index is self.offset_index:
            remake_offset_index(self)
        else:
            remake_time_index(self)

    def scan(self, position: int) -> Scan:
        """The batches from `position` on, up to the first that is damaged."""
        return Scan(self._fs, self.open(), position=position, size=self.size, next_offset=self.base_offset)

    def cut(self, position: int, *, max_bytes: int, limit: int) -> int:
        """Where a read of at most `max_bytes` from `position` ends: at a batch border, `limit` at the latest.

        It prefers a border that the index knows, so that the next read is found without a scan; answers `position`
        itself if not even one batch fits.
        """
        if limit - position <= max_bytes:
            return limit
        known, indexed = self.offset_index.floor_position(position + max_bytes)
        if indexed > position:
            if not self._is_true(known, indexed):
                self._remake(self.offset_index)
                indexed = self.offset_index.floor_position(position + max_bytes)[1]
            if indexed > position:
                return indexed
        end = position
        for _, _, size in self._walk(position):
            if end + size > min(position + max_bytes, limit):
                break
            end += size
        return end

    def batch_end(self, position: int) -> int:
        """Where the batch at `position` ends."""
        return position + self.header_at(position).size

    def read_at(self, size: int, position: int) -> bytes:
        """Some bytes of the .log file. Raises OSError."""
        file = self.open()  # held until the bytes are there: another thread may evict it meanwhile
        return self._fs.pread(file.fd, size, position)

    def header_at(self, position: int) -> BatchHeader:
        """Header of the batch at `position`. Raises StorageError if there is none."""
        if position < 0:  # from a damaged index
            raise StorageError(f"{self.path} has no position {position}")
        return stored_header(self.read_at(HEADER_SIZE, position), position)

    def offset_at(self, position: int) -> int:
        """Base offset of the batch at `position`; the one that a lookup has just seen costs no read."""
        seen, base_offset = self._border
        if seen == position:
            return base_offset
        offset: int = _OFFSET.unpack(self.read_at(_OFFSET.size, position))[0]
        return offset

    def _walk(self, position: int) -> Iterator[tuple[int, int, int]]:
        """(position, last offset, size) of the batches from `position` on, read a few KiB of headers at a time."""
        while position < self.size:
            chunk = self.read_at(_WALK_BYTES, position)
            at, end = 0, min(len(chunk) - HEADER_SIZE, self.size - position - HEADER_SIZE)
            while at <= end:
                base_offset, length, last_offset_delta = _WALKED.unpack_from(chunk, at)
                if length < MIN_BATCH_LENGTH:
                    break
                size = length + LENGTH_PREFIX
                yield position + at, base_offset + last_offset_delta, size
                at += size
            if at == 0:
                raise StorageError(f"{self.path} holds no batch at position {position}")
            position += at

    def largest_timestamp(self) -> int:
        """The largest time in it; without any, when its file was last changed. Raises OSError."""
        largest = self.proven_max_timestamp()
        if largest != NO_TIMESTAMP or not self.size:
            return largest
        return self._fs.modified_ms(self.open().fd)

    def first_batch_timestamp(self) -> int:
        """The largest time of its first batch; -1 if there is none. Raises OSError."""
        if self.first_timestamp == NO_TIMESTAMP and self.size:
            self.first_timestamp = self.header_at(0).max_timestamp
        return self.first_timestamp

    def move_to(self, ending: str) -> None:
        """Give the files their names with another ending, the .log last. Readers may go on meanwhile.

        Any thread. Raises OSError.
        """
        for suffix, index in (
            (TXN_INDEX, self.txn_index),
            (TIME_INDEX, self.time_index),
            (OFFSET_INDEX, self.offset_index),
        ):
            index.rename(self.path.with_name(segment_file(self.base_offset, suffix) + ending))
        self._file.rename(self.path.with_name(segment_file(self.base_offset, LOG) + ending))

    def let_go(self) -> Readers:
        """Close the files as soon as no reply uses them; answers the .log, as often as it is open."""
        readers = self._file.readers()
        self.release()
        return readers

    def release(self) -> None:
        """Close the file as soon as no reply uses it."""
        self._file.release()
        self.offset_index.forget()
        self.time_index.forget()
        self.txn_index.forget()
