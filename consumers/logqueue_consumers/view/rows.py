"""A job as a row of the view and back. Knows the columns, runs no statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from logqueue_consumers.view.job import Identity, Job, JobKey, Outcome, State
from logqueue_consumers.view.names import Names
from logqueue_consumers.view.schema import created_ms_of, sort_key


def identity_values(job: Job, names: Names) -> tuple[Any, ...]:
    """Columns type .. expires_us."""
    source, created_ms, topic, partition, offset, queue, tenant, expires_us = job.identity
    intern = names.intern
    return (
        intern(job.type or ""),
        sort_key(created_ms=created_ms, partition=partition, offset=offset),
        source,
        intern(topic),
        partition,
        offset,
        intern(queue),
        intern(tenant),
        expires_us,
    )


def outcome_values(outcome: Outcome, names: Names) -> tuple[Any, ...]:
    """Columns replay .. worker."""
    group, worker = outcome.group, outcome.worker
    return (*outcome[:6], names.intern(group), *outcome[7:12], names.intern(worker) if worker else 0)


def read_row(row: Sequence[Any], names: Names) -> Job:
    """The job of a row read with JOB_COLUMNS."""
    name = names.name
    return Job(
        JobKey(row[1], name(row[2])),
        name(row[3]) or None,
        Identity(row[5], created_ms_of(row[4]), name(row[6]), row[7], row[8], name(row[9]), name(row[10]), row[11]),
        Outcome(
            row[12],
            row[13],
            row[14],
            row[15],
            STATES[row[16]],
            row[17],
            name(row[18]),
            row[19],
            row[20],
            row[21],
            row[22],
            row[23],
            name(row[24]) or None,
        ),
    )


STATES: tuple[State, ...] = tuple(State)
