"""Jobs that wait in `jobs.schedules`: their record on the way in, and on the way out again. Bytes and values; no IO.

The record is the job's own, value and headers, with what is needed to send it on. Key: `job/<group>/<queue>/<job id>`.
A job waits once for each group that runs its queue, since a retry concerns only the group that failed, and goes back to
that group's retry topic when it is due.

| header       | meaning                                                                                     |
|--------------|---------------------------------------------------------------------------------------------|
| `wait-key`   | the key of the job's record (its tenant); absent: it had none                               |
| `wait-rank`  | rank of the `queued` status that follows, so that it is newer than what the job waits after |
"""

from __future__ import annotations

from typing import NamedTuple

from logqueue_schemas.job_status import RANKS, JobStatus, State

from logqueue.jobs.errors import InvalidHeader
from logqueue.jobs.headers import (
    CE_ID,
    DETAILS,
    NOT_BEFORE,
    Headers,
    JobHeaders,
    Origin,
    read_job_headers,
    read_origin,
)
from logqueue.jobs.partitioning import DEFAULT_TENANT, MAX_TENANT_CHARS
from logqueue.jobs.times import format_time

PREFIX = b"job/"
KEY = "wait-key"
RANK = "wait-rank"
LEAD_MS = 250
"""How long before their time jobs are sent on: what a transaction and a fetch take is then no lateness."""
_OWN = frozenset({KEY, RANK})
_DEFAULT_KEY = DEFAULT_TENANT.encode()


def entry_key(*, group: str, queue: str, job_id: str) -> bytes:
    """The key under which a job waits."""
    return f"job/{group}/{queue}/{job_id}".encode()


def entry_headers(headers: Headers, *, job_id: str, key: bytes | None, rank: int) -> list[tuple[str, bytes]]:
    """Headers of a waiting job's record, from those with which it will go on (`job-not-before` is its due time)."""
    names = {name for name, _ in headers}
    found = [pair for pair in headers if pair[0] not in _OWN]
    if CE_ID not in names:
        found.append((CE_ID, job_id.encode()))
    if key is not None:
        found.append((KEY, key))
    found.append((RANK, b"%d" % rank))
    return found


class WaitingJob(NamedTuple):
    """A job that waits, as its record says."""

    group: str
    queue: str
    id: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    """As they were before it waited, with its due time."""
    read: JobHeaders
    origin: Origin | None
    rank: int

    @property
    def route(self) -> bytes:
        """What decides the partition of everything that is written about the job."""
        return self.key if self.key is not None else _DEFAULT_KEY

    def release_ms(self, *, since_ms: int) -> int:
        """When something is to be done with a job that waits since then: it is sent on, or it has expired.

        It is sent on a little before its time, which it then waits for in its worker's memory. One that has not long
        to wait came back from there, since that was full: it is sent on when it is due.
        """
        due = self.read.not_before_ms or 0
        if due - since_ms > 2 * LEAD_MS:
            due -= LEAD_MS
        expires = self.read.expires_ms
        return due if expires is None else min(due, expires)

    def hurried_headers(self, *, now_ms: int) -> list[tuple[str, bytes]]:
        """Headers of a record that is sent on before its time: that time is now."""
        if (self.read.not_before_ms or 0) <= now_ms:
            return self.headers
        kept = [pair for pair in self.headers if pair[0] != NOT_BEFORE]
        return [*kept, (NOT_BEFORE, format_time(now_ms).encode())]

    def status(self, state: State, *, now_us: int, rank: int | None = None, details: bytes | None = None) -> JobStatus:
        """A status of the job; `rank` by default that of the state."""
        read, origin = self.read, self.origin
        found = dict(self.headers)
        tenant = read.tenant if read.tenant is not None else self.route.decode("utf-8", "replace")[:MAX_TENANT_CHARS]
        is_over = state in (State.EXPIRED, State.CANCELLED)
        return JobStatus(
            id=self.id,
            queue=self.queue,
            tenant=tenant,
            group=self.group,
            state=state,
            at=now_us,
            topic=origin.topic if origin is not None else "",
            partition=origin.partition if origin is not None else 0,
            offset=origin.offset if origin is not None else 0,
            type=read.type,
            replay=read.replay,
            attempt=read.attempt,
            rank=RANKS[state] if rank is None else rank,
            sequence=now_us,
            created_at=None if read.created_ms is None else read.created_ms * 1000,
            finished_at=now_us if is_over else None,
            details=details if details is not None else found.get(DETAILS),
        )


def read_entry(key: bytes, value: bytes, headers: Headers) -> WaitingJob | None:
    """The job of a record; None for what no worker of ours has written."""
    try:
        _, group, queue, job_id = key.decode().split("/", 3)
        kept = [pair for pair in headers if pair[0] not in _OWN]
        own = dict(headers)
        return WaitingJob(
            group,
            queue,
            job_id,
            own.get(KEY),
            value,
            kept,
            read_job_headers(kept),
            read_origin(kept),
            int(own.get(RANK, b"1")),
        )
    except (TypeError, ValueError, InvalidHeader):  # a header may be null
        return None
