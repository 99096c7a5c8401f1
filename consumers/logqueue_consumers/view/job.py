"""What is known of a job, and how two pieces of knowledge about it join. Pure values: no SQL, no Kafka.

A piece of knowledge comes from a record in a job topic ("it is queued, here it lies") or from a status record. `join`
is commutative, associative and idempotent, so the view is the same whatever the order in which the topics are read and
however often a record is seen:

| part     | says                          | two pieces join to                                               |
|----------|-------------------------------|------------------------------------------------------------------|
| identity | where it lies, when it began  | the smaller (source, created, position): a job record knows best |
| type     | which handler runs it         | the smaller of those known: a record may leave it to the worker  |
| outcome  | how far it has come           | the larger (replay, attempt, rank, sequence)                     |
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

import msgspec
from logqueue_schemas import job_status
from logqueue_schemas.job_status import StatusError


class State(IntEnum):
    """States of a job; the numbers are what the view file stores, the lower-case names are what people read."""

    QUEUED = 0
    SCHEDULED = 1
    PARKED = 2
    RUNNING = 3
    RETRYING = 4
    SUCCEEDED = 5
    DEAD = 6
    CANCELLED = 7
    EXPIRED = 8
    BLOCKED = 9


STATE_NAMES: tuple[str, ...] = tuple(state.name.lower() for state in State)
STATES_BY_NAME: dict[str, State] = {state.name.lower(): state for state in State}
TERMINAL_STATES = frozenset(STATES_BY_NAME[state.value] for state in job_status.TERMINAL)
INCOMPLETE_STATES: tuple[State, ...] = tuple(state for state in State if state not in TERMINAL_STATES)

# Ranks order the states inside one attempt; a terminal state ends it.
RANKS: dict[State, int] = {state: job_status.RANKS[job_status.State(state.name.lower())] for state in State}

FROM_JOB_RECORD = 0
FROM_STATUS = 1

NO_EXPIRY = 0


class JobKey(NamedTuple):
    """A job in the view: its id, and the shadow (replay) group whose run of it is meant; "" is the live run."""

    id: str
    shadow: str = ""


class Identity(NamedTuple):
    """Where and when the job was born. The order of the fields is the order in which two are compared."""

    source: int  # FROM_JOB_RECORD or FROM_STATUS
    created_ms: int  # since the Unix epoch
    topic: str
    partition: int
    offset: int
    queue: str
    tenant: str
    expires_us: int = NO_EXPIRY


class Outcome(NamedTuple):
    """How far the job has come. The first four fields decide which of two outcomes is the later one.

    Times are microseconds since the Unix epoch. `result`, `error` and `details` are JSON texts.
    """

    replay: int
    attempt: int
    rank: int
    sequence: int
    state: State
    at: int
    group: str
    started_at: int | None = None
    finished_at: int | None = None
    due_at: int | None = None
    result: bytes | None = None
    error: bytes | None = None
    worker: str | None = None
    details: bytes | None = None


class _ErrorText(msgspec.Struct, gc=False):
    type: str
    message: str
    error_class: str = msgspec.field(name="class")


_encode = msgspec.json.Encoder().encode
_decode_error = msgspec.json.Decoder(_ErrorText).decode


def error_text(error: StatusError) -> bytes:
    """An error of a status as the JSON text of an outcome."""
    return _encode(_ErrorText(error.type, error.message, error.error_class))


def error_of(text: bytes) -> StatusError:
    """The error behind an outcome's JSON text."""
    found = _decode_error(text)
    return StatusError(found.type, found.message, found.error_class)


class Job(NamedTuple):
    """Everything the view knows of one job."""

    key: JobKey
    type: str | None
    identity: Identity
    outcome: Outcome


def join(one: Job, other: Job) -> Job:
    """What is known of a job after hearing both: the same in any order, and hearing twice changes nothing."""
    outcome = _later(one.outcome, other.outcome)
    identity = one.identity if one.identity <= other.identity else other.identity
    return Job(one.key, join_types(one.type, other.type), identity, outcome)


def join_types(one: str | None, other: str | None) -> str | None:
    """The type of a job: a record may leave it to the worker, which then says it."""
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def fold(pieces: Iterable[Job]) -> dict[JobKey, Job]:
    """Join all pieces of knowledge about the same job, so that each job is written once."""
    jobs: dict[JobKey, Job] = {}
    for piece in pieces:
        known = jobs.get(piece.key)
        jobs[piece.key] = piece if known is None else join(known, piece)
    return jobs


def _later(one: Outcome, other: Outcome) -> Outcome:
    if one[:4] != other[:4]:
        return one if one[:4] > other[:4] else other
    # The same record read twice, or a producer's duplicate: any choice will do that does not depend on the order.
    return one if _content(one) >= _content(other) else other


def _content(outcome: Outcome) -> tuple[object, ...]:
    return tuple((field is not None, field) if field is not None else (False,) for field in outcome[4:])
