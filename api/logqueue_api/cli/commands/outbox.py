"""The transactional outbox: jobs that a transaction of your own database writes, moved to the log.

  logqueue outbox ddl --dialect postgres | psql shop     creates the table (also: sqlite)
  logqueue outbox run postgresql://shop@db/shop          moves its rows, exactly one job each
  logqueue outbox status sqlite:///shop.db               how many rows wait, how many were refused

Start as many relays of a table as you like: one moves rows, the others stand by.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from logqueue_api.cli.arguments import add_json
from logqueue_api.cli.exits import CommandError, ExitCode, UsageError
from logqueue_api.cli.output import Output
from logqueue_api.cli.serving import add_serving, begin, stop_on_signal

if TYPE_CHECKING:
    from logqueue_consumers.bridges.outbox_relay import RelayCounts
    from logqueue_consumers.bridges.outbox_table import OutboxTable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ddl|run|status")
    print_ddl = verbs.add_parser("ddl", help="print the statements that create the table")
    print_ddl.add_argument("--dialect", choices=("postgres", "sqlite"), required=True)
    _add_table(print_ddl)
    add_json(print_ddl)
    run_relay = verbs.add_parser("run", help="move rows to the log until SIGTERM or Ctrl-C")
    run_relay.add_argument(
        "url", metavar="URL", help="postgresql://user@host/database, sqlite:///relative.db or sqlite:////absolute.db"
    )
    run_relay.add_argument("--once", action="store_true", help="move what is there and end")
    _add_table(run_relay)
    add_serving(run_relay)
    status = verbs.add_parser("status", help="how many rows wait, how many were refused")
    status.add_argument("url", metavar="URL", help="as of run")
    _add_table(status)
    add_json(status)


def run(options: argparse.Namespace) -> int:
    from logqueue import outbox

    try:
        outbox.check_table(options.table)
        if options.verb == "ddl":
            text = outbox.ddl(options.dialect, table=options.table)
            output = Output(is_json=options.json)
            output.event({"dialect": options.dialect, "ddl": text}, text)
            return ExitCode.OK
    except outbox.InvalidOutbox as error:
        raise UsageError(str(error)) from None
    table = _table(options.url, options.table)
    try:
        return _status(table, options) if options.verb == "status" else _run(table, options)
    except _unreachable() as error:
        raise CommandError(str(error), code=ExitCode.UNREACHABLE) from None


def _add_table(parser: argparse.ArgumentParser) -> None:
    from logqueue.outbox import DEFAULT_TABLE

    parser.add_argument("--table", metavar="NAME", default=DEFAULT_TABLE, help=f"its name ({DEFAULT_TABLE})")


def _unreachable() -> tuple[type[Exception], ...]:
    from logqueue_consumers.bridges.outbox_table import TableMissing, TableUnreachable

    return TableMissing, TableUnreachable


def _table(url: str, name: str) -> OutboxTable:
    """The table that a URL names."""
    parts = urlsplit(url)
    if parts.scheme in ("postgresql", "postgres"):
        from logqueue_consumers.bridges.outbox_postgres import PostgresTable

        return PostgresTable(url, table=name)
    if parts.scheme == "sqlite" and not parts.netloc and parts.path:
        from pathlib import Path

        from logqueue_consumers.bridges.outbox_sqlite import SqliteTable

        # As SQLAlchemy writes them: sqlite:///relative.db, sqlite:////absolute.db.
        path = Path(unquote(parts.path[1:]))
        if not path.is_absolute() and not path.exists() and Path("/", path).exists():
            raise UsageError(f"there is no file {path} here", hint=f"/{path} is sqlite:////{path}")
        return SqliteTable(path, table=name)
    raise UsageError(f"{url!r} names no database", hint="postgresql://user@host/database, sqlite:///relative.db")


def _status(table: OutboxTable, options: argparse.Namespace) -> int:
    from logqueue.jobs.times import format_time

    async def look() -> dict[str, int | str | None]:
        try:
            await table.open()
            counts = await table.counts()
        finally:
            await table.close()
        oldest = None if counts.oldest_ms is None else format_time(counts.oldest_ms)
        return {"pending": counts.pending, "refused": counts.refused, "oldest_at": oldest}

    Output(is_json=options.json).record(asyncio.run(look()))
    return ExitCode.OK


def _run(table: OutboxTable, options: argparse.Namespace) -> int:
    stack, output = begin(options)

    from logqueue_consumers.bridges.outbox_relay import OutboxRelay

    from logqueue.clock import SystemClock
    from logqueue.jobs.settings import load_settings

    settings = load_settings(bootstrap=stack.bootstrap)

    def on_lead() -> None:
        output.event({"event": "ready", "table": options.table}, f"logqueue outbox ready: {options.table} is moved")

    async def work() -> RelayCounts:
        relay = OutboxRelay(settings, table, clock=SystemClock(), on_lead=on_lead)
        if options.once:
            return await relay.drain()
        return await relay.run(stop_on_signal())

    counts = asyncio.run(work())
    done = {"moved": counts.moved, "refused": counts.refused, "recalled": counts.recalled}
    output.event({"event": "stopped", **done}, f"logqueue outbox stopped: {counts.moved} moved")
    if counts.refused:
        print(f"logqueue: {counts.refused} rows refused: their column `refused` says why", file=sys.stderr)
    return ExitCode.FAILED if counts.refused and options.once else ExitCode.OK
