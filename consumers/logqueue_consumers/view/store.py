"""The writing side of the view file: open or rebuild it, apply batches. One process holds it; knows no Kafka client."""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from logqueue.errors import LogqueueError
from logqueue.ids import TopicPartition
from logqueue_consumers.view import flows, schema
from logqueue_consumers.view.flows import FlowRecord, apply_flows
from logqueue_consumers.view.job import Job
from logqueue_consumers.view.jobs_table import Changes, JobsTable, NotAlike
from logqueue_consumers.view.names import Names
from logqueue_consumers.view.told import Told

# Pages of the write-ahead log before it is moved into the file: 16 MiB, so that a checkpoint stays short.
_CHECKPOINT_PAGES: Final = 4000
_WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
_CACHE_KIB: Final = 65_536
# Files up to this size are checked page by page when opened; a larger one is believed until a read proves it wrong.
_CHECKED_BYTES: Final = 64 * 1024 * 1024


class ViewInUse(LogqueueError):
    """Another process writes this view file."""


class ViewNotWritable(LogqueueError):
    """The view file or its folder cannot be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was read from the topics between two commits, and how far they have been read now."""

    pieces: Sequence[Job] = ()
    told: Sequence[Told] = ()
    definitions: Mapping[str, bytes | None] = field(default_factory=dict)  # None: withdrawn
    schedules: Mapping[str, bytes | None] = field(default_factory=dict)
    flows: Sequence[FlowRecord] = ()
    positions: Mapping[TopicPartition, int] = field(default_factory=dict)  # the next offset to read


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a commit changed."""

    changes: Changes
    has_new_definitions: bool


class ViewStore:
    """The one writer of a view file."""

    def __init__(self, path: Path, db: sqlite3.Connection, lock: int) -> None:
        self.path = path
        self._db = db
        self._lock = lock
        self._names = Names(db)
        self._jobs = JobsTable(db, self._names)
        self._read_meta()

    @classmethod
    def open(cls, path: Path, *, cluster_id: str) -> Self:
        """Open the view, or start an empty one where there is none, or none that can be used.

        A file of another layout, of another cluster, or a damaged one is deleted: the topics hold everything in it.
        Raises ViewInUse if another process writes it, ViewNotWritable if the folder refuses.
        """
        lock = _lock(path)
        try:
            db = _open_existing(path, cluster_id) or _create(path, cluster_id)
        except (OSError, sqlite3.OperationalError) as error:
            os.close(lock)
            raise ViewNotWritable(
                f"cannot write the view {path}: {error}. Give --view a path that can be written"
            ) from error
        except BaseException:
            os.close(lock)
            raise
        return cls(path, db, lock)

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to read of each partition."""
        found = self._db.execute("SELECT topic, partition, next_offset FROM positions")
        return {TopicPartition(topic, partition): offset for topic, partition, offset in found}

    def apply(self, batch: Batch) -> Applied:
        """Fold a batch into the view in one transaction: all of it, positions included, or nothing."""
        try:
            return self._apply(batch)
        except NotAlike:
            return self._apply(batch)  # which looks at every row now

    def _apply(self, batch: Batch) -> Applied:
        with self._transaction():
            changes = self._jobs.apply(batch.told, batch.pieces) if batch.told or batch.pieces else {}
            if batch.definitions:
                self._apply_keyed("definitions", batch.definitions)
            if batch.schedules:
                self._apply_keyed("schedules", batch.schedules)
            if batch.flows:
                apply_flows(self._db, batch.flows)
            self._db.executemany(schema.SET_POSITION, [(*at, offset) for at, offset in batch.positions.items()])
        return Applied(changes=changes, has_new_definitions=bool(batch.definitions))

    def rebuild(self, *, cluster_id: str) -> None:
        """Throw everything away and start empty, at offset 0 of every topic."""
        self._db.close()
        _delete(self.path)
        self._db = _create(self.path, cluster_id)
        self._names = Names(self._db)
        self._jobs = JobsTable(self._db, self._names)
        self._read_meta()

    def close(self) -> None:
        """Close the file, moving the write-ahead log into it, and let another process have it."""
        self._db.close()
        os.close(self._lock)

    def _read_meta(self) -> None:
        meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        self.generation: str = meta["generation"]  # names this copy of the view; a rebuilt file has another one
        self.cluster_id: str = meta["cluster_id"]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._names.forget()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _apply_keyed(self, table: str, changes: Mapping[str, bytes | None]) -> None:
        """Set and remove entries of a table that mirrors a compacted topic."""
        gone = [(key,) for key, value in changes.items() if value is None]
        kept = [(key, value) for key, value in changes.items() if value is not None]
        self._db.executemany(f"DELETE FROM {table} WHERE key = ?", gone)  # noqa: S608 - a name of ours
        self._db.executemany(f"INSERT OR REPLACE INTO {table} (key, value) VALUES (?, ?)", kept)  # noqa: S608


def _lock(path: Path) -> int:
    """Take the lock beside the file; it falls with the process, however that ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ViewNotWritable(
            f"cannot write the view {path}: {error.strerror}. Give a path that can be written"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ViewInUse(f"the view {path} is being written by another process; stop it or use another path") from None
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    # The statement cache is large enough for every statement here; autocommit, because transactions are explicit.
    db = sqlite3.connect(path, isolation_level=None, cached_statements=64)
    db.execute("PRAGMA journal_mode = WAL")
    # NORMAL syncs at checkpoints only: a power cut may lose the last commits, positions with them, never the file.
    db.execute("PRAGMA synchronous = NORMAL")
    # Debian's build overwrites what is deleted with zeros; nothing here is secret that the topics do not hold.
    db.execute("PRAGMA secure_delete = OFF")
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    return db


def _open_existing(path: Path, cluster_id: str) -> sqlite3.Connection | None:
    """The view in the file if it can be used; else None, with the file gone."""
    if not path.exists():
        _delete(path)  # a write-ahead log without its file belongs to nothing
        return None
    db = None
    try:
        db = _connect(path)
        if _is_usable(db, cluster_id, path.stat().st_size):
            return db
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        pass  # not a database, or a damaged one: the topics hold everything in it
    if db is not None:
        db.close()
    if not _is_ours(path):
        # Whatever it is, it may be somebody's: out of the way, not gone.
        path.replace(path.with_name(path.name + ".not-a-view"))
    _delete(path)
    return None


def _is_ours(path: Path) -> bool:
    """Whether the file's header says that it is a view (SQLite file format, "application ID" at byte 68)."""
    with path.open("rb") as file:
        header = file.read(72)
    return header[68:72] == schema.APPLICATION_ID.to_bytes(4, "big")


def _is_usable(db: sqlite3.Connection, cluster_id: str, size_bytes: int) -> bool:
    if db.execute("PRAGMA application_id").fetchone()[0] != schema.APPLICATION_ID:
        return False
    if db.execute("PRAGMA user_version").fetchone()[0] != schema.VERSION:
        return False
    if size_bytes <= _CHECKED_BYTES and db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        return False
    found = db.execute("SELECT value FROM meta WHERE key = 'cluster_id'").fetchone()
    return found is not None and found[0] == cluster_id


def _create(path: Path, cluster_id: str) -> sqlite3.Connection:
    """An empty view. It appears under its name only when it is complete."""
    draft = path.with_name(path.name + ".new")
    _delete(draft)
    db = sqlite3.connect(draft, isolation_level=None)
    try:
        db.executescript(f"PRAGMA application_id = {schema.APPLICATION_ID}; BEGIN; {schema.TABLES} {flows.TABLES}")
        db.executemany(
            "INSERT INTO meta (key, value) VALUES (?, ?)",
            [("cluster_id", cluster_id), ("generation", secrets.token_hex(8))],
        )
        db.execute(f"PRAGMA user_version = {schema.VERSION}")
        db.execute("COMMIT")
    finally:
        db.close()
    draft.replace(path)
    return _connect(path)


def _delete(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
