"""The transactional outbox: a table in the user's own database, and the statement that puts a job into it.

The job is written by the transaction that changes the user's data, so both happen or neither (Richardson's
"Transactional outbox"). `logqueue outbox run` moves the rows to the log, exactly one job a row.

    with connection.transaction():
        connection.execute("UPDATE orders SET paid = true WHERE id = %s", [order])
        outbox.add(connection, send_invoice.prepare(tenant="acme", order=order))

| column | meaning |
|---|---|
| position | the order in which rows are moved; given by the database |
| id | the job's id; a random UUID if none is given |
| tenant, type, queue | of the job; tenant is `default` and queue is `default` if none is given |
| args | JSON object of arguments |
| headers | JSON object of texts, or NULL: `job-not-before`, `job-expires`, `job-priority`, ... |
| record_key | the record's key where it is not the tenant, or NULL |
| created_at | when the job was created |
| refused | why the relay cannot move the row; NULL again lets it try again |
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any, Final

import msgspec

from logqueue.errors import LogqueueError
from logqueue.ids import JobId
from logqueue.jobs.errors import InvalidArguments
from logqueue.jobs.headers import CE_ID, CE_SPECVERSION, CE_TIME, CE_TYPE, CONTENT_TYPE
from logqueue.jobs.payload import JSON_TYPE
from logqueue.jobs.prepared import check_prepared
from logqueue.jobs.sending import PreparedJob

DEFAULT_TABLE: Final = "logqueue_outbox"
CHANNEL: Final = "logqueue_outbox"
"""What the table's trigger notifies in PostgreSQL, so that relays need not ask again and again."""
DIALECTS: Final = ("postgres", "sqlite")
TABLE_NAME: Final = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,47}\.)?[A-Za-z_][A-Za-z0-9_]{0,47}", re.ASCII)
COLUMNS: Final = ("id", "tenant", "type", "queue", "args", "headers", "record_key")

_DERIVED = frozenset({CE_ID, CE_TYPE, CE_SPECVERSION, CE_TIME})
_MARKS = {"qmark": "?", "format": "%s", "dollar": "$%d", "named": ":%s"}

_POSTGRES = """\
CREATE TABLE {table} (
    position    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text NOT NULL DEFAULT gen_random_uuid()::text,
    tenant      text NOT NULL DEFAULT 'default',
    type        text NOT NULL,
    queue       text NOT NULL DEFAULT 'default',
    args        json NOT NULL DEFAULT '{{}}',
    headers     json,
    record_key  text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    refused     text
);
-- The name under which the log remembers what was moved: it stays with the table, dumps included.
CREATE TABLE {table}_identity (name text NOT NULL DEFAULT gen_random_uuid()::text);
INSERT INTO {table}_identity DEFAULT VALUES;

-- Wakes the relay at once. Without it rows are found within a second; commits of many writers at once, which
-- PostgreSQL puts in line where they notify, are then not slowed down.
CREATE FUNCTION {table}_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('{channel}', '');
    RETURN NULL;
END $$;
CREATE TRIGGER {trigger}_notify AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_notify();
"""

_SQLITE = """\
CREATE TABLE {table} (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
    tenant      TEXT NOT NULL DEFAULT 'default',
    type        TEXT NOT NULL,
    queue       TEXT NOT NULL DEFAULT 'default',
    args        TEXT NOT NULL DEFAULT '{{}}',
    headers     TEXT,
    record_key  TEXT,
    created_at  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    refused     TEXT
);
-- The name under which the log remembers what was moved: it stays with the table, copies included.
CREATE TABLE {table}_identity (name TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))));
INSERT INTO {table}_identity DEFAULT VALUES;
"""


class InvalidOutbox(LogqueueError):
    """A table, a dialect or a connection that cannot be an outbox; the text says why."""


def ddl(dialect: str, *, table: str = DEFAULT_TABLE) -> str:
    """The statements that create the outbox: for a migration of yours. InvalidOutbox for an unknown dialect."""
    if dialect not in DIALECTS:
        raise InvalidOutbox(f"dialect {dialect!r} is not one of {', '.join(DIALECTS)}")
    text = _POSTGRES if dialect == "postgres" else _SQLITE
    check_table(table)
    return text.format(table=table, trigger=table.rpartition(".")[2], channel=CHANNEL)


def add(connection: Any, job: PreparedJob, *, table: str = DEFAULT_TABLE) -> JobId:
    """Put a job into the outbox within the transaction of `connection`, or of its cursor; the job's id.

    For DB-API connections: sqlite3, psycopg, psycopg2, Django's. The database's own errors come through. Raises
    NotPrepared, InvalidArguments for a job that a row cannot hold, InvalidOutbox for what is no such connection.
    """
    is_sqlite = isinstance(connection, (sqlite3.Connection, sqlite3.Cursor))
    statement, values = insert(job, style="qmark" if is_sqlite else "format", table=table)
    if is_sqlite:
        connection.execute(statement, values)
    elif callable(getattr(connection, "cursor", None)):
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
    elif callable(getattr(connection, "execute", None)) and hasattr(connection, "fetchone"):
        connection.execute(statement, values)
    else:
        raise InvalidOutbox(
            f"{type(connection).__name__} is no DB-API connection; insert(job, style=...) gives statement and values"
        )
    return job.id


async def add_async(connection: Any, job: PreparedJob, *, table: str = DEFAULT_TABLE) -> JobId:
    """`add` for connections whose `execute` is awaited: asyncpg, psycopg's AsyncConnection, aiosqlite."""
    module = type(connection).__module__.partition(".")[0]
    styles = {"asyncpg": "dollar", "psycopg": "format", "aiosqlite": "qmark"}
    if module not in styles:
        raise InvalidOutbox(f"{type(connection).__name__} of {module} is not known: insert(job, style=...) gives both")
    statement, values = insert(job, style=styles[module], table=table)
    if module == "asyncpg":
        await connection.execute(statement, *values)
    else:
        await connection.execute(statement, values)
    return job.id


def insert(
    job: PreparedJob, *, style: str = "format", table: str = DEFAULT_TABLE
) -> tuple[str, tuple[str | None, ...]]:
    """The INSERT statement of a job and its values, for any driver.

    `style` is the driver's: `qmark` (?), `format` (%s), `dollar` ($1), or `named` (:id; zip the values with COLUMNS).
    """
    check_prepared(job, "The outbox")
    if style not in _MARKS:
        raise InvalidOutbox(f"style {style!r} is not one of {', '.join(_MARKS)}")
    names = {"dollar": range(1, len(COLUMNS) + 1), "named": COLUMNS}.get(style)
    marks = [_MARKS[style]] * len(COLUMNS) if names is None else [_MARKS[style] % name for name in names]
    statement = f"INSERT INTO {check_table(table)} ({', '.join(COLUMNS)}) VALUES ({', '.join(marks)})"  # noqa: S608
    return statement, (job.id, job.tenant, job.type, job.queue, _arguments(job), _headers(job), job.key)


def check_table(table: str) -> str:
    """The table's name itself, or InvalidOutbox: names are written into statements as they are."""
    if not TABLE_NAME.fullmatch(table):
        raise InvalidOutbox(f"Table {table!r} is not of the form name or schema.name (letters, digits, _)")
    return table


def _arguments(job: PreparedJob) -> str:
    if dict(job.headers).get(CONTENT_TYPE) != JSON_TYPE.encode():
        raise InvalidArguments(f"Job {job.id}: an outbox row holds JSON arguments only")
    return job.value.decode()


def _headers(job: PreparedJob) -> str:
    try:
        found = {name: value.decode() for name, value in job.headers if name not in _DERIVED}
    except UnicodeDecodeError:
        raise InvalidArguments(f"Job {job.id}: an outbox row holds headers of UTF-8 text only") from None
    return msgspec.json.encode(found).decode()
