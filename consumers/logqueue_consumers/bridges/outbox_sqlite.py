"""The outbox table in an SQLite file: a lock file beside it, and a look at the file's version. Shell over a thread."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from logqueue.jobs.times import parse_time
from logqueue_consumers.bridges.outbox_rows import Row
from logqueue_consumers.bridges.outbox_table import (
    MAX_ROWS,
    Batch,
    Counts,
    TableMissing,
    TableUnreachable,
    batch_of,
    too_large,
)

BUSY_TIMEOUT_S = 10.0
LOOK_EVERY_S = 0.05
"""How often the file is asked whether another connection has written; microseconds each."""

_COLUMNS = ("id", "tenant", "type", "queue", "args", "headers", "record_key", "created_at")
# A column of type TEXT keeps the bytes that a program writes into it: they are read, and found again, as text.
_ROW = ", ".join(f"CAST({name} AS TEXT)" for name in _COLUMNS)
_SIZE = "length(CAST(args AS BLOB)) + coalesce(length(CAST(headers AS BLOB)), 0)"

T = TypeVar("T")


class SqliteTable:
    """One table of the file `path`."""

    def __init__(self, path: Path, *, table: str) -> None:
        self._path = path
        self._table = table
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._version = -1

    async def open(self) -> str:
        """Open the file, which must exist; the table's identity."""
        return await self._run(self._open)

    async def try_lead(self) -> bool:
        """Take the lock file, or say that another relay has it."""
        return await self._run(self._take_lock)

    async def read(self, *, max_row_bytes: int) -> Batch:
        """The next rows."""
        return await self._run(lambda connection: self._read(connection, max_row_bytes))

    async def delete(self, rows: Sequence[tuple[int, str]]) -> None:
        """Remove rows that are on the log."""

        def delete(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany(f"DELETE FROM {self._table} WHERE position = ? AND CAST(id AS TEXT) = ?", rows)

        await self._run(delete)

    async def refuse(self, row: Row, reason: str) -> None:
        """Write why a row is no job."""
        await self._run(lambda connection: self._refuse(connection, row.position, reason))

    async def changed(self, timeout_s: float) -> None:
        """Wait until another connection has written to the file."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while loop.time() < deadline:
            version = await self._run(lambda connection: connection.execute("PRAGMA data_version").fetchone()[0])
            if version != self._version:
                self._version = version
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def counts(self) -> Counts:
        """What is in the table."""

        def count(connection: sqlite3.Connection) -> Counts:
            pending, refused, oldest = connection.execute(
                "SELECT count(*) FILTER (WHERE refused IS NULL), count(refused),"
                f" min(created_at) FILTER (WHERE refused IS NULL) FROM {self._table}"
            ).fetchone()
            return Counts(pending=pending, refused=refused, oldest_ms=_ms(oldest) if oldest is not None else None)

        return await self._run(count)

    async def close(self) -> None:
        """Close the file, and let the lock go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await asyncio.to_thread(connection.close)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _open(self, _: None) -> str:
        if not self._path.is_file():
            raise TableMissing(f"there is no file {self._path}")
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        connection.text_factory = _read_text
        self._connection = connection
        try:
            names = connection.execute(f"SELECT name FROM {self._table}_identity LIMIT 2").fetchall()
            connection.execute(f"SELECT position, refused, record_key FROM {self._table} LIMIT 0")
        except sqlite3.DatabaseError as error:
            if _is_busy(error):
                raise
            raise TableMissing(
                f"{self._path}: {error}: `logqueue outbox ddl --dialect sqlite` prints what creates the outbox"
            ) from None
        if len(names) != 1:
            raise TableMissing(f"table {self._table}_identity has {len(names)} rows, and must have one")
        return str(names[0][0])

    def _take_lock(self, _: sqlite3.Connection) -> bool:
        # A file of its own: closing any descriptor of the database file would drop SQLite's POSIX locks.
        if self._lock is None:
            path = self._path.with_name(f"{self._path.name}-{self._table.rpartition('.')[2]}-relay")
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _read(self, connection: sqlite3.Connection, max_row_bytes: int) -> Batch:
        sizes = connection.execute(
            f"SELECT position, {_SIZE} FROM {self._table} WHERE refused IS NULL ORDER BY position LIMIT {MAX_ROWS}"
        ).fetchall()
        for position, size in sizes:
            if size > max_row_bytes:
                self._refuse(connection, position, too_large(size, max_row_bytes))
        fitting = [pair for pair in sizes if pair[1] <= max_row_bytes]
        wanted = batch_of(fitting)
        rows = []
        for position in wanted:
            found = connection.execute(f"SELECT {_ROW} FROM {self._table} WHERE position = ?", (position,)).fetchone()
            if found is not None:
                rows.append(_row(position, found))
        return Batch(rows, has_more=len(sizes) == MAX_ROWS or len(wanted) < len(fitting))

    def _refuse(self, connection: sqlite3.Connection, position: int, reason: str) -> None:
        with connection:
            connection.execute(f"UPDATE {self._table} SET refused = ? WHERE position = ?", (reason, position))

    async def _run(self, act: Callable[..., T]) -> T:
        """Do it in a thread; what SQLite cannot do now becomes TableUnreachable."""
        try:
            return await asyncio.to_thread(act, self._connection)
        except sqlite3.Error as error:
            raise TableUnreachable(f"{self._path}: {error}") from None
        except OSError as error:
            raise TableUnreachable(f"{self._path}: {error.strerror or error}") from None


def _row(position: int, found: tuple[Any, ...]) -> Row:
    id_, tenant, type_, queue, args, headers, record_key, created_at = found
    return Row(
        position=position,
        id=id_,
        tenant=tenant,
        type=type_,
        queue=queue,
        args=args,
        headers=headers,
        record_key=record_key,
        created_ms=_ms(created_at),
    )


def _read_text(data: bytes) -> str:
    """A text of the file, whatever its bytes are: one row that is not UTF-8 must not hide those behind it."""
    return data.decode("utf-8", "surrogateescape")


def _ms(created_at: object) -> int:
    """Milliseconds of a time as SQLite writes it (UTC), or 0: when a job was created only informs."""
    text = str(created_at)
    try:
        return max(0, parse_time(text if text[-1:] == "Z" or "+" in text else f"{text}Z"))
    except ValueError:
        return 0


def _is_busy(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) if error.sqlite_errorcode else False
