"""A job as a row of the view and back. Knows the columns, runs no statement."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeAlias

from logqueue_consumers.view.job import Identity, Job, JobKey, Outcome, State
from logqueue_consumers.view.names import NO_NAME, Names
from logqueue_consumers.view.schema import created_ms_of, sort_key

Slot: TypeAlias = tuple[int, int, int]
"""A counter: shadow group, queue, state."""
Head: TypeAlias = tuple[Any, ...]
"""A row read with HEAD_COLUMNS."""

_STATES: tuple[State, ...] = tuple(State)


def slot_of(job: Job, names: Names) -> Slot:
    """Where a job is counted."""
    numbers = names.numbers
    return numbers[job.key.shadow], numbers[job.identity.queue], int(job.outcome.state)


def slot_in(head: Head) -> Slot:
    """Where the job of a row is counted."""
    return head[2], head[5], head[6]


class Effect(Enum):
    """What a piece of knowledge changes in its row, as far as the row's head tells."""

    NOTHING = "nothing"
    OUTCOME = "a later outcome"
    TYPED_OUTCOME = "a later outcome, and the type was not known"
    UNCLEAR = "it takes the whole row to say"


def effect_of(piece: Job, head: Head, names: Names) -> Effect:
    """What `join` would change. Clear for most pieces: statuses of jobs whose records are known."""
    version, known = piece.outcome[:4], head[7:]
    type_, known_type = names.numbers[piece.type or ""], head[4]
    if piece.identity.source <= head[3] or version == known:
        return Effect.UNCLEAR
    if type_ in (known_type, NO_NAME):
        return Effect.OUTCOME if version > known else Effect.NOTHING
    return Effect.TYPED_OUTCOME if version > known and known_type == NO_NAME else Effect.UNCLEAR


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
