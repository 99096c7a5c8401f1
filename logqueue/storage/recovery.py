"""Opening a log that is on disk: torn tails, indexes, producers. The log itself does not know how it came back.

After a clean shutdown everything but the tail of the last segment is taken as it is. Otherwise every batch from the
recovery point on is checked, the log is cut at the first defect, indexes and producer state are rebuilt, and what
was accepted is synced before it is served: bytes that a crashed process left in the page cache must not be read by a
consumer and then vanish with the power.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import NamedTuple

from logqueue.config import LogConfig
from logqueue.records.batch import NO_TIMESTAMP
from logqueue.storage import offset_index, time_index
from logqueue.storage.environment import Environment
from logqueue.storage.file_system import PASSING, NoSpace, remedy, remove_gently
from logqueue.storage.index_truth import has_true_times
from logqueue.storage.leader_epochs import LeaderEpochs
from logqueue.storage.leftovers import clear_leftovers
from logqueue.storage.names import (
    LEADER_EPOCHS,
    LOG,
    OFFSET_INDEX,
    SEGMENT_SUFFIXES,
    SNAPSHOT,
    TIME_INDEX,
    parse_segment_file,
    segment_file,
)
from logqueue.storage.producer_recovery import ProducerRecovery
from logqueue.storage.producer_snapshot import snapshots_to_keep
from logqueue.storage.producer_state import ProducerState
from logqueue.storage.scan import Scan
from logqueue.storage.segment import Segment

log = logging.getLogger("logqueue.storage.recovery")


class Cut(NamedTuple):
    """A log that was cut on recovery: where, how many bytes went, and what was wrong there."""

    file: Path
    position: int
    bytes_removed: int
    offset: int
    reason: str
    was_durable: bool  # the bytes had been synced: not a torn tail but damage

    def __str__(self) -> str:
        what = "records that had been synced are damaged" if self.was_durable else "torn tail of a crash"
        return (
            f"{self.file}: {what}; cut at offset {self.offset} (position {self.position}), "
            f"{self.bytes_removed} bytes removed: {self.reason}"
        )


class LoadedLog(NamedTuple):
    """What was found on disk, ready to be served."""

    segments: list[Segment]
    producers: ProducerState
    epochs: LeaderEpochs
    log_start_offset: int
    log_end_offset: int
    snapshots: list[int]
    was_clean: bool
    cut: Cut | None
    recovery_point: int
    unwritten: list[Segment]
    """Checked segments for whose indexes the disk had no room: the recovery point stays before them."""


def load_log(
    environment: Environment,
    config: LogConfig,
    folder: Path,
    *,
    recovery_point: int | None,
    log_start_offset: int,
    was_clean: bool,
    now_ms: int,
) -> LoadedLog | None:
    """Read a partition's folder; None if it holds no segment. Raises OSError.

    `recovery_point` is the offset below which everything was durable when it was noted; nothing above it has been
    compacted, so a gap in the offsets there is a defect. None means that it is lost: gaps are then taken as compacted.
    """
    loader = _Loader(environment, config, folder, recovery_point=recovery_point, now_ms=now_ms)
    return loader.load(log_start_offset=log_start_offset, was_clean=was_clean)


class _Loader:
    def __init__(
        self, environment: Environment, config: LogConfig, folder: Path, *, recovery_point: int | None, now_ms: int
    ) -> None:
        self._environment = environment
        self._fs = environment.fs
        self._config = config
        self._folder = folder
        self._recovery_point = recovery_point or 0
        self._dense = recovery_point is not None
        self._now_ms = now_ms
        self._sizes: dict[str, int] = {}
        self._segments: list[Segment] = []
        self._producers = ProducerState()
        self._epochs = LeaderEpochs()
        self._next_offset = 0
        self._snapshots: list[int] = []
        self._cut: Cut | None = None
        self._unwritten: list[Segment] = []

    def load(self, *, log_start_offset: int, was_clean: bool) -> LoadedLog | None:
        self._sizes = clear_leftovers(self._fs, self._folder)
        bases = sorted(base for base, suffix in self._named() if suffix == LOG)
        if not bases:
            return None
        self._segments = [self._segment(base) for base in bases]
        self._next_offset = bases[0]
        is_resumed = was_clean and self._resume_last()
        first_doubtful = len(bases) - 1 if is_resumed else self._first_doubtful(bases)
        for segment in self._segments[:first_doubtful]:
            self._trust(segment)
        self._load_epochs()
        if is_resumed:
            producers = self._load_producers(first_doubtful, up_to=self._next_offset)
            producers.finish(first_doubtful, end_offset=self._next_offset)
        else:
            self._recover(first_doubtful)
        start = max(log_start_offset, bases[0])
        if start > self._next_offset:
            self._restart_at(start)
        self._drop_orphans()
        self._epochs.truncate_to(self._next_offset)
        self._epochs.start_at(start)
        return LoadedLog(
            segments=self._segments,
            producers=self._producers,
            epochs=self._epochs,
            log_start_offset=start,
            log_end_offset=self._next_offset,
            snapshots=self._snapshots,
            was_clean=is_resumed,
            cut=self._cut,
            recovery_point=self._point_before_unwritten(),
            unwritten=self._unwritten,
        )

    def _named(self) -> list[tuple[int, str]]:
        return [parsed for name in self._sizes if (parsed := parse_segment_file(name)) is not None]

    def _segment(self, base_offset: int) -> Segment:
        segment = Segment(
            self._environment, self._config, self._folder, base_offset=base_offset, created_ms=self._now_ms
        )
        segment.has_durable_name = True
        return segment

    def _first_doubtful(self, bases: list[int]) -> int:
        """Index of the segment that ends at or holds the recovery point: everything before it was synced whole.

        One that ends there may have been the last one when the point was noted: its time index lacks the last entry.
        """
        later = sum(base >= self._recovery_point for base in bases)
        return max(len(bases) - later - 1, 0)

    # Segments that are taken as they are

    def _trust(self, segment: Segment) -> None:
        """Serve a synced segment from its files; its indexes are rebuilt if they are missing or make no sense."""
        size = segment.size = self._sizes[segment.path.name]
        offsets = self._sizes.get(segment_file(segment.base_offset, OFFSET_INDEX), -1)
        times = self._sizes.get(segment_file(segment.base_offset, TIME_INDEX), -1)
        is_whole = (
            offsets >= 0 and times >= 0 and not (offsets % offset_index.ENTRY.size or times % time_index.ENTRY.size)
        )
        if is_whole:
            segment.offset_index.seal(offsets)
            segment.time_index.seal(times)
            last_entry = segment.offset_index.last()
            is_whole = last_entry is None or (segment.base_offset <= last_entry[0] and 0 < last_entry[1] < size)
            if not times and size:  # a start that was making it anew may have been cut short
                first = next(iter(self._scan(segment, position=0, size=size, next_offset=segment.base_offset)), None)
                is_whole = is_whole and first is not None and first[1].max_timestamp == NO_TIMESTAMP
        if not is_whole:
            self._rebuild_indexes(segment, size)
            return
        last_time = segment.time_index.last()
        segment.are_times_proven = False
        if last_time is not None:
            segment.max_timestamp, segment.offset_of_max_timestamp = last_time

    def _rebuild_indexes(self, segment: Segment, size: int) -> None:
        segment.forget_indexes()
        scan = self._scan(segment, position=0, size=size, next_offset=segment.base_offset)
        for position, header in scan:
            segment.account(position, header.size, header.last_offset, header.max_timestamp)
        segment.size = size
        segment.note_max_timestamp()
        if self._could_write_indexes(segment):
            segment.seal()

    def _could_write_indexes(self, segment: Segment) -> bool:
        """Make the indexes durable; False if there is no room for them, so that they stay in memory. Raises OSError."""
        try:
            segment.write_indexes()
        except OSError as error:
            if error.errno not in PASSING:
                raise
            log.warning("the indexes of %s cannot be written: %s; %s", segment.path, error.strerror, remedy(error))
            return False
        return True

    def _resume_last(self) -> bool:
        """After a clean shutdown: find the log's end from the last index entry. False if it does not add up."""
        segment = self._segments[-1]
        size = self._sizes[segment.path.name]
        if not self._resume_indexes(segment, size=size, below=None):
            return False
        scan = self._scan(segment, position=segment.size, size=size, next_offset=segment.base_offset)
        for position, header in scan:
            segment.account(position, header.size, header.last_offset, header.max_timestamp)
        self._next_offset = scan.next_offset
        return scan.defect is None

    def _resume_indexes(self, segment: Segment, *, size: int, below: int | None) -> bool:
        """Take over the index entries of offsets `below` and stand at the batch of the last one; False if unfit."""
        offsets = self._fs.read_file(segment.offset_index.path)
        times = self._fs.read_file(segment.time_index.path)
        if offsets is None or times is None:
            return False
        if not offset_index.is_sane(offsets, log_size=size) or not time_index.is_sane(times):
            return False
        segment.resume_indexes(offsets, times, below=below)
        last = segment.offset_index.last()
        if last is None:
            return True
        first = next(iter(self._scan(segment, position=0, size=size, next_offset=0)), None)
        at_entry = next(iter(self._scan(segment, position=last[1], size=size, next_offset=0)), None)
        if first is None or at_entry is None or at_entry[1].last_offset != last[0]:
            segment.forget_indexes()
            return False
        segment.size = last[1] + at_entry[1].size
        if not has_true_times(segment):
            segment.forget_indexes()
            return False
        segment.first_timestamp = first[1].max_timestamp
        segment.size = last[1]
        return True

    # Segments that are checked

    def _recover(self, first_doubtful: int) -> None:
        doubtful = self._segments[first_doubtful:]
        producers = self._load_producers(first_doubtful, up_to=self._stand_at(doubtful[0]))
        for index, segment in enumerate(doubtful):
            if index > 0 and not self._may_follow(segment):
                self._remove_from(first_doubtful + index, f"segment does not start at offset {self._next_offset}")
                break
            if not self._recover_segment(segment, producers):
                self._remove_from(first_doubtful + index + 1, "segment lies behind a defect")
                break
        producers.finish(first_doubtful, end_offset=self._next_offset)
        for segment in self._segments[first_doubtful:]:
            segment.sync()
            is_last = segment is self._segments[-1]
            if not is_last:
                segment.note_max_timestamp()
            if not self._could_write_indexes(segment):
                self._unwritten.append(segment)
            elif not is_last:
                segment.seal()
        self._fs.fsync_dir(self._folder)

    def _point_before_unwritten(self) -> int:
        """Where the next recovery has to begin: never below what this one had, for there may be compacted segments."""
        if not self._unwritten:
            return self._next_offset
        if not self._dense:
            raise NoSpace(errno.ENOSPC, "No space for indexes, and it is not known what was compacted")
        return min(max(self._recovery_point, self._unwritten[0].base_offset), self._next_offset)

    def _may_follow(self, segment: Segment) -> bool:
        if self._dense:
            return segment.base_offset == self._next_offset
        return segment.base_offset >= self._next_offset

    def _stand_at(self, segment: Segment) -> int:
        """Skip what is durable of the first doubtful segment; answers the offset at which checking starts."""
        size = self._sizes[segment.path.name]
        segment.forget_indexes()
        self._next_offset = segment.base_offset
        if self._recovery_point > segment.base_offset and self._resume_indexes(
            segment, size=size, below=self._recovery_point
        ):
            last = segment.offset_index.last()
            if last is not None:
                self._next_offset = segment.offset_at(last[1])
            self._walk_to_recovery_point(segment, size)
        return self._next_offset

    def _walk_to_recovery_point(self, segment: Segment, size: int) -> None:
        """From the last index entry on to the recovery point itself, where a snapshot of the producers may be."""
        scan = self._scan(segment, position=segment.size, size=size, next_offset=self._next_offset, verify=True)
        for position, header in scan:
            if header.next_offset > self._recovery_point:
                return
            segment.account(position, header.size, header.last_offset, header.max_timestamp)
            self._next_offset = header.next_offset

    def _load_producers(self, last: int, *, up_to: int) -> ProducerRecovery:
        """What the segments up to number `last` say of producers below an offset."""
        recovery = ProducerRecovery(self._fs, self._folder, self._segments, self._sizes)
        self._producers = recovery.load(last, up_to=up_to)
        return recovery

    def _recover_segment(self, segment: Segment, producers: ProducerRecovery) -> bool:
        """Check a segment to its end or first defect, where it is cut. False if it was cut."""
        size = self._sizes[segment.path.name]
        next_offset = max(self._next_offset, segment.base_offset)
        scan = self._scan(
            segment, position=segment.size, size=size, next_offset=next_offset, verify=True, dense=self._dense
        )
        for position, header in scan:
            segment.account(position, header.size, header.last_offset, header.max_timestamp)
            producers.take(segment, position, header)
            self._epochs.assign(header.leader_epoch, header.base_offset)
        self._next_offset = scan.next_offset
        if scan.defect is None:
            return True
        self._cut = Cut(
            file=segment.path,
            position=scan.end,
            bytes_removed=size - scan.end,
            offset=scan.next_offset,
            reason=scan.defect,
            was_durable=scan.next_offset < self._recovery_point,
        )
        segment.size = scan.end
        segment.cut_back()
        return False

    def _remove_from(self, index: int, reason: str) -> None:
        for segment in self._segments[index:]:
            if self._cut is None:
                self._cut = Cut(
                    file=segment.path,
                    position=0,
                    bytes_removed=self._sizes[segment.path.name],
                    offset=self._next_offset,
                    reason=reason,
                    was_durable=self._next_offset < self._recovery_point,
                )
            self._remove(segment)
        del self._segments[index:]

    def _remove(self, segment: Segment) -> None:
        segment.release()
        for suffix in SEGMENT_SUFFIXES:
            name = segment_file(segment.base_offset, suffix)
            if self._sizes.pop(name, -1) >= 0:
                remove_gently(self._fs, self._folder / name)

    def _restart_at(self, offset: int) -> None:
        """The log ends below its start (records were deleted up to there, and the tail is lost): go on there, empty.

        As Apache Kafka does, which says it too: whoever finds the start to be wrong has to learn what went by it.
        """
        log.warning(
            "%s: records were deleted up to offset %d, but the log ends at %d; "
            "%d segment(s) with %d bytes from offset %d on are removed, the log goes on at %d",
            self._folder,
            offset,
            self._next_offset,
            len(self._segments),
            sum(segment.size for segment in self._segments),
            self._segments[0].base_offset,
            offset,
        )
        for segment in self._segments:
            self._remove(segment)
        self._unwritten = []
        self._segments = [self._segment(offset)]
        self._segments[0].has_durable_name = False
        self._producers = ProducerState()
        self._next_offset = offset

    # Epochs and leftovers

    def _load_epochs(self) -> None:
        epochs = LeaderEpochs.read(self._fs, self._folder / LEADER_EPOCHS)
        if epochs is None:
            epochs = LeaderEpochs()
            for segment in self._segments:
                size = self._sizes[segment.path.name]
                scan = self._scan(segment, position=0, size=size, next_offset=segment.base_offset)
                for _, header in scan:
                    epochs.assign(header.leader_epoch, header.base_offset)
        self._epochs = epochs

    def _drop_orphans(self) -> None:
        """Remove index files without a log, snapshots of offsets that the log does not have, and old ones."""
        bases = [segment.base_offset for segment in self._segments]
        found = [offset for offset, suffix in self._named() if suffix == SNAPSHOT and offset <= self._next_offset]
        self._snapshots = snapshots_to_keep(found, bases, recovery_point=self._recovery_point)
        for offset, suffix in self._named():
            if offset not in (self._snapshots if suffix == SNAPSHOT else bases):
                self._fs.unlink(self._folder / segment_file(offset, suffix))

    def _scan(
        self,
        segment: Segment,
        *,
        position: int,
        size: int,
        next_offset: int,
        verify: bool = False,
        dense: bool = False,
    ) -> Scan:
        return Scan(
            self._fs,
            segment.open(),
            position=position,
            size=size,
            next_offset=next_offset,
            verify=verify,
            dense=dense,
        )
