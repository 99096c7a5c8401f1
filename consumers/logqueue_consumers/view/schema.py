"""The layout of the view file: tables, indexes, version. Knows no records and no queries.

`sort` orders jobs by birth, newest last: 43 bits of creation time in milliseconds, then 20 bits made of the job's
offset and partition, so that jobs of one millisecond keep the order of their partition, the order is the same in every
copy of the view, and one integer serves as the key of every index. Ties (two topics, equal offset) are broken by id.

Names (queues, types, tenants, topics, groups) are stored once and referred to by number; 0 is "none". `tail` is what
nothing is compared or searched by: the end of the Avro record of the status (`logqueue_schemas.status_parts`).

| index        | serves                                                                                   |
|--------------|------------------------------------------------------------------------------------------|
| jobs_id      | lookup by id; the live run (shadow = 0) and each shadow group's run are rows of their own |
| jobs_queue   | every list without a type or tenant: one range for each (queue, state), merged by `sort`  |
| jobs_type    | lists by type                                                                             |
| jobs_tenant  | lists by tenant                                                                           |

`counters` holds the number of jobs for each (shadow, queue, state), kept in the transaction that changes the jobs, so
that a count costs the same at ten jobs and at ten million.
"""

from __future__ import annotations

from typing import Final

# "lqvw": the file says what it is (SQLite's application_id); the version says which layout.
APPLICATION_ID: Final = 0x6C717677
VERSION: Final = 5

SORT_TIE_BITS: Final = 20
_PARTITION_BITS: Final = 5
_TIE_MASK: Final = (1 << SORT_TIE_BITS) - 1

# Creation times outside this range are not believed (a foreign ce_time may hold anything): 1970 to 2200.
MAX_CREATED_MS: Final = 7_258_118_400_000


def sort_key(*, created_ms: int, partition: int, offset: int) -> int:
    """The place of a job among all jobs by birth."""
    tie = (offset << _PARTITION_BITS | partition & ((1 << _PARTITION_BITS) - 1)) & _TIE_MASK
    return created_ms << SORT_TIE_BITS | tie


def created_ms_of(sort: int) -> int:
    """The creation time that a sort key holds."""
    return sort >> SORT_TIE_BITS


TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE positions (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

CREATE TABLE definitions (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE schedules (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE counters (
    shadow INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    state INTEGER NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (shadow, queue, state)
) WITHOUT ROWID;

CREATE TABLE jobs (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    shadow INTEGER NOT NULL,
    type INTEGER NOT NULL,
    sort INTEGER NOT NULL,
    source INTEGER NOT NULL,
    topic INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    "offset" INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    tenant INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    replay INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    state INTEGER NOT NULL,
    "group" INTEGER NOT NULL,
    tail BLOB NOT NULL
);
CREATE UNIQUE INDEX jobs_id ON jobs (id, shadow);
CREATE INDEX jobs_queue ON jobs (shadow, queue, state, sort, type, tenant);
CREATE INDEX jobs_type ON jobs (shadow, type, sort, tenant);
CREATE INDEX jobs_tenant ON jobs (shadow, tenant, sort);
"""

# The order of a row everywhere: inserted so, read so.
JOB_COLUMNS: Final = (
    'key, id, shadow, type, sort, source, topic, partition, "offset", queue, tenant, expires_us, '
    'replay, attempt, rank, state, "group", tail'
)

# What tells whether an outcome is later than that of a row, and which counter the row is in.
_STANDING: Final = ("shadow", "source", "type", "queue", "state", "replay", "attempt", "rank")
HEAD_COLUMNS: Final = f"key, id, {', '.join(_STANDING)}"

INSERT_JOB: Final = f"INSERT INTO jobs ({JOB_COLUMNS}) VALUES (NULL{', ?' * 17})"  # noqa: S608 - constants only
_SHARED: Final = ("replay", "attempt", "rank", "state", '"group"')  # of an outcome, what many jobs have in common
_OUTCOME: Final = ", ".join(f"{column}=?" for column in (*_SHARED, "tail"))
UPDATE_OUTCOME: Final = f"UPDATE jobs SET {_OUTCOME} WHERE key=?"  # noqa: S608 - constants only
UPDATE_TYPED_OUTCOME: Final = f"UPDATE jobs SET type=?, {_OUTCOME} WHERE key=?"  # noqa: S608 - constants only


def update_told(columns: tuple[int, ...], *, is_typed: bool, standing: tuple[int, ...] | None = None) -> str:
    """Statement for many rows that get the same outcome but for the tail: `columns` are [type,] replay .. group.

    The rows are found by key, or by id, and then only those with this `standing` (HEAD_COLUMNS behind the id).
    """
    names = ("type", *_SHARED) if is_typed else _SHARED
    which = "key=?" if standing is None else f"id=? AND {_equal(_STANDING, standing, ' AND ')}"
    return f"UPDATE jobs SET {_equal(names, columns, ', ')}, tail=? WHERE {which}"  # noqa: S608 - numbers only


def _equal(names: tuple[str, ...], numbers: tuple[int, ...], between: str) -> str:
    return between.join(f"{name}={number:d}" for name, number in zip(names, numbers, strict=True))


# Names the columns of every index but the first, and so rewrites their entries even where the values stay.
UPDATE_JOB: Final = f"""
UPDATE jobs SET type=?, sort=?, source=?, topic=?, partition=?, "offset"=?, queue=?, tenant=?, expires_us=?,
{_OUTCOME} WHERE key=?
"""  # noqa: S608 - constants only
# Touches no index.
ADOPT_JOB: Final = 'UPDATE jobs SET source=?, topic=?, partition=?, "offset"=?, expires_us=? WHERE key=?'
ADD_TO_COUNTER: Final = """
INSERT INTO counters (shadow, queue, state, jobs) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs
"""
SET_POSITION: Final = """
INSERT INTO positions (topic, partition, next_offset) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset
"""
