"""What is wrong with jobs that are shown as running: `lost` or `stuck`, as heartbeats and time limits tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from logqueue_consumers.view.job import Job, State
from logqueue_consumers.view.reader import RunningRow

from logqueue.jobs.durations import InvalidDuration, parse_duration
from logqueue_api.rest.services import Services
from logqueue_api.rest.wire import job_document

MAX_JUDGED: Final = 2_000  # running jobs of a queue that are looked at for its counts, those made first


def show_job(job: Job, services: Services) -> dict[str, Any]:
    """A job as the API shows it, with its condition."""
    outcome = job.outcome
    condition = None
    if outcome.state is State.RUNNING and not job.key.shadow:  # replays send no heartbeats
        row = RunningRow(job.identity.queue, job.type, outcome.worker, outcome.started_at)
        condition = condition_of(row, services)
    document = {**job_document(job, services.view.catalogue.default_types), "condition": condition}
    document["details"] |= services.control.asked_of(job)
    return document


def condition_of(row: RunningRow, services: Services) -> str | None:
    """`lost`, `stuck`, or None; None too while heartbeats have not been read."""
    if not services.workers.is_read.is_set():
        return None
    type_ = row.type or services.view.catalogue.default_types.get(row.queue)
    return services.workers.roster.condition(
        worker=row.worker,
        started_us=row.started_at,
        timeout_s=_timeout_s(services, type_, row.queue),
        now_ms=services.clock.time_ms(),
    )


def count_conditions(running: Iterable[RunningRow], services: Services) -> Counter[tuple[str, str]]:
    """Running jobs by queue and condition."""
    found = ((row.queue, condition_of(row, services)) for row in running)
    return Counter((queue, condition) for queue, condition in found if condition is not None)


def _timeout_s(services: Services, type_: str | None, queue: str) -> float | None:
    """The longest time limit that a group has published for the type."""
    jobs = services.view.catalogue.jobs
    limits = [_parse(str(job.timeout)) for job in jobs if job.type == type_ and job.queue == queue and job.timeout]
    return max((limit for limit in limits if limit is not None), default=None)


@lru_cache(maxsize=256)
def _parse(text: str) -> float | None:
    try:
        return parse_duration(text)
    except InvalidDuration:
        return None  # published by another version
