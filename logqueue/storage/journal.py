"""A journal in which small appends to many logs become durable with one sync. Knows no records, only bytes and places.

The bytes are in their segments already, as everybody reads them; only the sync of those is put off. Two files take
turns: when one is full, what it speaks of is synced in the background, and it begins anew, larger. After a
crash `journal_file` writes back what a segment may have lost; a clean shutdown leaves no journal.

Whatever a journal cannot take is synced in its own file, as without one: large appends, new files, a journal whose
other half is not free yet.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from logqueue.errors import KafkaError
from logqueue.storage.errors import UnknownTopic
from logqueue.storage.file_system import DISK_FULL, PASSING, write_all
from logqueue.storage.journal_file import (
    FILE_NAMES,
    MAGIC,
    OVERHEAD,
    PIECE_OVERHEAD,
    Piece,
    frame_of,
    remove_journals,
)

if TYPE_CHECKING:
    from logqueue.storage.durability import Claim
    from logqueue.storage.environment import Environment

log = logging.getLogger("logqueue.storage.journal")

FIRST_BYTES = 256 * 1024
MAX_BYTES = 4 * 1024 * 1024
"""Size of a file at first, and at most: it doubles as it is used again."""

MAX_FRAME_BYTES = 128 * 1024
"""What one round may write: all of it is written a second time, when its segments are synced."""

MIN_LOGS = 8
SHARE_OF_OPEN_FILES = 4
"""One file speaks of as many logs as a fourth of the files that may be open: whoever opens one more than those has to
sync another first if that is not."""

REST_ROUNDS = 1000
"""Rounds without a try after one that failed to make or to free a file, as on a full disk."""

_ZEROS = bytes(64 * 1024)


class JournaledLog(Protocol):
    """What a journal asks of a log."""

    topic_id: UUID
    folder: Path

    def claim(self, most_bytes: int) -> Claim | None:
        """What was appended since the last flush, if it can be told as bytes of one segment that has its name."""
        ...

    def flush(self) -> int: ...

    def sync(self) -> None:
        """Sync the files themselves. Raises StorageError, or UnknownTopic if the log was deleted."""
        ...


class _Half:
    """One of the two files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self.capacity = 0
        self.position = 0
        self.generation = 0
        self.logs: dict[JournaledLog, None] = {}  # whose segments' syncs were put off

    @property
    def room(self) -> int:
        """Bytes that are left."""
        return self.capacity - self.position


class Frame:
    """The pieces of one round, claimed: nobody else syncs these logs until `flush` has been called."""

    def __init__(self, journal: SyncJournal, half: _Half, data: bytes, claims: dict[JournaledLog, Claim]) -> None:
        self.claims = claims
        self._journal = journal
        self._half = half
        self._data = data

    def flush(self) -> None:
        """Make it durable. Raises StorageError when the disk refuses that; then nothing of it is promised."""
        is_durable = False
        try:
            is_durable = self._journal.write(self._half, self._data, self.claims)
        finally:
            for claim in self.claims.values():
                claim.end(is_durable=is_durable)
        if is_durable:
            return
        for each in self.claims:
            try:
                each.flush()
            except UnknownTopic:
                continue  # deleted meanwhile


class SyncJournal:
    """The journal of one data folder. One thread at a time takes a frame and flushes it."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self._fs = environment.fs
        self._health = environment.health
        self._folder = folder
        self._in_background = environment.in_background
        self._max_bytes = environment.journal_bytes
        self._max_logs = max(environment.pool.limit // SHARE_OF_OPEN_FILES, MIN_LOGS)
        self._is_off = self._max_bytes == 0
        self._current: _Half | None = None
        self._spare: _Half | None = None
        self._waiting = [_Half(folder / name) for name in FILE_NAMES]  # to be made, or full
        self._is_busy = False
        self._is_closed = False
        self._background = Lock()
        self._rest = 0

    @property
    def is_ready(self) -> bool:
        """Whether there is a file that frames go to."""
        return self._current is not None and not self._is_off

    def take(self, logs: Sequence[JournaledLog]) -> Frame | None:
        """Claim what can be made durable together; None if there is nothing, or no room. Raises nothing but bugs."""
        if self._is_off:
            return None
        if self._spare is None:
            self._make_room()  # not with claims, for which it may wait
        half = self._current
        if half is None or (self._spare is not None and len(half.logs) >= self._max_logs):
            half = self._go_on()
        if half is None:
            return None
        claims: dict[JournaledLog, Claim] = {}
        frame: Frame | None = None
        try:
            pieces, size = self._claim(logs, half, claims)
            if size > half.room:
                half = self._go_on()
            if claims and half is not None:
                frame = Frame(self, half, frame_of(half.generation, pieces), claims)
        finally:
            if frame is None:
                for claim in claims.values():
                    claim.end(is_durable=False)
        return frame

    def _claim(
        self, logs: Sequence[JournaledLog], half: _Half, claims: dict[JournaledLog, Claim]
    ) -> tuple[list[Piece], int]:
        """Put into `claims` what this file or the one after it has room for; answers its pieces and a frame's size."""
        pieces: list[Piece] = []
        size = OVERHEAD
        most = min(MAX_FRAME_BYTES, half.room if self._spare is None else max(half.room, self._spare.room))
        free = self._max_logs - len(half.logs)
        for each in logs:
            overhead = PIECE_OVERHEAD + len(name := each.folder.name.encode())
            if size + overhead >= most or (len(claims) >= free and each not in half.logs):
                continue
            claim = each.claim(most - size - overhead)
            if claim is not None:
                claims[each] = claim
                pieces.append(Piece(name, each.topic_id, claim.base_offset, claim.position, claim.data))
                size += overhead + len(claim.data)
        return pieces, size

    def _go_on(self) -> _Half | None:
        """Have the other file take its turn, if it is free."""
        following, before = self._spare, self._current
        if following is not None:
            self._spare = None  # the background sets it only where there is none
            self._current = following
            if before is not None:
                self._waiting.append(before)
        return following

    def write(self, half: _Half, data: bytes, logs: Iterable[JournaledLog]) -> bool:
        """Write a frame and wait for the disk; False if it is too full for that. Raises StorageError."""
        self._health.check()
        try:
            write_all(self._fs, half.fd, data, half.position)
            self._fs.fdatasync(half.fd)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise self._health.fail(f"writing {half.path}", error) from error
            log.warning("the journal %s is not used any more: this file system has no room for it", half.path)
            self._is_off = True
            return False
        half.position += len(data)
        half.logs.update(dict.fromkeys(logs))
        return True

    # Making room

    def _make_room(self) -> None:
        """Have a file made, or a full one freed, unless that is under way."""
        if self._is_busy or not self._waiting:
            return
        if self._rest:
            self._rest -= 1
            return
        self._is_busy = True
        half = self._waiting[0]
        if not self._in_background(partial(self._free, half)):
            self._is_busy = False
            self._rest = REST_ROUNDS

    def _free(self, half: _Half) -> None:
        """Sync what a file speaks of, and begin it anew. What fails is tried again later."""
        with self._background:
            try:
                for each in half.logs:
                    if self._is_closed:
                        return
                    try:
                        each.sync()
                    except UnknownTopic:
                        continue  # deleted meanwhile
                if self._is_closed:
                    return
                self._begin(half)
                self._waiting.remove(half)
                self._spare = half
            except (KafkaError, OSError) as error:
                log.warning("the journal %s is not free yet: %s", half.path, error)
                self._rest = REST_ROUNDS
            except Exception:  # a bug: logs are synced in their own files, as without a journal
                log.exception("the journal %s failed in an unforeseen way; please report this", half.path)
                self._is_off = True
            finally:
                self._is_busy = False

    def _begin(self, half: _Half) -> None:
        """Make what a file holds void, and it larger where the disk has room.

        Raises OSError, or StorageError after a failed sync.
        """
        if half.fd < 0:
            half.fd = self._fs.open(half.path, create=True)
        capacity = self._enlarged(half)
        half.generation = int.from_bytes(os.urandom(8))  # nobody who writes records can know it
        write_all(self._fs, half.fd, head := MAGIC + frame_of(half.generation, ()), 0)
        try:
            self._fs.fsync(half.fd)
            if not half.capacity:
                self._fs.fsync_dir(self._folder)
        except OSError as error:
            if error.errno in PASSING:
                raise
            raise self._health.fail(f"making {half.path}", error) from error
        half.capacity = capacity
        half.position = len(head)
        half.logs.clear()

    def _enlarged(self, half: _Half) -> int:
        """Write zeros up to a file's next size: a size that grew would be synced with each frame."""
        before = half.capacity
        capacity = min(max(FIRST_BYTES, 2 * before), self._max_bytes)
        try:
            for position in range(before, capacity, len(_ZEROS)):
                write_all(self._fs, half.fd, _ZEROS[: capacity - position], position)
        except OSError as error:
            self._fs.truncate(half.fd, before)  # the room is needed for something else
            if not before or error.errno not in DISK_FULL:
                raise
            return before
        return capacity

    # The end

    def close(self) -> None:
        """Let go of the files, after what is under way in the background."""
        self._is_off = self._is_closed = True
        with self._background:
            for half in (self._current, self._spare, *self._waiting):
                if half is not None and half.fd >= 0:
                    self._fs.close(half.fd)
                    half.fd = -1

    def remove(self) -> None:
        """Remove the files once all logs are synced; durable with the next sync of the folder. Raises OSError."""
        self.close()
        remove_journals(self._fs, self._folder)
