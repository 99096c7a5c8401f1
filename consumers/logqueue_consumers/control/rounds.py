"""Sending a job round again as its next replay: the record for the group's retry topic, and its new status. Pure.

The record goes to the retry topic, so no other group runs it. It has the original value and headers, attempt 1, one
replay more, and says where the job began; due times, expiry and the failure are gone. What an operator has changed is
in its details and in those of its statuses, `{"edited": {"args": {...}, "type": "..."}}`: its first record, which is
where others look, has it no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from logqueue_schemas.job_status import RANKS, JobStatus, State, StatusCodec

from logqueue.jobs.headers import (
    CE_ID,
    CE_TYPE,
    CONTENT_TYPE,
    DETAILS,
    IDEMPOTENCY_KEY,
    ORIGIN_GROUP,
    ORIGIN_OFFSET,
    ORIGIN_PARTITION,
    ORIGIN_TOPIC,
    WORKFLOW,
    Headers,
    Origin,
    replayed_headers,
)
from logqueue.jobs.topics import TopicNames
from logqueue_consumers.control.notes import encode_details, read_details
from logqueue_consumers.writing.outgoing import Outgoing

EDITED = "edited"
MAX_EDIT_BYTES = 16 * 1024
"""Larger arguments are not repeated in the details."""
_NAMES = frozenset({CE_ID, IDEMPOTENCY_KEY, WORKFLOW})
_ORIGIN = frozenset({ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET, ORIGIN_GROUP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A job that goes round again. `replay` is the new number; `key` and `value` are those of its record."""

    id: str
    type: str | None
    queue: str
    group: str
    tenant: str
    replay: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    origin: Origin
    edited: Mapping[str, Any] | None = None
    """What is other than in the job's first record; `args` are None where they are too large to be told."""

    def with_arguments(self, value: bytes) -> Round:
        """The same with another value, as JSON."""
        headers = [pair for pair in self.headers if pair[0] != CONTENT_TYPE]
        told = msgspec.json.decode(value) if len(value) <= MAX_EDIT_BYTES else None
        return replace(
            self,
            value=value,
            headers=[*headers, (CONTENT_TYPE, b"application/json")],
            edited={**(self.edited or {}), "args": told},
        )

    def with_id(self, id_: str) -> Round:
        """The same as a job of its own: neither the key nor the workflow of the one that had the id are its own."""
        headers = [pair for pair in self.headers if pair[0] not in _NAMES]
        return replace(self, id=id_, headers=[*headers, (CE_ID, id_.encode())])

    def with_type(self, type_: str) -> Round:
        """The same for the handler of another type (or of the type that its headers lack)."""
        headers = [pair for pair in self.headers if pair[0] != CE_TYPE]
        return replace(
            self,
            type=type_,
            headers=[*headers, (CE_TYPE, type_.encode())],
            edited={**(self.edited or {}), "type": type_},
        )


def round_records(
    job: Round, *, names: TopicNames, codec: StatusCodec, partition_of: Callable[[str, bytes], int], now_ms: int
) -> list[Outgoing]:
    """The job's record, and its status `queued`."""
    kept = [pair for pair in job.headers if pair[0] not in _ORIGIN]
    headers = replayed_headers(kept, replay=job.replay)
    headers += [
        (ORIGIN_TOPIC, job.origin.topic.encode()),
        (ORIGIN_PARTITION, b"%d" % job.origin.partition),
        (ORIGIN_OFFSET, b"%d" % job.origin.offset),
        (ORIGIN_GROUP, job.group.encode()),
    ]
    details = None if job.edited is None else encode_details({EDITED: job.edited})
    if details is not None:
        headers.append((DETAILS, details))
    retry = names.retry(job.queue, job.group)
    status = JobStatus(
        id=job.id,
        queue=job.queue,
        tenant=job.tenant,
        group=job.group,
        state=State.QUEUED,
        at=now_ms * 1000,
        topic=job.origin.topic,
        partition=job.origin.partition,
        offset=job.origin.offset,
        type=job.type,
        replay=job.replay,
        rank=RANKS[State.QUEUED],
        sequence=now_ms * 1000,
        details=details,
    )
    key = job.key if job.key is not None else job.tenant.encode()
    return [
        Outgoing(retry, partition_of(retry, key), job.key, job.value, headers, now_ms),
        Outgoing(names.status, partition_of(names.status, key), status.key, codec.encode(status), [], now_ms),
    ]


def edits_of(headers: Headers) -> Mapping[str, Any] | None:
    """What an operator changed of a job before, as its record says."""
    found = (read_details(headers) or {}).get(EDITED)
    return found if isinstance(found, dict) else None
