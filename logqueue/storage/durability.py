"""How much of a log is on the disk for certain, and how it gets there. Safe to call while the log is appended to.

The owner's thread sets `end` after every append and announces new segments; any thread may `flush`. What they share
changes by single assignments of immutable values, and a flush claims only what was appended before it began.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock

from logqueue.errors import KafkaError
from logqueue.storage.environment import Environment
from logqueue.storage.errors import DiskFull
from logqueue.storage.file_system import NO_DESCRIPTORS, PASSING, NoSpace, write_all
from logqueue.storage.health import Health
from logqueue.storage.leader_epochs import LeaderEpochs
from logqueue.storage.names import LEADER_EPOCHS
from logqueue.storage.segment import Segment

RECOVERY_STEP_BYTES = 1024 * 1024
"""Growth of the last segment from which on a checkpoint syncs it and writes its indexes out, to shorten the next
recovery: a thousand logs that were being written to are a gigabyte to check."""


Position = tuple[int, Segment | None, int]
"""A place in the log: an offset, its segment and the byte position there. A plain tuple: one is made per append."""


class Claim:
    """Bytes of a log that somebody else makes durable; until `end` nothing of this log is synced.

    `data` lies at `position` of the segment with that `base_offset`.
    """

    __slots__ = ("_durability", "_end", "base_offset", "data", "position")

    def __init__(self, durability: Durability, end: Position, base_offset: int, position: int, data: bytes) -> None:
        self._durability = durability
        self._end = end
        self.base_offset = base_offset
        self.position = position
        self.data = data

    def end(self, *, is_durable: bool) -> None:
        """It has been done, or not."""
        self._durability.end_claim(self._end if is_durable else None)


class Durability:
    """The durable end of one log, its unsynced files, and its recovery point.

    `durable` is the end of what a power cut leaves, `synced` of what it leaves in the log's own files; in between is
    what a journal holds.
    """

    def __init__(
        self,
        environment: Environment,
        folder: Path,
        epochs: LeaderEpochs,
        *,
        end: Position,
        is_closed: bool,
        recovery_point: int = 0,
        unwritten: Sequence[Segment] = (),
    ) -> None:
        """Everything up to `end` is durable, but the indexes of `unwritten` segments: `recovery_point` is for them."""
        self._fs = environment.fs
        self._health = environment.health
        self._folder = folder
        self._epochs = epochs
        self._lock = Lock()
        older = [segment for segment in unwritten if segment is not end[1]]
        self._unsynced_segments: list[Segment] = [*older, end[1]] if end[1] else []
        self._unsynced_files: list[Path] = []
        self._has_new_names = False  # of small files that are synced
        self._new_folders = environment.new_folders
        self._folder_number: int | None = None
        self._recovery_position: Position = (recovery_point, unwritten[0], 0) if unwritten else end
        self._closed_at = end[0] if is_closed else None
        self.end = end
        self.durable = end
        self.synced = end

    @property
    def recovery_point(self) -> int:
        """Offset below which both the log and its index files are durable: where recovery starts checking."""
        return self._recovery_position[0]

    @property
    def is_closed(self) -> bool:
        """Whether every file is as a clean shutdown leaves it."""
        return self._closed_at == self.end[0] and self._epochs.is_written

    def add_segment(self, segment: Segment) -> None:
        """A new segment is about to be written to; the one before it gets no more batches."""
        self._unsynced_segments.append(segment)

    def let_go(self, segment: Segment) -> bool:
        """Leave a segment that is no longer written to alone from now on; False while it is not synced, or being so."""
        if segment not in self._unsynced_segments:
            return True
        offset, last, _ = self.synced
        is_synced = offset == self.end[0] or (last is not None and segment.base_offset < last.base_offset)
        if not is_synced or not self._lock.acquire(blocking=False):
            return False
        try:
            if segment in self._unsynced_segments:
                self._unsynced_segments.remove(segment)
        finally:
            self._lock.release()
        return True

    def forget(self, segments: Iterable[Segment]) -> None:
        """Leave durable segments alone from now on, which others have replaced: a sync would make their files anew.

        Waits for a sync under way, so not for the owner's thread.
        """
        with self._lock:
            for segment in segments:
                if segment in self._unsynced_segments:
                    self._unsynced_segments.remove(segment)

    @property
    def is_flush_due(self) -> bool:
        """Whether recovery would take long if nobody flushed: segments are complete, or the last one has grown."""
        _, segment, size = self.end
        _, synced_segment, synced_size = self.synced
        return len(self._unsynced_segments) > 1 or (
            segment is synced_segment and size - synced_size >= RECOVERY_STEP_BYTES
        )

    def sync_names(self) -> None:
        """Make the file of the last segment durable by its name, even if nothing was written to it, and flush.

        A disk too full for a flush, which replaces small files, keeps nobody from making space: the name is enough.
        Raises StorageError, or OSError if the file cannot even be made.
        """
        with self._lock:
            self._health.check()
            end = self.end
            segment = end[1]
            if segment is None or (segment.has_durable_name and end[0] == self.durable[0]):
                return
            segment.make_file()
            try:
                self._sync_files_up_to(end)
            except DiskFull:
                if not segment.has_durable_name:
                    self._sync_name(segment)

    def _sync_name(self, segment: Segment) -> None:
        health = self._health
        try:
            segment.sync(self._check)
            self._fs.fsync_dir(self._folder)
        except OSError as error:
            raise health.fail(f"fsync in {self._folder}", error, passing=NO_DESCRIPTORS) from error
        segment.has_durable_name = True

    def write_file(self, path: Path, data: bytes) -> None:
        """Write a small file that the next flush makes durable. Raises OSError."""
        fd = self._fs.open(path, create=True)
        try:
            self._fs.truncate(fd, 0)
            write_all(self._fs, fd, data, 0)
        finally:
            self._fs.close(fd)
        self._unsynced_files.append(path)

    def add_folder(self) -> None:
        """The log's folder is new, and so is its name in the data folder."""
        self._folder_number = self._new_folders.add()

    def abandon(self, reason: KafkaError) -> None:
        """The log is being deleted: no flush touches its files any more, waiting ones end with `reason`.

        Waits for a sync under way, but only until it is done with the file or the step of a large one that it is at.
        """
        self._health = Health(reason)
        with self._lock:
            pass

    def flush(self) -> int:
        """Make everything appended before this call durable, and answer the offset where it ends.

        Raises StorageError when an fsync fails; from then on the data folder takes no more writes.
        """
        if self.durable[0] == self.end[0]:
            return self.durable[0]
        with self._lock:
            self._health.check()
            end = self.end  # before anything is synced: later batches are not claimed
            if end[0] > self.durable[0]:
                self._sync_files_up_to(end)
            return end[0]

    def sync(self) -> None:
        """As `flush`, but into the log's own files, whatever a journal holds. Raises StorageError."""
        if self.synced[0] == self.end[0]:
            return
        with self._lock:
            self._health.check()
            end = self.end
            if end[0] > self.synced[0]:
                self._sync_files_up_to(end)

    def _sync_files_up_to(self, end: Position) -> None:
        health = self._health  # not the one that `abandon` leaves meanwhile
        try:
            self._sync(end[1])
        except OSError as error:
            raise health.fail(f"fsync in {self._folder}", error, passing=NO_DESCRIPTORS) from error
        self.durable = self.synced = end

    def claim(self, most_bytes: int) -> Claim | None:
        """What was appended since the last flush, for a journal: at most so many bytes of one segment, whose name, and
        all before it, is on the disk. None if there is nothing, it is otherwise, or a sync is under way.
        """
        if not self._lock.acquire(blocking=False):
            return None
        claim: Claim | None = None
        try:
            claim = self._claim(most_bytes)
        except (OSError, KafkaError):
            return None  # the flush meets it again, and tells
        finally:
            if claim is None:
                self._lock.release()
        return claim

    def _claim(self, most_bytes: int) -> Claim | None:
        end = self.end
        _, segment, size = end
        offset, durable_segment, position = self.durable
        if segment is None or segment is not durable_segment or not segment.has_durable_name:
            return None  # its first sync tells the folder, and ends the segment before
        if end[0] == offset or not 0 < size - position <= most_bytes or self._health.failure is not None:
            return None
        if self._unsynced_files or self._has_new_names:
            return None
        if self._folder_number is not None or not self._epochs.is_written:
            return None
        data = segment.read_at(size - position, position)
        if len(data) < size - position:
            return None
        return Claim(self, end, segment.base_offset, position, data)

    def end_claim(self, durable: Position | None) -> None:
        """A claim was made durable up to here, or not."""
        if durable is not None:
            self.durable = durable
        self._lock.release()

    def start_flush(self) -> None:
        """Get what `flush` would wait for on its way to the disk. Any thread; what goes wrong `flush` raises."""
        segment = self.end[1]
        if segment is not None:
            try:
                segment.start_sync()
            except OSError as error:
                self._health.fail(f"writing back in {self._folder}", error)

    def _sync(self, last: Segment | None) -> None:
        """Sync what belongs to everything up to the present size of segment `last`."""
        assert last is not None, "something was appended, so there is a segment"
        segments = tuple(self._unsynced_segments)
        self._sync_files()
        written = [segment for segment in segments if segment.size or segment is last]
        for segment in written:
            self._check()
            segment.sync(self._check)
        unnamed = [segment for segment in written if not segment.has_durable_name]
        if unnamed or self._has_new_names:
            self._check()
            self._fs.fsync_dir(self._folder)
            self._has_new_names = False
        for segment in unnamed:
            segment.has_durable_name = True
        if self._folder_number is not None:
            self._check()
            self._new_folders.sync(self._folder.parent, self._folder_number)
            self._folder_number = None
        for segment in segments:
            if segment.base_offset < last.base_offset and self._finish(segment):
                self._unsynced_segments.remove(segment)

    def _check(self) -> None:
        """Raise why nothing is written any more: a deletion may wait for the end of what is under way."""
        self._health.check()

    def _finish(self, segment: Segment) -> bool:
        """Write out the indexes of a synced segment that gets no more batches; False if there is no room for it now.

        A recovery makes anew what is missing: until it is written, the recovery point stays before this segment.
        """
        self._check()
        segment.note_max_timestamp()
        try:
            segment.write_indexes()
        except OSError as error:
            if error.errno in PASSING:
                return False
            raise
        segment.seal()
        return True

    def _finish_older(self, last: Segment) -> bool:
        """Try again what the disk was too full for; whether nothing of it is left."""
        for segment in tuple(self._unsynced_segments):
            if segment.base_offset < last.base_offset:
                if not self._finish(segment):
                    return False
                self._unsynced_segments.remove(segment)
        return True

    def _sync_files(self) -> None:
        """Sync the small files; the folder has to be synced after them."""
        for path in tuple(self._unsynced_files):
            self._check()
            self._sync_file(path)
            self._unsynced_files.remove(path)
            self._has_new_names = True
        if not self._epochs.is_written:
            self._epochs.write(self._fs, self._folder / LEADER_EPOCHS)
            self._has_new_names = True

    def _sync_file(self, path: Path) -> None:
        try:
            fd = self._fs.open(path)
        except FileNotFoundError:
            return  # a snapshot that newer ones replaced before it was synced
        try:
            self._fs.fsync(fd)
        finally:
            self._fs.close(fd)

    def close(self) -> None:
        """Make everything durable, the last segment's indexes included. Raises OSError or StorageError."""
        self.flush()
        with self._lock:
            segment = self.end[1]
            if segment is not None:
                self._sync(segment)
                if not self._finish_older(segment):
                    raise NoSpace(errno.ENOSPC, "no space for the indexes")
                segment.note_max_timestamp()
                segment.write_indexes()
            self.synced = self._recovery_position = self.end
            self._closed_at = self.end[0]

    def advance_recovery_point(self, *, force: bool = False) -> int:
        """Write out index entries, if the log grew enough for it to matter, and answer the recovery point.

        Raises StorageError.
        """
        with self._lock:
            self._health.check()
            offset, segment, position = synced = self.synced
            old_offset, old_segment, old_position = self._recovery_position
            if segment is None or offset == old_offset:
                return old_offset
            if segment is old_segment and position - old_position < RECOVERY_STEP_BYTES and not force:
                return old_offset
            try:
                if not self._finish_older(segment):
                    return old_offset
                segment.write_indexes()
            except OSError as error:
                if error.errno in PASSING:
                    return old_offset
                raise self._health.fail(f"writing the indexes in {self._folder}", error) from error
            self._recovery_position = synced
            return offset
