"""What an operator may do to a job in which state. Pure.

| verb      | states                                           | already so (nothing to do) |
|-----------|--------------------------------------------------|----------------------------|
| cancel    | queued, scheduled, blocked, running, retrying    | cancelled                  |
| retry     | dead, cancelled, expired                         |                            |
| run-now   | scheduled, retrying                              |                            |
| discard   | dead                                             |                            |
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
    Verb.CANCEL: frozenset({State.QUEUED, State.SCHEDULED, State.BLOCKED, State.RUNNING, State.RETRYING}),
    Verb.RETRY: frozenset({State.DEAD, State.CANCELLED, State.EXPIRED}),
    Verb.RUN_NOW: frozenset({State.SCHEDULED, State.RETRYING}),
    Verb.DISCARD: frozenset({State.DEAD}),
}
_DONE: dict[Verb, frozenset[State]] = {Verb.CANCEL: frozenset({State.CANCELLED})}


def decide(verb: Verb, state: State) -> Answer:
    """Whether the verb applies to a job in this state."""
    if state in ALLOWED[verb]:
        return Answer.DO
    return Answer.DONE if state in _DONE.get(verb, ()) else Answer.FORBIDDEN


def refusal(verb: Verb, job_id: str, state: State) -> str:
    """Why not, for people."""
    states = ", ".join(sorted(known.name.lower() for known in ALLOWED[verb]))
    return f"job {job_id!r} is {state.name.lower()}; {verb} takes jobs that are {states}"
