"""What a handler learns of its job: the `ctx` parameter. A value; the worker fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from logqueue.ids import JobId
from logqueue.jobs.times import to_datetime


class JobContext(msgspec.Struct, frozen=True, kw_only=True):
    """The job that a handler is running.

    `attempt` counts from 1. `replay` is how often an operator sent this job round again. `replaying` says that this
    run belongs to a shadow group: history is run through the handler, and the outside world should not notice.
    `job_id` stays the same over all attempts: hand it on as the idempotency key of whatever the handler calls.
    """

    job_id: JobId
    type: str
    tenant: str
    queue: str
    group: str
    attempt: int
    max_attempts: int
    replay: int
    replaying: bool
    created_ms: int
    topic: str
    partition: int
    offset: int
    headers: Mapping[str, bytes]

    @property
    def created_at(self) -> datetime:
        """When the job was made (UTC)."""
        return to_datetime(self.created_ms)

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure now ends the job."""
        return self.attempt >= self.max_attempts
