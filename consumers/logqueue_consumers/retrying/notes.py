"""Retries that wait in memory, as commits and statuses tell of them to whoever takes the partition over. No IO."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import msgspec
from logqueue_schemas.job_status import State

from logqueue_consumers.commits.notes import Retried

if TYPE_CHECKING:
    from logqueue_consumers.job import Job
    from logqueue_consumers.outcome import Outcome
    from logqueue_consumers.partitions.partition import OwnedPartition
    from logqueue_consumers.partitions.window import PartitionWindow


def retried_of(outcome: Outcome) -> Retried:
    """What a commit says of a job that waits in memory after this outcome."""
    assert outcome.due_ms is not None, "it waits for a time"
    attempt = outcome.attempt + 1 if outcome.state is State.RETRYING else outcome.attempt
    return Retried(outcome.job.offset, attempt, outcome.due_ms, outcome.job.first_failed_ms)


def note(outcomes: Iterable[Outcome]) -> None:
    """These jobs wait in memory, and the log has it."""
    for outcome in outcomes:
        job = outcome.job
        if outcome.is_put_off and job.offset in job.partition.retried:
            job.partition.retried[job.offset] = retried_of(outcome)


def retried_in(
    partition: OwnedPartition, *, base: int, finished: Collection[int] = (), also: Iterable[Retried] = ()
) -> list[Retried]:
    """What a commit at `base` says of a partition's retries, as if `finished` and `also` were durable."""
    known = {job.offset: job for job in partition.retried.values() if job is not None}
    known.update((job.offset, job) for job in also)
    return [job for job in known.values() if job.offset >= base and job.offset not in finished]


def taken_over(
    committed: Iterable[Retried], written: Iterable[Retried], window: PartitionWindow
) -> dict[int, Retried | None]:
    """What a former owner's commit and the statuses that it wrote afterwards say of retries that are not finished."""
    return {job.offset: job for job in (*committed, *written) if window.is_to_come(job.offset)}


def resume(job: Job, known: Retried) -> None:
    """A job is read again that its former owner had tried: it goes on where it was."""
    job.attempt = known.attempt
    job.due_ms = known.due_ms
    job.first_failed_ms = known.first_failed_ms
    job.headers = msgspec.structs.replace(job.headers, not_before_ms=known.due_ms)
