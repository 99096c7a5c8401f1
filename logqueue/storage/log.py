"""The log of one partition: append, read, roll, delete. Knows batches as bytes with a header; no requests, no loop.

Everything runs on the owner's thread, except what says that it may be called from any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

from logqueue.config import LogConfig
from logqueue.errors import KafkaError
from logqueue.ids import TopicPartition
from logqueue.records.batch import CONTROL, NO_PRODUCER_ID, BatchHeader, parse_header, patch
from logqueue.records.control import ControlType, EndTransactionMarker, marker_batch
from logqueue.records.errors import MessageTooLarge
from logqueue.records.validation import BatchRules, recompress, stamp, validate_produced
from logqueue.storage.durability import Durability
from logqueue.storage.environment import Environment
from logqueue.storage.errors import DiskFull, OffsetOutOfRange
from logqueue.storage.file_system import DISK_FULL
from logqueue.storage.health import Health
from logqueue.storage.leader_epochs import LeaderEpochs
from logqueue.storage.markers import note_marker
from logqueue.storage.names import PARTITION_METADATA
from logqueue.storage.partition_metadata import format_metadata
from logqueue.storage.producer_snapshot import format_snapshot
from logqueue.storage.producer_state import NO_OFFSET, ProducerState
from logqueue.storage.results import AppendResult, FetchSlice, Origin, append_result
from logqueue.storage.retired import RetiredSegments
from logqueue.storage.segment import Segment
from logqueue.storage.segment_list import SegmentList, TimestampOffset
from logqueue.storage.snapshots import Snapshots
from logqueue.storage.txn_index import AbortedTransaction

if TYPE_CHECKING:
    from logqueue.storage.recovery import LoadedLog


class PartitionLog:
    """Record batches of one partition in offset order.

    `log_start_offset` is the first offset that may be read, `log_end_offset` the next one to be given,
    `durable_offset` the end of what an fsync has covered. The folder and its files appear with the first append.
    """

    def __init__(
        self,
        partition: TopicPartition,
        folder: Path,
        config: LogConfig,
        environment: Environment,
        *,
        topic_id: UUID,
        loaded: LoadedLog | None = None,
        log_start_offset: int = 0,
    ) -> None:
        self.partition = partition
        self.folder = folder
        self.topic_id = topic_id
        self._environment = environment
        self._fs = environment.fs
        self._health = environment.health
        self.producer_state = loaded.producers if loaded else ProducerState()
        self._epochs = loaded.epochs if loaded else LeaderEpochs()
        self._segments = SegmentList(loaded.segments if loaded else [])
        self._active = loaded.segments[-1] if loaded else None
        self.log_start_offset = loaded.log_start_offset if loaded else log_start_offset
        self.log_end_offset = loaded.log_end_offset if loaded else log_start_offset
        self._durability = Durability(
            environment,
            folder,
            self._epochs,
            end=(self.log_end_offset, self._active, self._active.size if self._active else 0),
            is_closed=loaded is not None and loaded.was_clean,
        )
        self._has_folder = loaded is not None
        self.retired = RetiredSegments(environment.fs, folder)
        """The segments on their way off the disk."""
        self._snapshots = Snapshots(folder, self._durability, self.retired, loaded.snapshots if loaded else [])
        self.configure(config)

    def configure(self, config: LogConfig) -> None:
        """Use another configuration from now on; limits of segments apply from the next segment on."""
        self.config = config
        self._rules = BatchRules.of(config)

    # State

    @property
    def durable_offset(self) -> int:
        """Everything below is on the disk, synced. Any thread."""
        return self._durability.durable[0]

    @property
    def recovery_point(self) -> int:
        """Where a recovery would start checking. Any thread."""
        return self._durability.recovery_point

    @property
    def is_closed(self) -> bool:
        """Whether the files are as a clean shutdown leaves them."""
        return self._active is None or self._durability.is_closed

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._segments)

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    @property
    def is_flush_due(self) -> bool:
        """Whether so much waits for a flush that a recovery would take long. Any thread."""
        return self._durability.is_flush_due

    @property
    def leader_epoch(self) -> int:
        """The newest leader epoch that wrote here; -1 before the first."""
        return self._epochs.latest

    def epoch_of(self, offset: int) -> int:
        """The leader epoch that wrote an offset; -1 if unknown."""
        return self._epochs.epoch_of(offset)

    # Append

    def append(
        self,
        batch: bytearray | memoryview,
        *,
        leader_epoch: int,
        now_ms: int,
        origin: Origin = Origin.CLIENT,
    ) -> AppendResult:
        """Check one batch, give it its offsets in place and write it with one call.

        A batch that an idempotent producer sent before is not written again: the answer is that of the first time.
        A transactional batch opens its producer's transaction here, unless one is open; whether the coordinator knows
        of it is for the caller to ask, between `producer_state.verifications.begin` and this.
        Raises the errors of `validate_produced`, InvalidProducerEpoch, OutOfOrderSequence, InvalidTxnState, or
        StorageError; after any of them nothing of the batch is in the log.
        """
        if self._health.failure is not None:
            self._health.check()
        view = batch if type(batch) is memoryview else memoryview(batch)
        rules = self._rules
        if origin is Origin.CLIENT:
            header = validate_produced(view, rules, now_ms=now_ms)
            if header.producer_id != NO_PRODUCER_ID:
                duplicate = self._check_producer(header)
                if duplicate is not None:
                    return duplicate
        else:
            header = self._check_own(view)
        if rules.codec is not None and header.codec != rules.codec and not header.is_control:
            view = memoryview(recompress(view, header, rules.codec, level=rules.level))
            header = parse_header(view)
        if rules.log_append_time:
            header = stamp(view, header, now_ms)
        base_offset = self.log_end_offset
        last_offset = base_offset + header.last_offset_delta
        patch(view, 0, base_offset, leader_epoch)
        segment = self._active
        max_timestamp = header.max_timestamp
        try:
            if segment is None or segment.should_roll(len(view), last_offset, max_timestamp, now_ms):
                segment = self._roll(now_ms)
            segment.append(view, last_offset, max_timestamp)
        except OSError as error:
            self._undo(error)
        if leader_epoch != self._epochs.latest:
            self._epochs.assign(leader_epoch, base_offset)
        if header.producer_id != NO_PRODUCER_ID:
            self._note_producer(header._replace(base_offset=base_offset), view, segment)
        end_offset = self.log_end_offset = last_offset + 1
        self._durability.end = (end_offset, segment, segment.size)
        append_time_ms = now_ms if rules.log_append_time else -1
        return append_result((base_offset, last_offset, append_time_ms, self.log_start_offset, False))

    def _undo(self, error: OSError) -> NoReturn:
        """After a failed write: a full disk is survived if the file can be cut back, anything else ends writing."""
        action = f"writing to {self.folder}"
        if error.errno not in DISK_FULL:
            raise self._health.fail(action, error) from error
        try:
            if self._active is not None:
                self._active.cut_back()
        except OSError as second:
            raise self._health.fail(action, second) from second
        raise DiskFull(f"{action} failed: {error.strerror}. Nothing was stored; free some space") from error

    def append_marker(
        self,
        producer_id: int,
        producer_epoch: int,
        *,
        commit: bool,
        coordinator_epoch: int,
        leader_epoch: int,
        now_ms: int,
        transaction_version: int = 0,
    ) -> AppendResult:
        """Write the marker that ends a producer's transaction here, whether or not it has one open (KIP-98).

        Raises InvalidProducerEpoch, TransactionCoordinatorFenced or StorageError; then there is no marker.
        """
        self.producer_state.check_marker(
            producer_id, producer_epoch, coordinator_epoch=coordinator_epoch, transaction_version=transaction_version
        )
        marker = EndTransactionMarker(ControlType.COMMIT if commit else ControlType.ABORT, coordinator_epoch)
        batch = marker_batch(marker, producer_id=producer_id, producer_epoch=producer_epoch, timestamp_ms=now_ms)
        return self.append(batch, leader_epoch=leader_epoch, now_ms=now_ms, origin=Origin.COORDINATOR)

    def _check_own(self, batch: memoryview) -> BatchHeader:
        """The header of a batch that the broker built itself: its size and its producer's epoch are in question."""
        header = parse_header(batch)
        assert header.size == len(batch), "a coordinator appends one batch at a time"
        if header.size > self._rules.max_message_bytes and not header.is_control:
            limit = self._rules.max_message_bytes
            raise MessageTooLarge(f"The batch has {header.size} bytes; max.message.bytes is {limit}")
        if header.producer_id != NO_PRODUCER_ID and not header.is_control:
            self.producer_state.check_unsequenced(header)
        return header

    def _check_producer(self, header: BatchHeader) -> AppendResult | None:
        """Refuse a batch out of order; answer for one that is in the log already."""
        duplicate = self.producer_state.find_duplicate(header)
        if duplicate is not None:
            # Kafka tells the first one's time here, whoever set it.
            return AppendResult(
                duplicate.first_offset,
                duplicate.last_offset,
                duplicate.timestamp_ms,
                self.log_start_offset,
                is_duplicate=True,
            )
        self.producer_state.check(header)
        return None

    def _note_producer(self, header: BatchHeader, batch: memoryview, segment: Segment) -> None:
        if header.attributes & CONTROL:
            entry = note_marker(self.producer_state, header, batch)
            if entry is not None:
                segment.txn_index.append(entry)
        else:
            self.producer_state.update(header)

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

    # Segments

    def _roll(self, now_ms: int) -> Segment:
        """Begin a segment at the log's end; the log's folder comes with the first one. Raises OSError."""
        if not self._has_folder:
            self._make_folder()
        if self._active is not None:
            self._write_snapshot(self.log_end_offset)
        segment = Segment(
            self._environment, self.config, self.folder, base_offset=self.log_end_offset, created_ms=now_ms
        )
        self._segments.append(segment)
        self._durability.add_segment(segment)
        self._active = segment
        return segment

    def _make_folder(self) -> None:
        self._fs.mkdir(self.folder)
        self._durability.write_file(self.folder / PARTITION_METADATA, format_metadata(self.topic_id))
        self._durability.add_folder()
        self._has_folder = True

    def _write_snapshot(self, *next_base: int) -> None:
        bases = [*(segment.base_offset for segment in self._segments), *next_base]
        self._snapshots.write(format_snapshot(self.producer_state), bases=bases)

    def note_producers(self) -> bool:
        """Store the producer state if the log has grown much since that was done: a recovery then replays less.

        Answers whether it was. The next flush makes it durable. Raises StorageError.
        """
        if not self._snapshots.is_due:
            return False
        self._health.check()
        try:
            self._write_snapshot()
        except OSError as error:
            self._undo(error)
        return True

    # What goes

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, oldest first; the last one is written to."""
        return tuple(self._segments)

    def delete_records_before(self, offset: int) -> int:
        """Move the log's start up to `offset`; answers the new start. Segments below it go with `retire_before`.

        The new start is remembered across a restart from the next `LogDirectory.checkpoint` on. Raises
        OffsetOutOfRange.
        """
        if not 0 <= offset <= self.log_end_offset:
            raise OffsetOutOfRange(offset, start=self.log_start_offset, end=self.log_end_offset)
        if offset <= self.log_start_offset:
            return self.log_start_offset
        self._health.check()
        self.log_start_offset = offset
        self._epochs.start_at(offset)
        return offset

    def roll(self, now_ms: int) -> None:
        """Begin a new segment, so that all there are now may go. Raises StorageError."""
        if self._active is None or not self._active.size:
            return
        self._health.check()
        try:
            segment = self._roll(now_ms)
        except OSError as error:
            self._undo(error)
        self._durability.end = (self.log_end_offset, segment, 0)

    def retire_before(self, offset: int) -> int:
        """Take out the segments that are synced and lie wholly below `offset`; answers how many.

        The log starts with the first that is left, if not later. The files go with `purge`.
        """
        removed = self._segments.remove_before(offset, may_go=self._durability.let_go)
        for segment in removed:
            self.retired.add(segment)
        if removed:
            start = next(iter(self._segments)).base_offset
            if start > self.log_start_offset:
                self.log_start_offset = start
                self._epochs.start_at(start)
        return len(removed)

    def replace(self, old: Sequence[Segment], new: Segment) -> bool:
        """Put a compacted segment in the place of those it was made from; False if they are not there any more."""
        return self._segments.replace(old, new)

    def forget(self, segments: Iterable[Segment]) -> None:
        """No flush touches these replaced segments any more: their files get other names. Not the owner's thread."""
        self._durability.forget(segments)

    def purge(self, now_ms: int, *, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Rename retired segments' files, and remove those whose `file.delete.delay.ms` is over; says how many.

        It ends between two files when `goes_on` says no. Any thread, one at a time. Raises StorageError or OSError.
        """
        retired = self.retired
        if retired.has_unnamed:
            self._durability.sync_names()  # the log must not lose its last segment before the next one has a name
            try:
                retired.rename(now_ms=now_ms, delay_ms=self.config.file_delete_delay_ms)
            except OSError as error:
                raise self._health.fail(f"renaming files in {self.folder}", error) from error
        return retired.remove(now_ms=now_ms, goes_on=goes_on)

    # Read

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

    # Durability

    def flush(self) -> int:
        """Sync everything appended before this call; answers the durable offset. Any thread, appends may go on.

        Raises StorageError when the disk fails; the whole data folder then takes no more writes.
        """
        return self._durability.flush()

    def start_flush(self) -> None:
        """Get what `flush` would wait for on its way to the disk, without waiting. Any thread."""
        self._durability.start_flush()

    def advance_recovery_point(self, *, force: bool = False) -> int:
        """Write index entries out so that a recovery starts later; answers the recovery point. Any thread."""
        return self._durability.advance_recovery_point(force=force)

    def close(self) -> None:
        """Make everything durable, with indexes and producers, and let go of the files. Raises StorageError."""
        if not self.is_closed:
            self._health.check()
            try:
                self._write_snapshot()
                self._durability.close()
            except OSError as error:
                raise self._health.fail(f"closing {self.folder}", error) from error
        self.release()

    def abandon(self, reason: KafkaError) -> None:
        """The log is being deleted: every later append or flush raises `reason`; nothing is written any more."""
        self._health = Health(reason)
        self._durability.abandon(reason)
        self.retired.close()
        self.release()

    def release(self) -> None:
        """Let go of the files without writing anything."""
        for segment in self._segments:
            segment.release()
