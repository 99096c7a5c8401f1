"""A keeper's memory on disk: key -> value with a due time, in one SQLite file per partition. Knows no Kafka.

The file is a cache. It can be deleted at any time and comes back from the topic; one that does not fit (another log,
another layout, damaged, or so old that the topic may have lost the tombstones since) is thrown away when it is opened.

| table   | columns                     |                                                                            |
|---------|-----------------------------|----------------------------------------------------------------------------|
| meta    | key, value                  | who made the file, and the next offset to read, in the records' transaction |
| entries | key, due, tag, value        | `due` in ms, indexed; `tag` finds several entries, indexed                 |
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

import structlog

from logqueue.errors import LogqueueError

log = structlog.get_logger(__name__)

APPLICATION_ID: Final = 0x4C514B50  # "LQKP"
LAYOUT: Final = 1
MAX_AGE_MS: Final = 12 * 3600 * 1000
"""Kafka forgets tombstones a day after compacting them (`delete.retention.ms`): an older index would not notice."""
SLOTS: Final = 64
"""Processes on one machine that may keep a file of the same partition (one owns it, others did before)."""
CACHE_KIB: Final = 4 * 1024
CHECKPOINT_PAGES: Final = 1000
WAL_LIMIT_BYTES: Final = 16 * 1024 * 1024

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entries (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, due INTEGER, tag BLOB, value BLOB NOT NULL);
CREATE INDEX entries_due ON entries (due, id) WHERE due IS NOT NULL;
CREATE INDEX entries_tag ON entries (tag) WHERE tag IS NOT NULL;
"""
_PUT: Final = (
    "INSERT INTO entries (key, due, tag, value) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET due = excluded.due, tag = excluded.tag, value = excluded.value"
)


class IndexInUse(LogqueueError):
    """Too many processes keep an index of the same partition in this folder."""


class Row(NamedTuple):
    """An entry. `due_ms` None: it waits for nothing."""

    key: bytes
    value: bytes
    due_ms: int | None
    tag: bytes | None


class Index:
    """One partition's entries. Changes happen inside `transaction()`; reads at any time. One thread."""

    def __init__(self, db: sqlite3.Connection, *, path: Path | None = None, lock: int | None = None) -> None:
        self.path = path
        self._db = db
        self._lock = lock

    @classmethod
    def in_memory(cls) -> Self:
        """An index without a file."""
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.executescript(_SCHEMA)
        return cls(db)

    @classmethod
    def temporary(cls) -> Self:
        """An index on disk that nobody finds again (SQLite's nameless file): memory stays bounded all the same."""
        db = sqlite3.connect("", isolation_level=None)
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.executescript(_SCHEMA)
        return cls(db)

    @classmethod
    def open(cls, folder: Path, name: str, *, identity: str, now_ms: int) -> Self:
        """The index called `name`, as it was left, or empty. `identity` tells log, topic and layout.

        Raises OSError if the folder cannot be written, IndexInUse, sqlite3.Error.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path, lock = _free_slot(folder, name)
        try:
            db = _open_existing(path, identity, now_ms) or _create(path, identity, now_ms)
        except BaseException:
            os.close(lock)
            raise
        return cls(db, path=path, lock=lock)

    def close(self) -> None:
        """Close the file; another process may have it then."""
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes inside, or none."""
        self._db.execute("BEGIN")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Changes inside are seen until its end, and then taken back."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    @property
    def position(self) -> int:
        """The next offset to read."""
        found = self._db.execute("SELECT value FROM meta WHERE key = 'position'").fetchone()
        return int(found[0]) if found is not None else 0

    def set_position(self, offset: int, *, now_ms: int) -> None:
        """Everything below `offset` is in the index, as of now."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('position', ?), ('as_of_ms', ?)", (offset, now_ms))

    def put(self, key: bytes, value: bytes, *, due_ms: int | None = None, tag: bytes | None = None) -> None:
        """Set an entry, replacing the one of this key."""
        self._db.execute(_PUT, (key, due_ms, tag, value))

    def put_off(self, key: bytes, until_ms: int) -> None:
        """Let an entry be due at another time; nothing if there is none."""
        self._db.execute("UPDATE entries SET due = ? WHERE key = ?", (until_ms, key))

    def delete(self, key: bytes) -> None:
        """Remove an entry; nothing if there is none."""
        self._db.execute("DELETE FROM entries WHERE key = ?", (key,))

    def get(self, key: bytes) -> Row | None:
        """The entry of a key."""
        found = self._db.execute("SELECT key, value, due, tag FROM entries WHERE key = ?", (key,)).fetchone()
        return Row(*found) if found is not None else None

    def next_due(self) -> int | None:
        """The earliest due time of all entries."""
        found = self._db.execute("SELECT due FROM entries WHERE due IS NOT NULL ORDER BY due, id LIMIT 1").fetchone()
        return found[0] if found is not None else None

    def due(self, now_ms: int, limit: int) -> list[Row]:
        """Entries that are due, the earliest first."""
        found = self._db.execute(
            "SELECT key, value, due, tag FROM entries WHERE due <= ? ORDER BY due, id LIMIT ?", (now_ms, limit)
        )
        return [Row(*row) for row in found]

    def tagged(self, tag: bytes, limit: int = 100) -> list[Row]:
        """Entries with this tag, the oldest first."""
        found = self._db.execute(
            "SELECT key, value, due, tag FROM entries WHERE tag = ? ORDER BY id LIMIT ?", (tag, limit)
        )
        return [Row(*row) for row in found]

    def scan(self, prefix: bytes) -> Iterator[Row]:
        """Entries whose keys begin with the prefix, by key. Not while changing the index."""
        end = prefix + b"\xff" * 8
        found = self._db.execute(
            "SELECT key, value, due, tag FROM entries WHERE key >= ? AND key < ? ORDER BY key", (prefix, end)
        )
        return (Row(*row) for row in found)

    def count(self) -> int:
        """How many entries there are (it counts them)."""
        return int(self._db.execute("SELECT count(*) FROM entries").fetchone()[0])


def _free_slot(folder: Path, name: str) -> tuple[Path, int]:
    """A file that no living process uses, and the lock that says so; it falls with the process however that ends."""
    for slot in range(SLOTS):
        path = folder / f"{name}.{slot}.db"
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return path, lock
    raise IndexInUse(f"{SLOTS} processes keep {name} in {folder}: give some of them another LOGQUEUE_CACHE_DIR")


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, cached_statements=64)
    db.execute("PRAGMA journal_mode = WAL")
    # NORMAL syncs at checkpoints only: a power cut may lose the last commits, their position with them.
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    return db


def _open_existing(path: Path, identity: str, now_ms: int) -> sqlite3.Connection | None:
    """The index in the file if it can be used; else None, with the file gone."""
    db = None
    if path.exists():
        try:
            db = _connect(path)
            if (reason := _unusable(db, identity, now_ms)) is None:
                return db
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            reason = str(error)
        log.info("index is built anew", path=str(path), reason=reason)
    if db is not None:
        db.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return None


def _unusable(db: sqlite3.Connection, identity: str, now_ms: int) -> str | None:
    """Why an index cannot be used, or None."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return "it is no index"
    if db.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
        return "it has another layout"
    meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    if meta.get("identity") != identity:
        return "it belongs to another log or another version"
    if not 0 <= now_ms - int(meta.get("as_of_ms", 0)) <= MAX_AGE_MS:
        return "it is too old"
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        return "it is damaged"
    return None


def _create(path: Path, identity: str, now_ms: int) -> sqlite3.Connection:
    db = _connect(path)
    db.execute("BEGIN")
    for statement in _SCHEMA.strip().split(";\n"):
        db.execute(statement.rstrip(";"))
    db.execute("INSERT INTO meta VALUES ('identity', ?), ('as_of_ms', ?)", (identity, now_ms))
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {LAYOUT}")
    db.execute("COMMIT")
    return db
