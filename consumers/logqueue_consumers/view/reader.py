"""The reading side of the view file: one job, lists, counts. Read-only; knows nothing of how the file is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Self

from logqueue_schemas.status_parts import read_tail

from logqueue.errors import LogqueueError
from logqueue.ids import TopicPartition
from logqueue.jobs.flow_records import node_job_id
from logqueue_consumers.view import rows, schema
from logqueue_consumers.view.flows import (
    FlowFilter,
    FlowRow,
    NodeRow,
    count_nodes,
    list_flows,
    read_flow,
    read_nodes,
)
from logqueue_consumers.view.job import INCOMPLETE_STATES, Job, JobKey, State
from logqueue_consumers.view.listing import list_page
from logqueue_consumers.view.names import Names
from logqueue_consumers.view.place import JobFilter, Place

_CACHE_KIB: Final = 16_384
_BUSY_TIMEOUT_SECONDS: Final = 2.0
# Ids asked for in one statement (SQLite allows 32,766 variables).
_LOOKUP_IDS: Final = 500

# What runs is asked for again and again, and mostly still runs.
_read_tail = lru_cache(maxsize=4096)(read_tail)


class ViewUnavailable(LogqueueError):
    """There is no view file yet, or it is being rebuilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a list. `after` is where the next one starts; None: this was the last.

    The work for one page is bounded: a page of a rare combination of filters may be short, even empty, and still have a
    next one.
    """

    jobs: Sequence[Job]
    after: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSummary:
    """The jobs of a queue by state. `oldest_ms`: creation time of the oldest job in each state that is not terminal."""

    queue: str
    counts: Mapping[State, int]
    oldest_ms: Mapping[State, int]


class RunningRow(NamedTuple):
    """A job that is shown as running. `started_at` in microseconds since the epoch."""

    queue: str
    type: str | None
    worker: str | None
    started_at: int | None


class ViewReader:
    """One read-only connection. Use it from one thread at a time; every call is one short transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._names = Names(db)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the view for reading; raises ViewUnavailable while there is none."""
        if not path.exists():
            raise ViewUnavailable(f"there is no view at {path} yet")
        try:
            db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=_BUSY_TIMEOUT_SECONDS,
                cached_statements=64,
            )
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            version = db.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise ViewUnavailable(f"the view {path} cannot be read: {error}") from error
        if version != schema.VERSION:
            db.close()
            raise ViewUnavailable(f"the view {path} has layout {version}, not {schema.VERSION}; it will be rebuilt")
        return cls(db)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def job(self, id_: str, *, shadow: str = "") -> Job | None:
        """The job with this id, or None."""
        number = self._names.find(shadow)
        if number is None:
            return None
        found = self._db.execute(
            f"SELECT {schema.JOB_COLUMNS} FROM jobs WHERE id = ? AND shadow = ?",  # noqa: S608 - constants only
            (id_, number),
        ).fetchone()
        return None if found is None else rows.read_row(found, self._names)

    def jobs_of(self, keys: Collection[JobKey]) -> list[Job]:
        """Those of these jobs that there are."""
        wanted = frozenset(keys)
        ids = list({key.id for key in wanted})
        found: list[Job] = []
        for start in range(0, len(ids), _LOOKUP_IDS):
            chunk = ids[start : start + _LOOKUP_IDS]
            marks = ",".join("?" * len(chunk))
            rows_ = self._db.execute(f"SELECT {schema.JOB_COLUMNS} FROM jobs WHERE id IN ({marks})", chunk)  # noqa: S608
            found += [job for row in rows_.fetchall() if (job := rows.read_row(row, self._names)).key in wanted]
        return found

    def flow(self, id_: str) -> FlowRow | None:
        """The workflow with this id, or None."""
        return read_flow(self._db, id_)

    def flows(self, where: FlowFilter, *, limit: int) -> list[tuple[FlowRow, dict[str, int]]]:
        """Workflows, newest first, with their nodes by state."""
        found = list_flows(self._db, where, limit=limit)
        counts = count_nodes(self._db, [row.id for row in found])
        return [(row, counts[row.id]) for row in found]

    def flow_nodes(
        self, flow: str, *, after: str, state: str | None, limit: int
    ) -> tuple[dict[str, int], list[tuple[NodeRow, Job | None]]]:
        """Nodes of a workflow by state, and some of them with their jobs."""
        found = read_nodes(self._db, flow, after=after, state=state, limit=limit)
        return count_nodes(self._db, [flow])[flow], [(row, self.job(node_job_id(flow, row.node))) for row in found]

    def jobs(
        self,
        job_filter: JobFilter,
        *,
        limit: int,
        after: Place | None = None,
        default_types: Mapping[str, str] | None = None,
    ) -> Page:
        """One page of matching jobs, newest first. `default_types` (by queue) stand in for unknown types."""
        keys, place = list_page(
            self._db, self._names, job_filter, limit=limit, after=after, default_types=default_types or {}
        )
        return Page(jobs=[rows.read_row(row, self._names) for row in keys], after=place)

    def queues(self, *, shadow: str = "") -> list[QueueSummary]:
        """Every queue that has jobs, by name."""
        number = self._names.find(shadow)
        if number is None:
            return []
        found = self._db.execute("SELECT queue, state, jobs FROM counters WHERE shadow = ? AND jobs > 0", (number,))
        counts: dict[int, dict[State, int]] = {}
        for queue, state, jobs in found.fetchall():
            counts.setdefault(queue, {})[State(state)] = jobs
        summaries = [
            QueueSummary(queue=self._names.names[queue], counts=states, oldest_ms=self._oldest(number, queue, states))
            for queue, states in counts.items()
        ]
        return sorted(summaries, key=lambda summary: summary.queue)

    def running(self, *, limit: int) -> list[RunningRow]:
        """Live jobs that are shown as running, in each queue at most `limit`, those made first."""
        number = self._names.find("")
        found = self._db.execute(
            "SELECT queue FROM counters WHERE shadow = ? AND state = ? AND jobs > 0", (number, State.RUNNING)
        ).fetchall()
        names = self._names.names
        rows_: list[RunningRow] = []
        for (queue,) in found:
            running = self._db.execute(
                "SELECT type, tail FROM jobs INDEXED BY jobs_queue "
                "WHERE shadow = ? AND queue = ? AND state = ? ORDER BY sort LIMIT ?",
                (number, queue, State.RUNNING, limit),
            )
            for type_, tail in running.fetchall():
                said = _read_tail(tail)
                rows_.append(RunningRow(names[queue], names[type_] or None, said.worker, said.started_at))
        return rows_

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset that the fold will read, by partition."""
        found = self._db.execute("SELECT topic, partition, next_offset FROM positions")
        return {TopicPartition(topic, partition): offset for topic, partition, offset in found.fetchall()}

    def definitions(self) -> dict[str, bytes]:
        """What workers have published of their job definitions: key in `jobs.control` -> JSON."""
        return dict(self._db.execute("SELECT key, value FROM definitions").fetchall())

    def schedules(self) -> dict[str, bytes]:
        """The cron schedules, pauses and states: key in `jobs.schedules` -> JSON."""
        return dict(self._db.execute("SELECT key, value FROM schedules").fetchall())

    def _oldest(self, shadow: int, queue: int, counts: Mapping[State, int]) -> dict[State, int]:
        oldest: dict[State, int] = {}
        for state in INCOMPLETE_STATES:
            if counts.get(state):
                found = self._db.execute(
                    "SELECT sort FROM jobs INDEXED BY jobs_queue "
                    "WHERE shadow = ? AND queue = ? AND state = ? ORDER BY sort LIMIT 1",
                    (shadow, queue, state),
                ).fetchone()
                if found is not None:
                    oldest[state] = schema.created_ms_of(found[0])
        return oldest
