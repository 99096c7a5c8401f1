"""A page of jobs by filter, with bounded work: walk index ranges newest first, keep what matches. Knows the indexes.

The ranges walked are the ones that hold the fewest jobs: (queue, state) pairs, one type, or one tenant. Several ranges
are merged by `sort`. What the range does not decide is tested entry by entry, at most MAX_WALKED of them for one page;
then the page ends where the walk ended, perhaps short, and the next one goes on from there. So a rare combination of
filters costs pages, never one slow query.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from logqueue_consumers.view import schema
from logqueue_consumers.view.job import State
from logqueue_consumers.view.names import NO_NAME, Names
from logqueue_consumers.view.place import JobFilter, Place

# Index entries looked at for one page (a few milliseconds), and how many of them a look into the table costs.
MAX_WALKED: Final = 8_000
TABLE_LOOK_COST: Final = 4
# How far the size of a range is counted when choosing which one to walk.
_PROBED: Final = 2_000
_LARGEST_SORT: Final = 2**63 - 1

# An entry: sort, key, queue, state, type, tenant.
_Entry = tuple[int, int, int, int, int, int]
_ENTRY_COLUMNS: Final = "sort, key, queue, state, type, tenant"
# What the indexes hold themselves.
_INDEXED_COLUMNS: Final = {
    "jobs_queue": _ENTRY_COLUMNS,
    "jobs_type": "sort, key, 0, 0, type, tenant",
    "jobs_tenant": "sort, key, 0, 0, 0, tenant",
}

_INDEXES: Final = {
    "jobs_queue": "shadow = ? AND queue = ? AND state = ?",
    "jobs_type": "shadow = ? AND type = ?",
    "jobs_tenant": "shadow = ? AND tenant = ?",
}


@dataclass(frozen=True, slots=True)
class _Range:
    """Index entries with these leading values."""

    index: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A filter with numbers for names. `untyped_queues`: there, a job whose type is not known counts as of `type`."""

    shadow: int
    states: frozenset[int]
    queue: int | None
    tenant: int | None
    type: int | None
    untyped_queues: frozenset[int]
    newest: int
    oldest: int

    def needs_table(self, index: str) -> bool:
        """Whether entries of an index cannot tell alone which jobs match."""
        if index == "jobs_queue":
            return False
        if index == "jobs_tenant" and self.type is not None:
            return True
        return self.queue is not None or len(self.states) < len(State) or bool(self.untyped_queues)

    def matches(self, entry: _Entry) -> bool:
        _, _, queue, state, type_, tenant = entry
        if state not in self.states or (self.tenant is not None and tenant != self.tenant):
            return False
        if self.queue is not None and queue != self.queue:
            return False
        return self.type is None or type_ == self.type or (type_ == NO_NAME and queue in self.untyped_queues)


def list_page(
    db: sqlite3.Connection,
    names: Names,
    job_filter: JobFilter,
    *,
    limit: int,
    after: Place | None,
    default_types: Mapping[str, str],
) -> tuple[list[tuple[Any, ...]], Place | None]:
    """At most `limit` rows (JOB_COLUMNS) in order, and the place where the next page starts (None: there is none)."""
    wanted = _resolve(names, job_filter, after, default_types)
    if wanted is None or wanted.newest < wanted.oldest:
        return [], None
    db.execute("BEGIN")  # one snapshot for the walk and the rows it found
    try:
        ranges = _choose(db, wanted)
        is_costly = any(wanted.needs_table(range_.index) for range_ in ranges)
        most = MAX_WALKED // TABLE_LOOK_COST if is_costly else MAX_WALKED
        keys, walked_to = _walk(_merged(db, ranges, wanted), _matcher(db, wanted, after), limit=limit, most=most)
        found = _fetch(db, keys)
    finally:
        db.execute("COMMIT")
    sort, id_ = itemgetter(4), itemgetter(1)
    found.sort(key=lambda row: (-sort(row), id_(row)))
    if len(found) > limit:
        found = found[:limit]
        return found, Place(sort(found[-1]), id_(found[-1]))
    # The walk was cut behind all entries of one sort: go on below it.
    return found, None if walked_to is None else Place(walked_to - 1, "")


def _resolve(
    names: Names, job_filter: JobFilter, after: Place | None, default_types: Mapping[str, str]
) -> _Wanted | None:
    """The filter in numbers; None if it names something that the view has never seen."""
    shadow = names.find(job_filter.shadow)
    queue = None if job_filter.queue is None else names.find(job_filter.queue)
    tenant = None if job_filter.tenant is None else names.find(job_filter.tenant)
    type_ = None if job_filter.type is None else names.find(job_filter.type)
    untyped = frozenset(
        number
        for name, default in default_types.items()
        if default == job_filter.type and (number := names.find(name)) is not None
    )
    if shadow is None or (job_filter.queue is not None and queue is None):
        return None
    if job_filter.tenant is not None and tenant is None:
        return None
    if job_filter.type is not None and type_ is None:
        if not untyped:
            return None
        type_ = -1  # no row holds it, but there are rows without a type that count as of it
    newest = _LARGEST_SORT if job_filter.until_ms is None else (max(job_filter.until_ms, 0) << schema.SORT_TIE_BITS) - 1
    oldest = 0 if job_filter.since_ms is None else max(job_filter.since_ms, 0) << schema.SORT_TIE_BITS
    if after is not None:
        newest = min(newest, after.sort)
    states = frozenset(int(state) for state in (job_filter.states or State))
    return _Wanted(shadow, states, queue, tenant, type_, untyped, newest, oldest)


def _choose(db: sqlite3.Connection, wanted: _Wanted) -> list[_Range]:
    """The ranges that hold every match and the fewest jobs besides."""
    pairs = db.execute(
        "SELECT queue, state, jobs FROM counters WHERE shadow = ? AND jobs > 0", (wanted.shadow,)
    ).fetchall()
    pairs = [pair for pair in pairs if pair[1] in wanted.states and wanted.queue in (None, pair[0])]
    best = [_Range("jobs_queue", (wanted.shadow, queue, state)) for queue, state, _ in pairs]
    fewest = sum(jobs for _, _, jobs in pairs)
    candidates: list[list[_Range]] = []
    if wanted.tenant is not None:
        candidates.append([_Range("jobs_tenant", (wanted.shadow, wanted.tenant))])
    if wanted.type is not None:
        types = (wanted.type, NO_NAME) if wanted.untyped_queues else (wanted.type,)
        candidates.append([_Range("jobs_type", (wanted.shadow, type_)) for type_ in types])
    for ranges in candidates:
        size = sum(_probe(db, range_, wanted) for range_ in ranges)
        # Of a range that was not counted to its end no more is known than that it is large.
        is_costly = wanted.needs_table(ranges[0].index) or size >= _PROBED
        cost = size * TABLE_LOOK_COST if is_costly else size
        if cost < fewest:
            best, fewest = ranges, cost
    return best


def _probe(db: sqlite3.Connection, range_: _Range, wanted: _Wanted) -> int:
    query = (
        f"SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY {range_.index} "  # noqa: S608 - constants only
        f"WHERE {_INDEXES[range_.index]} AND sort BETWEEN ? AND ? LIMIT {_PROBED})"
    )
    return int(db.execute(query, (*range_.values, wanted.oldest, wanted.newest)).fetchone()[0])


def _merged(db: sqlite3.Connection, ranges: Iterable[_Range], wanted: _Wanted) -> Iterable[_Entry]:
    walks = []
    for range_ in ranges:
        columns = _ENTRY_COLUMNS if wanted.needs_table(range_.index) else _INDEXED_COLUMNS[range_.index]
        query = (
            f"SELECT {columns} FROM jobs INDEXED BY {range_.index} "  # noqa: S608 - constants only
            f"WHERE {_INDEXES[range_.index]} AND sort BETWEEN ? AND ? ORDER BY sort DESC"
        )
        walks.append(db.execute(query, (*range_.values, wanted.oldest, wanted.newest)))
    return walks[0] if len(walks) == 1 else heapq.merge(*walks, key=itemgetter(0), reverse=True)


def _matcher(db: sqlite3.Connection, wanted: _Wanted, after: Place | None) -> Callable[[_Entry], bool]:
    """What stands on this page. Entries tied with the last one of the page before are told apart by id."""
    if after is None:
        return wanted.matches

    def matches(entry: _Entry) -> bool:
        if entry[0] == after.sort:
            id_ = db.execute("SELECT id FROM jobs WHERE key = ?", (entry[1],)).fetchone()[0]
            if id_ <= after.id:
                return False
        return wanted.matches(entry)

    return matches


def _walk(
    entries: Iterable[_Entry], matches: Callable[[_Entry], bool], *, limit: int, most: int
) -> tuple[list[int], int | None]:
    """Keys of one match more than a page holds, with all that tie with the last; and where a cut walk stopped."""
    keys: list[int] = []
    last_sort = -1
    for walked, entry in enumerate(entries):
        sort = entry[0]
        if len(keys) > limit and sort != last_sort:
            return keys, None
        if walked >= most and sort != last_sort:
            return keys, last_sort
        last_sort = sort
        if matches(entry):
            keys.append(entry[1])
    return keys, None


def _fetch(db: sqlite3.Connection, keys: list[int]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(keys), 500):
        chunk = keys[start : start + 500]
        marks = ",".join("?" * len(chunk))
        rows += db.execute(f"SELECT {schema.JOB_COLUMNS} FROM jobs WHERE key IN ({marks})", chunk).fetchall()  # noqa: S608
    return rows
