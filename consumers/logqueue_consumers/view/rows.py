"""A job as a row of the view and back. Knows the columns, runs no statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from logqueue_consumers.view.job import Identity, Job, JobKey, Outcome, State
from logqueue_consumers.view.names import Names
from logqueue_consumers.view.schema import created_ms_of, sort_key

_STATES: tuple[State, ...] = tuple(State)


def row_values(job: Job, names: Names) -> tuple[Any, ...]:
    """Columns id .. details: all but the key."""
    key = job.key
    return (
        key.id,
        names.numbers[key.shadow],
        *identity_values(job, names),
        *outcome_values(job.outcome, names),
    )


def identity_values(job: Job, names: Names) -> tuple[Any, ...]:
    """Columns type .. expires_us."""
    source, created_ms, topic, partition, offset, queue, tenant, expires_us = job.identity
    numbers = names.numbers
    return (
        numbers[job.type or ""],
        sort_key(created_ms=created_ms, partition=partition, offset=offset),
        source,
        numbers[topic],
        partition,
        offset,
        numbers[queue],
        numbers[tenant],
        expires_us,
    )


def outcome_values(outcome: Outcome, names: Names) -> tuple[Any, ...]:
    """Columns replay .. details."""
    numbers = names.numbers
    replay, attempt, rank, sequence, state, at, group, started, finished, due, result, error, worker, details = outcome
    return (
        replay,
        attempt,
        rank,
        sequence,
        int(state),  # sqlite3 looks for an adapter of every other type, which costs more than the number does
        at,
        numbers[group],
        started,
        finished,
        due,
        result,
        error,
        numbers[worker or ""],
        details,
    )


def read_row(row: Sequence[Any], names: Names) -> Job:
    """The job of a row read with JOB_COLUMNS."""
    name = names.names
    (
        _,
        id_,
        shadow,
        type_,
        sort,
        source,
        topic,
        partition,
        offset,
        queue,
        tenant,
        expires_us,
        replay,
        attempt,
        rank,
        sequence,
        state,
        at,
        group,
        started_at,
        finished_at,
        due_at,
        result,
        error,
        worker,
        details,
    ) = row
    return Job(
        JobKey(id_, name[shadow]),
        name[type_] or None,
        Identity(source, created_ms_of(sort), name[topic], partition, offset, name[queue], name[tenant], expires_us),
        Outcome(
            replay,
            attempt,
            rank,
            sequence,
            _STATES[state],
            at,
            name[group],
            started_at,
            finished_at,
            due_at,
            result,
            error,
            name[worker] or None,
            details,
        ),
    )
