"""What an operator may do to a job in which state. Pure.

| verb      | states                                                | already so (nothing to do) |
|-----------|-------------------------------------------------------|----------------------------|
| cancel    | queued, scheduled, blocked, running, retrying, parked | cancelled                  |
| retry     | dead, cancelled, expired; as another type also parked |                            |
| run-now   | scheduled, retrying                                   |                            |
| discard   | dead; parked, which is then cancelled                 |                            |
"""

from __future__ import annotations

from enum import StrEnum

from logqueue_consumers.view.job import State


class Verb(StrEnum):
    """What an operator wants of a job."""

    CANCEL = "cancel"
    RETRY = "retry"
    RUN_NOW = "run-now"
    DISCARD = "discard"


class Answer(StrEnum):
    """What comes of it."""

    DO = "do"
    DONE = "done"  # it is so already
    FORBIDDEN = "forbidden"


ALLOWED: dict[Verb, frozenset[State]] = {
    Verb.CANCEL: frozenset({State.QUEUED, State.SCHEDULED, State.BLOCKED, State.RUNNING, State.RETRYING, State.PARKED}),
    Verb.RETRY: frozenset({State.DEAD, State.CANCELLED, State.EXPIRED}),
    Verb.RUN_NOW: frozenset({State.SCHEDULED, State.RETRYING}),
    Verb.DISCARD: frozenset({State.DEAD, State.PARKED}),
}
_DONE: dict[Verb, frozenset[State]] = {Verb.CANCEL: frozenset({State.CANCELLED})}


def allowed(verb: Verb, *, as_type: bool = False) -> frozenset[State]:
    """States that the verb takes; `as_type`: the job is to run as another type."""
    return ALLOWED[verb] | {State.PARKED} if verb is Verb.RETRY and as_type else ALLOWED[verb]


def decide(verb: Verb, state: State, *, as_type: bool = False) -> Answer:
    """Whether the verb applies to a job in this state."""
    if state in allowed(verb, as_type=as_type):
        return Answer.DO
    return Answer.DONE if state in _DONE.get(verb, ()) else Answer.FORBIDDEN


def refusal(verb: Verb, job_id: str, state: State) -> str:
    """Why not, for people."""
    if verb is Verb.RETRY and state is State.PARKED:
        return f"job {job_id!r} is parked: it runs by itself once a worker knows its type, or now as another type"
    states = ", ".join(sorted(known.name.lower() for known in ALLOWED[verb]))
    return f"job {job_id!r} is {state.name.lower()}; {verb} takes jobs that are {states}"
