"""A row of an outbox table as a record of the log, and what the log remembers of the rows it has. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from logqueue.errors import LogqueueError
from logqueue.jobs.definition import check_type
from logqueue.jobs.headers import (
    CE_SOURCE,
    CONTENT_TYPE,
    EXPIRES,
    IDEMPOTENCY_KEY,
    NOT_BEFORE,
    OWN_HEADERS,
    PRIORITY,
    TENANT,
    TRACEPARENT,
    job_headers,
    read_job_headers,
)
from logqueue.jobs.payload import JSON_TYPE
from logqueue.jobs.sending import HEADER_OVERHEAD_BYTES, check_id, check_tenant
from logqueue.jobs.topics import TopicNames
from logqueue_consumers.bridges.queue_classes import QueueClasses
from logqueue_consumers.writing.outgoing import Outgoing

SOURCE: Final = "logqueue-outbox"
"""`ce_source` of jobs whose row names none."""
ALLOWED: Final = frozenset({CE_SOURCE, CONTENT_TYPE, EXPIRES, IDEMPOTENCY_KEY, NOT_BEFORE, PRIORITY, TENANT})
"""Our own headers that a row may set."""

_decode_headers = msgspec.json.Decoder(dict[str, str]).decode
_decode_args = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

Done = frozenset[tuple[int, str]]
"""Position and id of each row of a batch: a position alone may be given out again after a TRUNCATE."""


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row. `created_ms` is milliseconds since the epoch."""

    position: int
    id: str
    tenant: str
    type: str
    queue: str
    args: str
    created_ms: int
    headers: str | None = None
    record_key: str | None = None

    @property
    def identity(self) -> tuple[int, str]:
        """What tells it from every other row."""
        return self.position, self.id


class BadRow(LogqueueError):
    """A row that is no job; the text says why. Only the user can mend it."""


class _Memory(msgspec.Struct, frozen=True):
    rows: list[tuple[int, str]]


def priority_of(row: Row) -> str | None:
    """The priority class that a row names; None too where its headers cannot be read, which `job_record` tells."""
    if row.headers is None or PRIORITY not in row.headers:
        return None
    try:
        return _decode_headers(row.headers).get(PRIORITY)
    except (ValueError, RecursionError):
        return None


def job_record(row: Row, names: TopicNames, classes: QueueClasses, *, max_bytes: int) -> Outgoing:
    """The record of a row's job; BadRow if it is none, or larger than `max_bytes`."""
    try:
        return _record(row, names, classes, max_bytes)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"args must be a JSON object, headers a JSON object of texts: {error}") from None
    except BadRow:
        raise
    except Exception as error:
        if not isinstance(error, LogqueueError):
            raise
        raise BadRow(str(error)) from None


def _record(row: Row, names: TopicNames, classes: QueueClasses, max_bytes: int) -> Outgoing:
    headers = _decode_headers(row.headers) if row.headers is not None else {}
    own = [name for name in headers if name in OWN_HEADERS and name not in ALLOWED and name != TRACEPARENT]
    if own:
        raise BadRow(f"header {own[0]!r} is not a row's to set")
    if headers.pop(CONTENT_TYPE, JSON_TYPE) != JSON_TYPE:
        raise BadRow("args are JSON: no other content-type")
    value = row.args.encode()
    _decode_args(value)
    named = headers.pop(PRIORITY, None)
    priority = None if named is None else classes.topic_class(row.queue, named)
    if priority is not None:
        headers[PRIORITY] = priority
    source = headers.pop(CE_SOURCE, SOURCE)
    pairs = job_headers(
        id=check_id(row.id),
        type=check_type(row.type),
        source=source,
        created_ms=row.created_ms,
        extra=[(name, text.encode()) for name, text in headers.items()],
    )
    read_job_headers(pairs)
    key = (row.record_key if row.record_key is not None else check_tenant(row.tenant)).encode()
    size = len(value) + sum(len(name) + len(text) + HEADER_OVERHEAD_BYTES for name, text in pairs)
    if size > max_bytes:
        raise BadRow(f"the job is {size:,} bytes; at most {max_bytes:,} are sent (LOGQUEUE_MAX_RECORD_BYTES)")
    return Outgoing(names.jobs(row.queue, priority), None, key, value, pairs, row.created_ms)


def memory_record(identity: str, rows: Iterable[Row], names: TopicNames, *, now_ms: int) -> Outgoing:
    """What is written in the transaction of a batch: the rows that it moves."""
    value = msgspec.json.encode(_Memory([row.identity for row in rows]))
    return Outgoing(names.outbox, 0, memory_key(identity), value, [], now_ms)


def remembered(records: Sequence[Any], identity: str) -> Done:
    """The rows of the last batch of this table, from the records of the topic in their order."""
    key, value = memory_key(identity), None
    for record in records:
        if record.key == key:
            value = record.value
    return frozenset() if value is None else frozenset(msgspec.json.decode(value, type=_Memory).rows)


def memory_key(identity: str) -> bytes:
    """The key under which the rows of a table are remembered."""
    return f"outbox/{identity}".encode()
