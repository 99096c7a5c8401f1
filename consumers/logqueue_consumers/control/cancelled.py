"""The outcome of a job that was cancelled. No IO."""

from __future__ import annotations

from typing import Any

from logqueue_schemas.job_status import State

from logqueue.jobs.control import MAX_REASON_CHARS, Cancel
from logqueue.jobs.texts import text_of
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome


def cancelled(job: Job, cancel: Cancel | None, error: BaseException | None = None, *, now_us: int) -> Outcome:
    """The job ends as cancelled, with who wanted that in its details: an operator, or its handler by an error."""
    if cancel is not None:
        who: dict[str, Any] = {"by": cancel.by, "at": cancel.at_ms, "reason": cancel.reason}
    else:
        reason = "" if error is None else text_of(error, limit=MAX_REASON_CHARS)
        who = {"by": "handler", "at": now_us // 1000, "reason": reason}
    job.details = {**(job.details or {}), "cancelled": who}
    return Outcome.of(job, State.CANCELLED, now_us, finishes=True)
