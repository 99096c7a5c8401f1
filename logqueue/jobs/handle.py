"""A job that was sent, and the state it is in: what `send` and `wait` hand back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from logqueue_schemas.job_status import JobStatus, State

from logqueue.ids import JobId
from logqueue.jobs.durations import Duration, parse_duration
from logqueue.jobs.errors import JobFailed

if TYPE_CHECKING:
    from logqueue.jobs.client import JobClient

DEFAULT_WAIT_S = 30.0


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """The latest known state of a job. `result` is what the handler returned, `error` why it failed."""

    id: JobId
    state: State
    attempt: int
    replay: int
    result: Any
    error_type: str | None
    error_message: str | None
    error_class: str | None
    status: JobStatus

    @property
    def details(self) -> dict[str, Any]:
        """What few jobs have: `progress`, `log`, `cancelled`, ... as JSON values."""
        found = msgspec.json.decode(self.status.details) if self.status.details else {}
        return found if isinstance(found, dict) else {}

    @classmethod
    def of(cls, status: JobStatus) -> JobState:
        """The state that a status record tells."""
        error = status.error
        return cls(
            id=JobId(status.id),
            state=status.state,
            attempt=status.attempt,
            replay=status.replay,
            result=msgspec.json.decode(status.result) if status.result is not None else None,
            error_type=error.type if error is not None else None,
            error_message=error.message if error is not None else None,
            error_class=error.error_class if error is not None else None,
            status=status,
        )

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self.status.is_terminal

    @property
    def has_succeeded(self) -> bool:
        """Whether the job ended well."""
        return self.state is State.SUCCEEDED

    def raise_for_state(self) -> JobState:
        """Itself if the job succeeded, else JobFailed with the reason."""
        if self.has_succeeded:
            return self
        why = f": {self.error_type}: {self.error_message}" if self.error_type is not None else ""
        raise JobFailed(f"Job {self.id} is {self.state}{why}")


class JobHandle(msgspec.Struct, frozen=True, kw_only=True):
    """A job that is durable on the log, and where."""

    id: JobId
    type: str
    queue: str
    tenant: str
    topic: str
    partition: int
    offset: int
    created_ms: int
    client: JobClient
    key: str | None = None
    """The record's key, where it is not the tenant."""
    is_keyed: bool = False
    """The job may be older than this handle, and may have ended before it was sent again."""

    async def wait(self, timeout: Duration = DEFAULT_WAIT_S) -> JobState:
        """The job's final state, once it has one; WaitTimeout after `timeout` (the job goes on).

        For a unique job that another one was kept for (`on_conflict="existing"`) it is the state of that one. Raises
        KeyConflict if the idempotency key (or id) came before with other arguments: this job did not run.
        """
        return await self.client.wait(self, timeout_s=parse_duration(timeout))

    async def status(self) -> JobState | None:
        """The newest state that the log has now, or None if no worker has written one (the job is queued).

        Raises KeyConflict as `wait` does.
        """
        return await self.client.status(self)

    def __repr__(self) -> str:
        return f"JobHandle({self.id}, {self.topic}-{self.partition}@{self.offset})"
