"""Waiting for a job's end over the API, and the exit code that its end means."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from logqueue_api.cli.api_client import ApiClient, quoted
from logqueue_api.cli.exits import CommandError, ExitCode
from logqueue_api.cli.output import Output

TERMINAL_STATES = frozenset({"succeeded", "dead", "cancelled", "expired"})
LONGEST_POLL_SECONDS = 20.0
POLL_MARGIN_SECONDS = 15.0


def wait_for_end(
    api: ApiClient,
    job_id: str,
    *,
    timeout: float,
    min_position: str | None = None,
    now: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """The job once it has ended; raises CommandError (timeout, not found). Long polls, each in its bound."""
    deadline = now() + timeout
    while True:
        left = deadline - now()
        poll = min(max(left, 0.0), LONGEST_POLL_SECONDS)
        query = {"wait": f"{poll:.3f}", "min_position": min_position}
        job: dict[str, Any] = api.get(f"/v1/jobs/{quoted(job_id)}", query, seconds=poll + POLL_MARGIN_SECONDS)
        if job["state"] in TERMINAL_STATES:
            return job
        if left <= poll:
            raise CommandError(
                f"job {job_id} is {job['state']} after {timeout:g} s", code=ExitCode.TIMEOUT, hint="it goes on"
            )


def show_job(job: dict[str, Any], output: Output) -> int:
    """Print a job; the exit code says whether it ended badly."""
    output.record(job)
    return ExitCode.FAILED if job["state"] in TERMINAL_STATES - {"succeeded"} else ExitCode.OK
