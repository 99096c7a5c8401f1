"""A job as a row of the view and back. Knows the columns, runs no statement."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, TypeAlias

from logqueue_schemas.status_encoding import REMEMBERED
from logqueue_schemas.status_parts import Tail, encode_tail, read_tail

from logqueue_consumers.view.job import FROM_STATUS, Identity, Job, JobKey, Outcome, State, error_of, error_text
from logqueue_consumers.view.names import NO_NAME, Names
from logqueue_consumers.view.schema import created_ms_of, sort_key
from logqueue_consumers.view.told import Head as StatusHead
from logqueue_consumers.view.told import Told, Version

Slot: TypeAlias = tuple[int, int, int]
"""A counter: shadow group, queue, state."""
Head: TypeAlias = tuple[Any, ...]
"""A row read with HEAD_COLUMNS: key, id, standing."""
Standing: TypeAlias = tuple[int, ...]
"""The head of a row without key and id, and so equal for many: shadow, source, type, queue, state, version."""

_STATES: tuple[State, ...] = tuple(State)

# Of a job that is only queued it has the time alone, which jobs share.
_encode_tail = lru_cache(maxsize=REMEMBERED)(encode_tail)


def slot_of(job: Job, names: Names) -> Slot:
    """Where a job is counted."""
    numbers = names.numbers
    return numbers[job.key.shadow], numbers[job.identity.queue], int(job.outcome.state)


def slot_of_standing(standing: Standing) -> Slot:
    """Where the job of a row is counted."""
    return standing[0], standing[3], standing[4]


class Effect(Enum):
    """What a piece of knowledge changes in its row, as far as the row's head tells."""

    NOTHING = "nothing"
    OUTCOME = "a later outcome"
    TYPED_OUTCOME = "a later outcome, and the type was not known"
    UNCLEAR = "it takes the whole row to say"


def effect_of(standing: Standing, source: int, type_: int, version: Version) -> Effect:
    """What `join` would change by what has this source, type and version. Mostly clear: statuses of known records."""
    known_type, known = standing[2], standing[5:]
    if source <= standing[1] or version == known:
        return Effect.UNCLEAR
    if type_ in (known_type, NO_NAME):
        return Effect.OUTCOME if version > known else Effect.NOTHING
    return Effect.TYPED_OUTCOME if version > known and known_type == NO_NAME else Effect.UNCLEAR


def row_values(
    key: JobKey, type_: str | None, identity: Identity, outcome: tuple[Any, ...], names: Names
) -> tuple[Any, ...]:
    """Columns id .. tail: all but the key. Takes the outcome's as they are."""
    id_, shadow = key
    return (id_, names.numbers[shadow], *identity_values(type_, identity, names), *outcome)


def slot_of_values(values: tuple[Any, ...]) -> Slot:
    """Where the job of a new row is counted."""
    return values[1], values[8], values[14]


def identity_values(type_: str | None, identity: Identity, names: Names) -> tuple[Any, ...]:
    """Columns type .. expires_us."""
    source, created_ms, topic, partition, offset, queue, tenant, expires_us = identity
    numbers = names.numbers
    return (
        numbers[type_ or ""],
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
    """Columns replay .. tail."""
    numbers = names.numbers
    replay, attempt, rank, sequence, state, at, group, started, finished, due, result, error, worker, details = outcome
    cause = None if error is None else error_of(error)
    tail = _encode_tail(Tail(sequence, at, started, finished, due, result, cause, worker, details))
    # sqlite3 looks for an adapter of every type but int, which costs more than the number does.
    return replay, attempt, rank, int(state), numbers[group], tail


def told_values(told: Told, names: Names) -> tuple[Any, ...]:
    """Columns replay .. tail."""
    return (*head_values(told.head, names), told.tail)


def head_values(head: StatusHead, names: Names) -> tuple[Any, ...]:
    """Columns replay .. group."""
    return (*head.version, int(head.state), names.numbers[head.group])


def is_ahead(row: Sequence[Any], record: Job) -> bool:
    """Whether a row read with JOB_COLUMNS is made of statuses alone, and further than this record says."""
    return row[5] == FROM_STATUS and tuple(row[12:15]) > record.outcome[:3]


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
        state,
        group,
        tail,
    ) = row
    sequence, at, started_at, finished_at, due_at, result, error, worker, details = read_tail(tail)
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
            None if error is None else error_text(error),
            worker,
            details,
        ),
    )
