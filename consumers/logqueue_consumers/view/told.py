"""A status that is kept without being read: enough to see whether it is news, and the bytes that are stored. No SQL.

Nearly all statuses tell of a job whose record is known, and only that it has come further. Of these the view compares
the head and stores the tail; `schemas` says how a status is cut in two. All others are read whole (`records.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from logqueue_schemas.job_status import State as StatusState
from logqueue_schemas.status_decoding import REMEMBERED, Unusual, read_head

from logqueue_consumers.view.job import FROM_JOB_RECORD, STATES_BY_NAME, Job, State

Version = tuple[int, int, int]
"""Replay, attempt, rank. The sequence, which decides between equals, is in the tail."""

# A newer writer's state that this reader does not know counts as running: neither queued nor ended.
STATES = tuple(STATES_BY_NAME.get(state.value, State.RUNNING) for state in StatusState)
"""By the place in the schema's enum."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The fields of a live run's status that the view compares.

    Equal ones mostly are the same object, which is what they are compared by.
    """

    type: str
    group: str
    state: State
    version: Version


class Told(NamedTuple):
    """A status of a live run that is not read: head and tail are parts of `value`."""

    id: str
    head: Head
    tail: bytes
    value: bytes


@lru_cache(maxsize=REMEMBERED)
def head_of(data: bytes) -> Head:
    """The fields of a head; raises `status_decoding.NOT_FOR_US` where the status has to be read."""
    type_, _, _, group, shadow, symbol, replay, attempt, rank = read_head(data)
    if shadow:
        raise Unusual("a shadow run, of which there is a row for each group")
    return _shared(type_ or "", group, STATES[symbol], (replay, attempt, rank))


_shared = lru_cache(maxsize=REMEMBERED)(Head)


def gather(told: Sequence[Told]) -> tuple[dict[str, Told], list[Told]]:
    """The last status of each job, which mostly is the only one, and those before it."""
    last = {status[0]: status for status in told}
    if len(last) == len(told):
        return last, []
    return last, [status for status in told if last[status[0]] is not status]


def is_told_after(record: Job, status: Told) -> bool:
    """Whether a piece of knowledge is a job's record, and this status a later one."""
    return record[2][0] == FROM_JOB_RECORD and record[3][:3] < status[1].version
