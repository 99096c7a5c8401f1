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
UNKNOWN_OFFSET = -1
"""Of a job that the log has, but not where: a batch that came twice, and of which it remembers no more (KIP-98)."""


class JobError(msgspec.Struct, frozen=True):
    """Why an attempt failed: the exception's class name, its text, and the class that decides the job's fate.

    `error_class` is one of `ErrorClass`: transient, permanent, timeout, crash, undecodable, unknown-type, conflict.
    """

    type: str
    message: str
    error_class: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class Progress(msgspec.Struct, frozen=True, kw_only=True, rename={"at_ms": "at"}):
    """What a handler last told with `ctx.progress`."""

    done: float
    total: float | None
    at_ms: int
    message: str | None = None


class LogLine(msgspec.Struct, frozen=True, kw_only=True, rename={"at_ms": "at"}):
    """A line that a handler told with `ctx.log`, and the attempt that told it."""

    at_ms: int
    attempt: int
    line: str


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """The latest known state of a job, as its newest status tells it.

    | attribute | what |
    |---|---|
    | `state` | a `State`, which is a str: queued, scheduled, blocked, running, retrying, parked; in the end succeeded,
                dead, cancelled or expired |
    | `attempt`, `replay` | which attempt (from 1), and how often an operator sent the job round again |
    | `result` | what the handler returned, as JSON has it; None until it has succeeded |
    | `error` | a `JobError` (type, message, error_class), or None; `error_type` and so on are its parts |
    | `progress`, `log` | what the handler told with `ctx.progress` and `ctx.log` |
    | `details` | everything rare as a dictionary: `progress`, `log`, `effects`, `duplicate_of`, `cancelled`, ... |
    | `status` | the record of `jobs.status` itself, with times in microseconds and `details` as JSON bytes |
    """

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
    def error(self) -> JobError | None:
        """Why the last attempt failed; None if none has failed, or if the job has succeeded since."""
        error = self.status.error
        return None if error is None else JobError(error.type, error.message, error.error_class)

    @property
    def progress(self) -> Progress | None:
        """How far the handler said that the job has come; None if it said nothing."""
        found = self.details.get("progress")
        return None if found is None else msgspec.convert(found, Progress)

    @property
    def log(self) -> list[LogLine]:
        """The lines that the handler told of this job, the newest last; old ones make room."""
        return msgspec.convert(self.details.get("log", []), list[LogLine])

    @property
    def details(self) -> dict[str, Any]:
        """What few jobs have, as JSON values by name; empty for most."""
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
        why = f": {self.error}" if self.error is not None else ""
        raise JobFailed(f"Job {self.id} is {self.state}{why}")


class JobHandle(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A job that is durable on the log, and where."""

    id: JobId
    type: str
    queue: str
    tenant: str
    topic: str
    partition: int
    offset: int
    """Where its record is; UNKNOWN_OFFSET if the log has not told."""
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
