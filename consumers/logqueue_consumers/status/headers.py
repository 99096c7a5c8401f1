"""Headers that tie a record to the one that it finishes, replaces or lets wait. Text <-> values; no IO.

job-record       <topic>/<partition>/<offset>                                    finished by this status
job-waits        <topic>/<partition>/<offset>/<attempt>/<due>/<first failed>     its job waits in memory
job-moved-from   <topic>/<partition>/<offset>/<state>/<attempt>/<rank>/<group>   replaced by this record
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiokafka import TopicPartition
from logqueue_schemas.job_status import RANKS, State

from logqueue.jobs.headers import MOVED_FROM
from logqueue_consumers.commits.notes import Retried
from logqueue_consumers.outcome import Outcome

RECORD = "job-record"
WAITS = "job-waits"


class Move(NamedTuple):
    """A record that is replaced by another one, and what its status has to say."""

    at: TopicPartition
    offset: int
    state: State
    attempt: int
    rank: int


def record_header(topic: str, partition: int, offset: int) -> tuple[str, bytes]:
    """The header of a status that finishes another record than the job's first."""
    return RECORD, f"{topic}/{partition}/{offset}".encode()


def read_record(value: bytes | None) -> tuple[TopicPartition, int] | None:
    """The record that a status finishes; None where that is not what the header says."""
    if value is None:
        return None
    try:
        topic, partition, offset = value.decode().rsplit("/", 2)
        return TopicPartition(topic, int(partition)), int(offset)
    except ValueError:
        return None  # not ours


def waiting_header(waits: Retried, topic: str, partition: int) -> tuple[str, bytes]:
    """The header of a status that finishes no record, because its job waits in memory."""
    first = 0 if waits.first_failed_ms is None else waits.first_failed_ms
    return WAITS, f"{topic}/{partition}/{waits.offset}/{waits.attempt}/{waits.due_ms}/{first}".encode()


def read_waiting(value: bytes | None) -> tuple[TopicPartition, Retried] | None:
    """The record whose job waits, and how; None where that is not what the header says."""
    if value is None:
        return None
    try:
        topic, *numbers = value.decode().rsplit("/", 5)
        partition, offset, attempt, due_ms, first_failed_ms = map(int, numbers)
    except ValueError:
        return None  # not ours
    return TopicPartition(topic, partition), Retried(offset, attempt, due_ms, first_failed_ms or None)


def moved_from(outcome: Outcome, *, group: str) -> tuple[str, bytes]:
    """The header of the record that an outcome moves on."""
    job, place = outcome.job, outcome.job.partition
    rank = RANKS[outcome.state] if outcome.rank is None else outcome.rank
    facts = (place.topic, place.partition, job.offset, outcome.state, outcome.attempt, rank, group)
    return MOVED_FROM, "/".join(map(str, facts)).encode()


def read_move(headers: Iterable[tuple[str, bytes]], *, group: str) -> Move | None:
    """The record of this group that one with these headers replaces, or None."""
    found = next((value for name, value in headers if name == MOVED_FROM), None)
    if found is None:
        return None
    try:
        topic, partition, offset, state, attempt, rank, of_group = found.decode().split("/", 6)
        move = Move(TopicPartition(topic, int(partition)), int(offset), State(state), int(attempt), int(rank))
    except ValueError:
        return None  # not ours
    return move if of_group == group else None
