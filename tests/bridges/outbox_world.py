"""An outbox table in either database, and what tests do to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from logqueue_consumers.bridges.outbox_postgres import PostgresTable
from logqueue_consumers.bridges.outbox_relay import OutboxRelay, RelayCounts
from logqueue_consumers.bridges.outbox_sqlite import SqliteTable
from logqueue_consumers.bridges.outbox_table import OutboxTable

from logqueue import outbox
from logqueue.clock import SystemClock
from logqueue.jobs.sending import PreparedJob
from tests.consumers.conftest import Log


@dataclass
class OutboxWorld:
    """One database with one table of the test's own."""

    dialect: str
    url: str
    name: str

    async def create(self) -> None:
        """Create the table with the statements that users are given."""
        ddl = outbox.ddl(self.dialect, table=self.name)
        if self.dialect == "sqlite":
            with sqlite3.connect(self.path) as connection:
                connection.executescript(ddl)
        else:
            await self._postgres(ddl)

    @property
    def path(self) -> Path:
        return Path(self.url.removeprefix("sqlite:///"))

    def table(self) -> OutboxTable:
        """A connection for a relay."""
        if self.dialect == "sqlite":
            return SqliteTable(self.path, table=self.name)
        return PostgresTable(self.url, table=self.name)

    def relay(self, log: Log, *, table: OutboxTable | None = None) -> OutboxRelay:
        """A relay of the table."""
        return OutboxRelay(log.settings, table if table is not None else self.table(), clock=SystemClock())

    async def drain(self, log: Log) -> RelayCounts:
        """Move what is there."""
        return await self.relay(log).drain()

    async def execute(self, statement: str) -> list[Any]:
        """A statement in a transaction of its own; {table} is the table's name."""
        statement = statement.format(table=self.name)
        if self.dialect == "sqlite":
            connection = sqlite3.connect(self.path)
            try:
                with connection:
                    return connection.execute(statement).fetchall()
            finally:
                connection.close()
        return [tuple(row) for row in await self._postgres(statement)]

    async def add(self, jobs: Sequence[PreparedJob], *, then_roll_back: bool = False) -> None:
        """Write jobs in one transaction, with the users' helper."""
        if self.dialect == "sqlite":
            connection = sqlite3.connect(self.path)
            for job in jobs:
                outbox.add(connection, job, table=self.name)
            (connection.rollback if then_roll_back else connection.commit)()
            connection.close()
            return
        connection = await asyncpg.connect(self.url)
        transaction = connection.transaction()
        await transaction.start()
        for job in jobs:
            await outbox.add_async(connection, job, table=self.name)
        await (transaction.rollback if then_roll_back else transaction.commit)()
        await connection.close()

    async def count(self) -> int:
        """Rows in the table."""
        return int((await self.execute("SELECT count(*) FROM {table}"))[0][0])

    async def _postgres(self, statement: str) -> list[Any]:
        connection = await asyncpg.connect(self.url)
        try:
            if statement.lstrip().startswith("SELECT"):
                return list(await connection.fetch(statement))
            await connection.execute(statement)
            return []
        finally:
            await connection.close()


class Cut(Exception):
    """What stands for the power cut of a relay."""


class CutTable:
    """A table whose relay dies at a named step, the first time that it gets there."""

    def __init__(self, table: OutboxTable, *, step: str, leads_always: bool = False) -> None:
        self._table = table
        self._step = step
        self._leads_always = leads_always

    def __getattr__(self, name: str) -> Any:
        if name == self._step:
            raise Cut(name)
        return getattr(self._table, name)

    async def try_lead(self) -> bool:
        return self._leads_always or await self._table.try_lead()


class UnlockedTable:
    """A table whose lock does not hold: each relay takes itself for the one that leads."""

    def __init__(self, table: OutboxTable) -> None:
        self._table = table

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    async def try_lead(self) -> bool:
        return True
