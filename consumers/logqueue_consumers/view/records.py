"""Kafka records -> pieces of knowledge about jobs. Values in, values out: no client, no SQL.

Nothing that a producer writes may stop the fold: a record in a job topic is a job even if its headers cannot be read
(known by its position), and a record in `jobs.status` that is no status is left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, Protocol

from logqueue_schemas.job_status import State as StatusState
from logqueue_schemas.job_status import StatusError, read_own
from logqueue_schemas.status_decoding import REMEMBERED

from logqueue.jobs.errors import InvalidHeader
from logqueue.jobs.headers import NO_HEADERS, read_job_headers, salvage_job_headers
from logqueue.jobs.job_ids import id_of_position
from logqueue.jobs.partitioning import DEFAULT_TENANT, MAX_TENANT_CHARS
from logqueue_consumers.view.job import (
    FROM_JOB_RECORD,
    FROM_STATUS,
    NO_EXPIRY,
    RANKS,
    Identity,
    Job,
    JobKey,
    Outcome,
    State,
    error_text,
)
from logqueue_consumers.view.schema import MAX_CREATED_MS
from logqueue_consumers.view.told import STATES, Told

_STATES: Final = dict(zip(StatusState, STATES, strict=True))
_new = tuple.__new__  # what the classes of named tuples do behind a function in Python


class Record(Protocol):
    """What is read of a consumed record; aiokafka's ConsumerRecord is one."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds since the Unix epoch
    key: Any
    value: Any
    headers: Any


def read_job_record(record: Record, queue: str) -> Job:
    """What a record in a job topic says: this job is queued (or scheduled), and here it lies."""
    try:
        headers = read_job_headers(record.headers) if record.headers else NO_HEADERS
    except InvalidHeader:
        headers = salvage_job_headers(record.headers)
    topic, partition, offset, timestamp = record.topic, record.partition, record.offset, record.timestamp
    created_ms, expires_ms = headers.created_ms, headers.expires_ms
    if created_ms is None or created_ms > MAX_CREATED_MS:
        created_ms = _believed(timestamp)
    identity = (
        FROM_JOB_RECORD,
        created_ms,
        topic,
        partition,
        offset,
        queue,
        headers.tenant or read_tenant(record.key),
        NO_EXPIRY if expires_ms is None else expires_ms * 1000,
    )
    outcome = _queued(timestamp, headers.replay, headers.attempt, headers.not_before_ms)
    id_ = headers.id or id_of_position(topic, partition, offset)
    return _new(Job, (_new(JobKey, (id_, "")), headers.type, _new(Identity, identity), outcome))


@lru_cache(maxsize=REMEMBERED)
def _queued(timestamp: int, replay: int, attempt: int, due_ms: int | None) -> Outcome:
    """The outcome of a job that is only queued, or scheduled: many have the same."""
    is_scheduled = due_ms is not None and due_ms > timestamp
    state = State.SCHEDULED if is_scheduled else State.QUEUED
    due_at = due_ms * 1000 if is_scheduled and due_ms is not None else None
    return Outcome(replay, attempt, RANKS[state], 0, state, _believed(timestamp) * 1000, "", due_at=due_at)


def _believed(created_ms: int) -> int:
    return min(max(created_ms, 0), MAX_CREATED_MS)


def read_status(
    id_: str,
    type_: str | None,
    queue: str,
    tenant: str,
    group: str,
    shadow: bool,
    state: StatusState,
    replay: int,
    attempt: int,
    rank: int,
    sequence: int,
    at: int,
    created_at: int | None,
    started_at: int | None,
    finished_at: int | None,
    due_at: int | None,
    topic: str,
    partition: int,
    offset: int,
    result: bytes | None,
    error: StatusError | None,
    worker: str | None,
    details: bytes | None,
) -> Job:
    """What a status record says: how far the job has come, and what the worker knows of its origin.

    Takes the fields in the order of the schema, see `StatusCodec.read`.
    """
    created_ms = (at if created_at is None else created_at) // 1000
    if not 0 <= created_ms <= MAX_CREATED_MS:
        created_ms = _believed(created_ms)
    cause = None
    if error is not None:
        cause = error_text(error)
    return _new(
        Job,
        (
            _new(JobKey, (id_, group if shadow else "")),
            type_,
            _new(Identity, (FROM_STATUS, created_ms, topic, partition, offset, queue, tenant, NO_EXPIRY)),
            _new(
                Outcome,
                (
                    replay,
                    attempt,
                    rank,
                    sequence,
                    _STATES[state],
                    at,
                    group,
                    started_at,
                    finished_at,
                    due_at,
                    result,
                    cause,
                    worker,
                    details,
                ),
            ),
        ),
    )


def read_told(told: Told) -> Job:
    """The whole of a status that was kept unread."""
    return read_own(told.value, read_status)


@lru_cache(maxsize=REMEMBERED)
def read_tenant(key: bytes | None) -> str:
    """The tenant in a record's key; "default" where there is none."""
    return key.decode("utf-8", "replace")[:MAX_TENANT_CHARS] if key else DEFAULT_TENANT
