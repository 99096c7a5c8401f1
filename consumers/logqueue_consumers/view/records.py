"""Kafka records -> pieces of knowledge about jobs. Values in, values out: no client, no SQL.

Nothing that a producer writes may stop the fold: a record in a job topic is a job even if its headers cannot be read
(known by its position), and a record in `jobs.status` that is no status is left out.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec
from logqueue_schemas.job_status import JobStatus
from logqueue_schemas.job_status import State as StatusState

from logqueue.jobs.errors import InvalidHeader
from logqueue.jobs.headers import read_job_headers, salvage_job_headers
from logqueue.jobs.job_ids import id_of_position
from logqueue.jobs.partitioning import DEFAULT_TENANT, MAX_TENANT_CHARS
from logqueue_consumers.view.job import (
    FROM_JOB_RECORD,
    FROM_STATUS,
    NO_EXPIRY,
    RANKS,
    STATES_BY_NAME,
    Identity,
    Job,
    JobKey,
    Outcome,
    State,
)
from logqueue_consumers.view.schema import MAX_CREATED_MS

# A newer writer's state that this reader does not know counts as running: neither queued nor ended.
_STATES: Final = {state: STATES_BY_NAME.get(state.value, State.RUNNING) for state in StatusState}
_encode_json = msgspec.json.Encoder().encode


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
        headers = read_job_headers(record.headers)
    except InvalidHeader:
        headers = salvage_job_headers(record.headers)
    created_ms = headers.created_ms
    if created_ms is None or created_ms > MAX_CREATED_MS:
        created_ms = min(max(record.timestamp, 0), MAX_CREATED_MS)
    due_ms = headers.not_before_ms
    is_scheduled = due_ms is not None and due_ms > record.timestamp
    state = State.SCHEDULED if is_scheduled else State.QUEUED
    topic, partition, offset = record.topic, record.partition, record.offset
    return Job(
        JobKey(headers.id or id_of_position(topic, partition, offset)),
        headers.type,
        Identity(
            FROM_JOB_RECORD,
            created_ms,
            topic,
            partition,
            offset,
            queue,
            headers.tenant or read_tenant(record.key),
            NO_EXPIRY if headers.expires_ms is None else headers.expires_ms * 1000,
        ),
        Outcome(
            headers.replay,
            headers.attempt,
            RANKS[state],
            0,
            state,
            record.timestamp * 1000,
            "",
            None,
            None,
            due_ms * 1000 if is_scheduled and due_ms is not None else None,
        ),
    )


def read_status(status: JobStatus) -> Job:
    """What a status record says: how far the job has come, and what the worker knows of its origin."""
    created_us = status.at if status.created_at is None else status.created_at
    error = status.error
    return Job(
        JobKey(status.id, status.group if status.shadow else ""),
        status.type,
        Identity(
            FROM_STATUS,
            min(max(created_us // 1000, 0), MAX_CREATED_MS),
            status.topic,
            status.partition,
            status.offset,
            status.queue,
            status.tenant,
        ),
        Outcome(
            status.replay,
            status.attempt,
            status.rank,
            status.sequence,
            _STATES[status.state],
            status.at,
            status.group,
            status.started_at,
            status.finished_at,
            status.due_at,
            status.result,
            None
            if error is None
            else _encode_json({"type": error.type, "message": error.message, "class": error.error_class}),
            status.worker,
            status.details,
        ),
    )


def read_tenant(key: bytes | None) -> str:
    """The tenant in a record's key; "default" where there is none."""
    return key.decode("utf-8", "replace")[:MAX_TENANT_CHARS] if key else DEFAULT_TENANT
