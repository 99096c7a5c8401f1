"""The outbox table in PostgreSQL, over asyncpg: advisory lock, LISTEN, one connection. Shell.

The lock and LISTEN belong to the session, so a pooler between must not share it (pgbouncer: session mode).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from zlib import crc32

import structlog

from logqueue.outbox import CHANNEL
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

if TYPE_CHECKING:
    import asyncpg

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 2.0
LOCK_CLASS = 0x6C71
"""First number of our advisory locks; the second is made from the table's identity."""

_SIZE = "octet_length(args::text) + coalesce(octet_length(headers::text), 0)"


class PostgresTable:
    """One table; `url` is `postgresql://user@host:port/database`, or any that libpq would take."""

    def __init__(self, url: str, *, table: str) -> None:
        self._url = url
        self._table = table
        self._identity = ""
        self._connection: asyncpg.Connection[Any] | None = None
        self._notified = asyncio.Event()

    async def open(self) -> str:
        """Connect and listen; the table's identity."""
        try:
            import asyncpg
        except ImportError:
            raise TableMissing("PostgreSQL needs asyncpg: pip install 'logqueue-kafka[postgres]'") from None
        try:
            self._connection = await asyncpg.connect(
                self._url, timeout=CONNECT_TIMEOUT_S, command_timeout=COMMAND_TIMEOUT_S
            )
        except (ValueError, asyncpg.InterfaceError) as error:
            raise TableMissing(f"PostgreSQL cannot be reached by this URL: {error}") from None
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise TableUnreachable(f"PostgreSQL does not let us in: {error or type(error).__name__}") from None
        async with self._talking() as connection:
            try:
                names = await connection.fetch(f"SELECT name FROM {self._table}_identity LIMIT 2")
                await connection.fetch(f"SELECT position, refused, record_key FROM {self._table} LIMIT 0")
            except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError) as error:
                raise TableMissing(
                    f"{error}: `logqueue outbox ddl --dialect postgres` prints what creates the outbox"
                ) from None
            except asyncpg.InsufficientPrivilegeError as error:
                raise TableMissing(f"{error}: the relay reads, updates and deletes rows") from None
            if len(names) != 1:
                raise TableMissing(f"table {self._table}_identity has {len(names)} rows, and must have one")
            await connection.add_listener(CHANNEL, self._hear)
            connection.add_termination_listener(self._hear)
        self._identity = names[0]["name"]
        return self._identity

    async def try_lead(self) -> bool:
        """Take the advisory lock, or say that another relay has it."""
        number = crc32(self._identity.encode()) - 2**31
        async with self._talking() as connection:
            return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCK_CLASS, number))

    async def read(self, *, max_row_bytes: int) -> Batch:
        """The next rows."""
        async with self._talking() as connection:
            self._notified.clear()
            sizes = await connection.fetch(
                f"SELECT position, {_SIZE} AS size FROM {self._table} WHERE refused IS NULL"
                f" ORDER BY position LIMIT {MAX_ROWS}"
            )
            fitting: list[tuple[int, int]] = []
            for position, size in sizes:
                if size <= max_row_bytes:
                    fitting.append((position, size))
                else:
                    await self._refuse(connection, position, too_large(size, max_row_bytes))
            wanted = batch_of(fitting)
            found = await connection.fetch(
                "SELECT position, id, tenant, type, queue, args::text AS args, headers::text AS headers, record_key,"
                f" (extract(epoch FROM created_at) * 1000)::bigint AS created_ms FROM {self._table}"
                " WHERE position = ANY($1) ORDER BY position",
                wanted,
            )
        has_more = len(sizes) == MAX_ROWS or len(wanted) < len(fitting)
        return Batch([Row(**dict(record)) for record in found], has_more)

    async def delete(self, rows: Sequence[tuple[int, str]]) -> None:
        """Remove rows that are on the log."""
        async with self._talking() as connection:
            await connection.execute(
                f"DELETE FROM {self._table} AS t USING unnest($1::bigint[], $2::text[]) AS done(position, id)"
                " WHERE t.position = done.position AND t.id = done.id",
                [position for position, _ in rows],
                [id_ for _, id_ in rows],
            )

    async def refuse(self, row: Row, reason: str) -> None:
        """Write why a row is no job."""
        async with self._talking() as connection:
            await self._refuse(connection, row.position, reason)

    async def changed(self, timeout_s: float) -> None:
        """Wait for a notification, or the end of the connection."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._notified.wait()
        except TimeoutError:
            return

    async def counts(self) -> Counts:
        """What is in the table."""
        async with self._talking() as connection:
            found = await connection.fetchrow(
                "SELECT count(*) FILTER (WHERE refused IS NULL) AS pending,"
                " count(*) FILTER (WHERE refused IS NOT NULL) AS refused,"
                " (extract(epoch FROM min(created_at) FILTER (WHERE refused IS NULL)) * 1000)::bigint AS oldest_ms"
                f" FROM {self._table}"
            )
        assert found is not None, "an aggregate has one row"
        return Counts(**dict(found))

    async def close(self) -> None:
        """End the connection, and with it the lock."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        import asyncpg

        try:
            await connection.close(timeout=CLOSE_TIMEOUT_S)
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            log.debug("connection cut", error=repr(error))
            connection.terminate()

    async def _refuse(self, connection: asyncpg.Connection[Any], position: int, reason: str) -> None:
        await connection.execute(
            f"UPDATE {self._table} SET refused = $2 WHERE position = $1",
            position,
            reason,
        )

    def _hear(self, *_: object) -> None:
        self._notified.set()

    @asynccontextmanager
    async def _talking(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """The connection; what ends it becomes TableUnreachable."""
        import asyncpg

        connection = self._connection
        if connection is None or connection.is_closed():
            raise TableUnreachable("the connection to PostgreSQL has ended")
        try:
            yield connection
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
            raise TableUnreachable(f"PostgreSQL: {error or type(error).__name__}") from None
