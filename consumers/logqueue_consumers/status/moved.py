"""Records that moved on, as a take-over finds them: which record each replaces, and what became of its job. No IO.

At least once, a record is durable in the topic where its job goes on (retry, schedules, dead letters, parked) before
the status that says so is. A worker that is killed in between leaves both records. The one that moved on counts: it has
a header `job-moved-from`, so whoever takes over writes the status that is missing and finishes the record it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import TopicPartition
from logqueue_schemas.job_status import State

from logqueue.jobs.errors import InvalidHeader
from logqueue.jobs.headers import Origin, read_failure, read_job_headers
from logqueue.jobs.topics import TopicKind, TopicNames
from logqueue_consumers.keeper.job_entries import KEY
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.status.headers import read_move

if TYPE_CHECKING:
    from logqueue_consumers.intake.job_reader import JobReader
    from logqueue_consumers.status.records import StatusRecords
    from logqueue_consumers.writing.outgoing import Outgoing

_FAILED = frozenset({State.RETRYING, State.DEAD, State.PARKED})
_WAITS = frozenset({State.RETRYING, State.SCHEDULED})


class FoundMove(NamedTuple):
    """A record that is replaced by another one, and the status that finishes it."""

    at: TopicPartition
    offset: int
    status: Outgoing


class _Record(NamedTuple):
    """A job's record as it was before it moved."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes]]
    timestamp: int


class MovedRecords:
    """Makes the statuses that are missing."""

    def __init__(self, reader: JobReader, records: StatusRecords, names: TopicNames, *, group: str) -> None:
        self._reader = reader
        self._records = records
        self._names = names
        self._group = group

    def read(self, record: Any) -> FoundMove | None:
        """Which record of this group a record replaces, if it replaces one."""
        move = read_move(record.headers, group=self._group)
        if move is None or (role := self._names.role(move.at.topic)) is None or role.queue is None:
            return None
        (topic, partition), offset = move.at, move.offset
        place = OwnedPartition(
            topic, partition, kind=role.kind, queue=role.queue, order="none", window=PartitionWindow(0)
        )
        place.may_have_origin = True  # the record that moved has it in any case, and the job's details
        now_in = self._names.role(record.topic)
        is_waiting = now_in is not None and now_in.kind is TopicKind.SCHEDULES
        key = dict(record.headers).get(KEY) if is_waiting else record.key
        before = _Record(topic, partition, offset, key, record.value, record.headers, record.timestamp)
        job = self._reader.read(before, place)
        if role.kind is TopicKind.JOBS:
            job.origin = Origin(topic, partition, offset, self._group)
        outcome = Outcome.of(job, move.state, record.timestamp * 1000, finishes=True)
        outcome.attempt, outcome.rank = move.attempt, move.rank
        try:
            outcome.failure = read_failure(record.headers) if move.state in _FAILED else None
            outcome.due_ms = read_job_headers(record.headers).not_before_ms if move.state in _WAITS else None
        except InvalidHeader:
            outcome.failure = None  # headers that were not ours to begin with: the state is what counts
        return FoundMove(move.at, move.offset, self._records.status(outcome))


def still_open(moves: Iterable[FoundMove], partitions: Mapping[TopicPartition, OwnedPartition]) -> list[FoundMove]:
    """The moves of records that are not known to be finished, each once."""
    found: dict[tuple[TopicPartition, int], FoundMove] = {}
    for move in moves:
        partition = partitions.get(move.at)
        if partition is None or move.offset in partition.carried or not partition.window.is_to_come(move.offset):
            continue
        found.setdefault((move.at, move.offset), move)
    return list(found.values())
