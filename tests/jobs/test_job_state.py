"""What a job's state tells of its newest status: error, progress and log lines as values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from logqueue_schemas.job_status import JobStatus, State, StatusError

from logqueue import Permanent
from logqueue.jobs.errors import JobFailed, PermanentError
from logqueue.jobs.handle import JobError, JobState, LogLine, Progress


def state(*, details: dict[str, Any] | None = None, error: StatusError | None = None) -> JobState:
    return JobState.of(
        JobStatus(
            id="1", queue="q", tenant="acme", group="shop", state=State.DEAD if error else State.SUCCEEDED, at=1,
            topic="jobs.q", partition=0, offset=0, error=error,
            details=None if details is None else msgspec.json.encode(details),
        )
    )  # fmt: skip


def test_the_error_of_a_failed_job_is_one_value() -> None:
    failed = state(error=StatusError(type="NoSuchCustomer", message="no customer 7", error_class="permanent"))
    assert failed.error == JobError("NoSuchCustomer", "no customer 7", "permanent")
    assert str(failed.error) == "NoSuchCustomer: no customer 7"
    with pytest.raises(JobFailed, match="is dead: NoSuchCustomer: no customer 7"):
        failed.raise_for_state()


def test_a_job_that_did_not_fail_has_no_error() -> None:
    assert state().error is None


def test_progress_and_log_lines_are_values() -> None:
    told = state(
        details={
            "progress": {"done": 3, "total": 10, "message": "page 3", "at": 7},
            "log": [{"at": 5, "attempt": 1, "line": "began"}],
            "log_dropped": 12,
        }
    )
    assert told.progress == Progress(done=3, total=10, message="page 3", at_ms=7)
    assert told.log == [LogLine(at_ms=5, attempt=1, line="began")]
    assert told.details["log_dropped"] == 12


def test_a_job_that_told_nothing_has_neither() -> None:
    assert (state().progress, state().log, state().details) == (None, [], {})


def test_the_class_that_a_handler_raises_is_called_as_it_is_imported() -> None:
    assert Permanent.__name__ == "Permanent"
    assert PermanentError is Permanent
