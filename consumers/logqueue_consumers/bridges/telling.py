"""What a bridge tells of the log: records of a job topic, or outcomes as CloudEvents. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from logqueue_schemas.job_status import JobStatus

from logqueue.jobs.cloudevents import STRUCTURED, outcome_event
from logqueue.jobs.errors import InvalidHeader
from logqueue.jobs.headers import read_job_headers, salvage_job_headers
from logqueue.jobs.job_ids import id_of_position
from logqueue.jobs.partitioning import DEFAULT_TENANT
from logqueue.jobs.payload import JSON_TYPE

SOURCE: Final = "/logqueue"

_encode = msgspec.json.Encoder().encode


class Told(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message to be told. `id` is the same whenever it is told again."""

    id: str
    key: bytes
    type: str
    content_type: str
    body: bytes
    headers: dict[str, str] = {}


def told_job(record: Any) -> Told:
    """A record of a job topic, as it lies there."""
    try:
        headers = read_job_headers(record.headers)
    except InvalidHeader:
        headers = salvage_job_headers(record.headers)
    return Told(
        id=headers.id or id_of_position(record.topic, record.partition, record.offset),
        key=record.key or DEFAULT_TENANT.encode(),
        type=headers.type or "",
        content_type=headers.content_type or JSON_TYPE,
        body=record.value or b"",
        headers={name: value.decode("utf-8", "replace") for name, value in record.headers if value is not None}
        | {"job-tenant": headers.tenant or (record.key or DEFAULT_TENANT.encode()).decode("utf-8", "replace")},
    )


def told_outcome(status: JobStatus) -> Told | None:
    """How a job ended, as a CloudEvent; None for a status that is no end, or of a replay's shadow group."""
    if not status.is_terminal or status.shadow:
        return None
    event = outcome_event(status, source=SOURCE)
    return Told(
        id=event["id"],
        key=status.tenant.encode(),
        type=event["type"],
        content_type=STRUCTURED,
        body=_encode(event),
        headers={"job-id": status.id, "job-tenant": status.tenant, "job-queue": status.queue},
    )
