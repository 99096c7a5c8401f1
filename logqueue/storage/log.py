"""The log of one partition: append, roll, delete. Knows batches as bytes with a header; no requests, no loop.

Everything runs on the owner's thread, except what says that it may be called from any. `log_reads` has what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
from logqueue.storage.durability import Claim, Durability
from logqueue.storage.environment import Environment
from logqueue.storage.errors import DiskFull, OffsetOutOfRange
from logqueue.storage.file_system import DISK_FULL, NO_DESCRIPTORS, PASSING, remedy
from logqueue.storage.health import Health
from logqueue.storage.leader_epochs import LeaderEpochs
from logqueue.storage.log_reads import LogReads
from logqueue.storage.markers import note_marker
from logqueue.storage.names import PARTITION_METADATA
from logqueue.storage.ownership import check_vacant
from logqueue.storage.partition_metadata import format_metadata
from logqueue.storage.producer_snapshot import format_snapshot
from logqueue.storage.producer_state import ProducerState
from logqueue.storage.results import AppendResult, Origin, append_result
from logqueue.storage.retired import RetiredSegments
from logqueue.storage.run import NO_ROOM, Run
from logqueue.storage.segment import Segment
from logqueue.storage.segment_list import SegmentList
from logqueue.storage.snapshots import Snapshots

if TYPE_CHECKING:
    from logqueue.storage.recovery import LoadedLog


class PartitionLog(LogReads):
    """Record batches of one partition in offset order.

    `log_start_offset` is the first offset that may be read, `log_end_offset` the next one to be given,
    `durable_offset` the end of what a power cut would leave. The folder and its files appear with the first append.
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
            recovery_point=loaded.recovery_point if loaded else 0,
            unwritten=loaded.unwritten if loaded else (),
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

    def append_together(
        self, batches: Sequence[bytearray | memoryview], *, leader_epoch: int, now_ms: int
    ) -> list[AppendResult | KafkaError]:
        """As `append` of clients' batches one after the other, with one call for those that lie side by side.

        Answers for each where it is, or why it is not in the log.
        """
        results: list[AppendResult | KafkaError] = []
        run = self._begin_run(leader_epoch)
        rules, log_start_offset = self._rules, self.log_start_offset
        for batch in batches:
            try:
                header = validate_produced(memoryview(batch), rules, now_ms=now_ms)
                if header.producer_id != NO_PRODUCER_ID:
                    if header.producer_id in run.producers:
                        self._write(run, results)  # its next batch may only come when this one is in the log
                    duplicate = self._check_producer(header)
                    if duplicate is not None:
                        results.append(duplicate)
                        continue
                base_offset = run.end_offset
                last_offset = run.add(batch, header)
                if last_offset < 0:
                    self._write(run, results)
                    try:
                        results.append(self.append(batch, leader_epoch=leader_epoch, now_ms=now_ms))
                    finally:
                        run = self._begin_run(leader_epoch)  # the segment may be another one even if that failed
                else:
                    patch(batch, 0, base_offset, leader_epoch)
                    results.append(append_result((base_offset, last_offset, -1, log_start_offset, False)))
            except KafkaError as error:
                results.append(error)
        self._write(run, results)
        return results

    def _begin_run(self, leader_epoch: int) -> Run:
        """A run of batches that are stored as they came."""
        rules, segment = self._rules, self._active
        is_possible = rules.codec is None and not rules.log_append_time and leader_epoch == self._epochs.latest
        room = segment.room if segment is not None and is_possible and self._health.failure is None else NO_ROOM
        return Run(self.log_end_offset, room)

    def _write(self, run: Run, results: list[AppendResult | KafkaError]) -> None:
        """Write what is in a run, which is empty then. Where that fails, its batches' answers are the error."""
        if not run.batches:
            return
        segment, first_offset = self._active, self.log_end_offset
        assert segment is not None, "a run goes on in a segment"
        try:
            try:
                segment.append_run(run)
            except OSError as error:
                self._undo(error)
        except KafkaError as error:
            for place, result in enumerate(results):
                if isinstance(result, AppendResult) and result.base_offset >= first_offset:
                    results[place] = error
        else:
            for header, batch in run.producers.values():
                self._note_producer(header, memoryview(batch), segment)
            self.log_end_offset = run.end_offset
            self._durability.end = (run.end_offset, segment, segment.size)
        run.clear(self.log_end_offset, segment.room)

    def _undo(self, error: OSError) -> NoReturn:
        """After a failed write: a full disk is survived if the file can be cut back, and so is a file that could not
        be opened; anything else ends writing.
        """
        action = f"writing to {self.folder}"
        if error.errno not in PASSING:
            raise self._health.fail(action, error) from error
        try:
            if self._active is not None and error.errno in DISK_FULL:
                self._active.cut_back()
        except OSError as second:
            raise self._health.fail(action, second) from second
        raise DiskFull(f"{action} failed: {error.strerror}. Nothing was stored; {remedy(error)}") from error

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

    # Segments

    def _roll(self, now_ms: int) -> Segment:
        """Begin a segment at the log's end; the log's folder comes with the first. Raises OSError, StorageError."""
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
        check_vacant(self._fs, self.folder)  # it may have been copied here since the topic was created
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

        It ends between two files when `goes_on` says no. Any thread, one at a time. Raises StorageError or OSError,
        once all is removed that can be.
        """
        retired = self.retired
        try:
            if retired.has_unnamed:
                self._durability.sync_names()  # the log must not lose its last segment before the next one has a name
                try:
                    retired.rename(now_ms=now_ms, delay_ms=self.config.file_delete_delay_ms)
                except OSError as error:
                    action = f"renaming files in {self.folder}"
                    raise self._health.fail(action, error, passing=NO_DESCRIPTORS) from error
        finally:
            count = retired.remove(now_ms=now_ms, goes_on=goes_on)
        return count

    # Durability

    def flush(self) -> int:
        """Make everything appended before this call durable; answers the durable offset. Any thread, appends may go on.

        Raises StorageError when the disk fails; the whole data folder then takes no more writes.
        """
        return self._durability.flush()

    def sync(self) -> None:
        """As `flush`, but into the log's own files, whatever the journal holds. Any thread. Raises StorageError."""
        self._durability.sync()

    def claim(self, most_bytes: int) -> Claim | None:
        """What was appended since the last flush, for a journal; see `Durability.claim`. Any thread."""
        return self._durability.claim(most_bytes)

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
