"""How a log is compacted, step by step: what runs where is up to the owner. Knows no processes and no loop.

prepare   any thread     everything before the active segment is synced, and the recovery point says so on the disk
job       owner's        what is to be read, as a value
          elsewhere      `Compactor` reads, and writes `.cleaned` files
stage     any thread     .cleaned -> .swap                       from here on a start completes what a crash ends
swap      owner's        the log reads from the new segment; whoever reads the old file goes on
settle    any thread     old segments -> .deleted, .swap -> .log
finish    any thread     `cleaner-offset-checkpoint`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary, WeakValueDictionary

from logqueue.ids import TopicPartition
from logqueue.storage.compaction.job import LOAD_FACTOR, CleanedSegment, CompactionDone, CompactionJob, SourceSegment
from logqueue.storage.compaction.plan import CompactionPlan, plan_compaction
from logqueue.storage.environment import Environment
from logqueue.storage.file_system import remove_gently
from logqueue.storage.log import PartitionLog
from logqueue.storage.log_directory import LogDirectory
from logqueue.storage.names import (
    CLEANED,
    LOG,
    OFFSET_INDEX,
    SEGMENT_SUFFIXES,
    SWAP,
    TIME_INDEX,
    TXN_INDEX,
    segment_file,
)
from logqueue.storage.open_files import OpenFile
from logqueue.storage.segment import Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionLimits:
    """What one compaction may use (log.cleaner.*): bytes of memory for keys, bytes read at once, bytes a second."""

    memory_bytes: int = 128 * 1024 * 1024
    load_factor: float = LOAD_FACTOR
    buffer_bytes: int = 512 * 1024
    max_bytes_per_second: float = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A compacted segment, and those it replaces; `new` is a value of the log only after `swap`."""

    log: PartitionLog
    old: tuple[Segment, ...]
    new: Segment
    folder: OpenFile
    """The log's folder, open until all is settled: nothing is declared that could not be made durable."""


class Cleaning:
    """The steps, for all logs of a data folder."""

    def __init__(self, directory: LogDirectory, environment: Environment) -> None:
        self._directory = directory
        self._environment = environment
        self._fs = environment.fs
        self._at_work: WeakValueDictionary[TopicPartition, PartitionLog] = WeakValueDictionary()
        self._refused: WeakKeyDictionary[PartitionLog, tuple[Segment, OpenFile]] = WeakKeyDictionary()

    def plan(self, log: PartitionLog, *, stable_offset: int, now_ms: int) -> CompactionPlan:
        """What could be compacted below `stable_offset`. Owner's thread. Raises OSError."""
        return plan_compaction(
            log.segments,
            log.config,
            clean_offset=self._directory.cleaned.get(log.partition),
            log_start_offset=log.log_start_offset,
            log_end_offset=log.log_end_offset,
            stable_offset=min(stable_offset, log.last_stable_offset),
            now_ms=now_ms,
        )

    def prepare(self, log: PartitionLog) -> int:
        """Make a log durable and its recovery point with it; answers the offset below which it may be compacted.

        A recovery takes gaps in the offsets above its recovery point for damage, and cuts. Raises StorageError.
        """
        self._take_back_refused(log)  # if the one before did not come to it
        log.sync()
        log.advance_recovery_point(force=True)
        self._directory.checkpoint()
        return self._directory.written_recovery_point(log.partition)

    def job(self, log: PartitionLog, plan: CompactionPlan, limits: CompactionLimits, *, now_ms: int) -> CompactionJob:
        """The plan as work for a Compactor. Owner's thread. Raises OSError."""
        self._at_work[log.partition] = log
        segments = log.segments
        return CompactionJob(
            folder=log.folder,
            segments=tuple(
                SourceSegment(
                    base_offset=segment.base_offset,
                    size=segment.size,
                    offset_index_bytes=segment.offset_index.size,
                    time_index_bytes=segment.time_index.size,
                )
                for segment in segments
                if segment.base_offset < plan.end_offset
            ),
            dirty_offset=plan.dirty_offset,
            end_offset=plan.end_offset,
            now_ms=now_ms,
            delete_retention_ms=log.config.delete_retention_ms,
            segment_bytes=log.config.segment_bytes,
            segment_index_bytes=log.config.segment_index_bytes,
            index_interval_bytes=log.config.index_interval_bytes,
            memory_bytes=limits.memory_bytes,
            load_factor=limits.load_factor,
            buffer_bytes=limits.buffer_bytes,
            max_bytes_per_second=limits.max_bytes_per_second,
            aborted=tuple(entry for segment in segments for entry in segment.txn_index.entries()),
            last_batches=tuple(
                (entry.producer_id, entry.batches[-1].last_offset if entry.batches else None, entry.epoch)
                for entry in log.producer_state
            ),
        )

    def stage(self, log: PartitionLog, cleaned: CleanedSegment, segments: dict[int, Segment]) -> Replacement:
        """Declare an output complete, and make a segment of it. `segments` are those of the job.

        Raises OSError while nothing is declared. After that only a start could tell what holds, so StorageError, and
        the data folder takes no more writes.
        """
        folder = OpenFile(self._fs.open_dir(log.folder), self._fs.close)
        names = {suffix: segment_file(cleaned.base_offset, suffix) for suffix in SEGMENT_SUFFIXES}
        for suffix in (TXN_INDEX, TIME_INDEX, OFFSET_INDEX):
            if suffix == TXN_INDEX and not cleaned.txn_index_bytes:
                continue
            self._fs.rename(log.folder / (names[suffix] + CLEANED), log.folder / (names[suffix] + SWAP))
        try:
            self._fs.rename(log.folder / (names[LOG] + CLEANED), log.folder / (names[LOG] + SWAP))
            self._fs.fsync_dir(log.folder, folder.fd)
        except FileNotFoundError:
            raise  # the topic was deleted, and its folder with it
        except OSError as error:
            raise self._environment.health.fail(f"swapping segments in {log.folder}", error) from error
        new = Segment(
            self._environment, log.config, log.folder, base_offset=cleaned.base_offset, created_ms=0, ending=SWAP
        )
        new.has_durable_name = True
        new.size = cleaned.size
        new.first_timestamp = cleaned.first_timestamp
        new.max_timestamp = cleaned.max_timestamp
        new.offset_of_max_timestamp = cleaned.offset_of_max_timestamp
        new.offset_index.seal(cleaned.offset_index_bytes)
        new.time_index.seal(cleaned.time_index_bytes)
        new.txn_index.seal(cleaned.txn_index_bytes)
        return Replacement(log=log, old=tuple(segments[base] for base in cleaned.replaces), new=new, folder=folder)

    def swap(self, replacement: Replacement) -> bool:
        """Let the log read from the new segment. Owner's thread. False if it has lost the old ones meanwhile.

        Then `discard` is to follow: a start would still complete the swap.
        """
        is_swapped = replacement.log.replace(replacement.old, replacement.new)
        if not is_swapped:
            self._refused[replacement.log] = (replacement.new, replacement.folder)
        return is_swapped

    def settle(self, replacement: Replacement, *, now_ms: int) -> None:
        """Give old and new files their last names, in an order that a start can read.

        Raises StorageError; the data folder then takes no more writes, and a start completes the swap.
        """
        with replacement.log.retired.holding() as is_ours:
            if is_ours:  # otherwise the topic was deleted
                try:
                    self._settle(replacement, now_ms)
                except OSError as error:
                    raise self._environment.health.fail(
                        f"swapping segments in {replacement.log.folder}", error
                    ) from error

    def _settle(self, replacement: Replacement, now_ms: int) -> None:
        log, old, fd = replacement.log, replacement.old, replacement.folder.fd
        retired, delay_ms = log.retired, log.config.file_delete_delay_ms
        log.forget(old)
        for segment in reversed(old[1:]):
            retired.rename_files(segment, now_ms=now_ms, delay_ms=delay_ms)
        if old[1:]:
            self._fs.fsync_dir(log.folder, fd)
        retired.rename_files(old[0], now_ms=now_ms, delay_ms=delay_ms, log_last=True)
        self._fs.fsync_dir(log.folder, fd)
        replacement.new.move_to("")
        self._fs.fsync_dir(log.folder, fd)

    def finish(self, partition: TopicPartition, done: CompactionDone) -> None:
        """Note how far the log is compacted, unless its topic was deleted meanwhile. Raises OSError."""
        log = self._at_work.get(partition)
        self._directory.cleaned.set(
            partition,
            done.clean_offset,
            is_there=lambda: log is not None and self._directory.logs.get(partition) is log,
        )

    def discard(self, log: PartitionLog) -> None:
        """Remove the outputs of a compaction that was broken off. Any thread. Raises OSError or StorageError."""
        self._take_back_refused(log)
        for name in self._fs.list_dir(log.folder):
            if name.endswith(CLEANED):
                remove_gently(self._fs, log.folder / name)

    def _take_back_refused(self, log: PartitionLog) -> None:
        refused = self._refused.pop(log, None)
        if refused is None:
            return
        with log.retired.holding() as is_ours:
            if is_ours:  # otherwise the topic was deleted
                try:
                    self._take_back(log, *refused)
                except OSError as error:
                    raise self._environment.health.fail(f"swapping segments in {log.folder}", error) from error

    def _take_back(self, log: PartitionLog, refused: Segment, folder: OpenFile) -> None:
        """Declare a staged output incomplete again. The .log goes first: without it the others count nothing.

        It is renamed before anything removes it, since that may shrink it in steps, and a start would believe the rest.
        """
        refused.release()
        for suffix in SEGMENT_SUFFIXES:
            name = segment_file(refused.base_offset, suffix)
            try:
                self._fs.rename(log.folder / (name + SWAP), log.folder / (name + CLEANED))
            except FileNotFoundError:
                continue  # not every segment has a transaction index
            if suffix == LOG:
                self._fs.fsync_dir(log.folder, folder.fd)

    def compact(
        self,
        log: PartitionLog,
        *,
        now_ms: int,
        stable_offset: int | None = None,
        limits: CompactionLimits | None = None,
        is_due: Callable[[CompactionPlan], bool] = lambda plan: plan.is_due,
    ) -> CompactionDone | None:
        """All steps in a row, on the owner's thread: for tools and tests. None if there is nothing to do."""
        from logqueue.storage.compaction.compactor import Compactor  # which a broker leaves to another process

        stable_offset = log.log_end_offset if stable_offset is None else stable_offset
        stable_offset = min(stable_offset, self.prepare(log))
        plan = self.plan(log, stable_offset=stable_offset, now_ms=now_ms)
        if not plan.dirty_bytes or not is_due(plan):
            return None
        segments = {segment.base_offset: segment for segment in log.segments}
        for result in Compactor(self._fs, self.job(log, plan, limits or CompactionLimits(), now_ms=now_ms)).run():
            if isinstance(result, CompactionDone):
                self.finish(log.partition, result)
                return result
            replacement = self.stage(log, result, segments)
            if not self.swap(replacement):
                self.discard(log)
                return None
            self.settle(replacement, now_ms=now_ms)
        return None
