"""Consumed records of all topics -> one batch for the view. Knows which topic holds what; no client, no SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import structlog
from logqueue_schemas.framing import HEADER_BYTES, frame_header
from logqueue_schemas.job_status import SCHEMA, InvalidStatus, StatusCodec
from logqueue_schemas.status_decoding import NOT_FOR_US
from logqueue_schemas.status_parts import cutter

from logqueue.ids import TopicPartition
from logqueue.jobs.schedules import DECLARED, PAUSE, SCHEDULE, STATE
from logqueue.jobs.topics import TopicKind, TopicNames
from logqueue_consumers.view.flows import FlowRecord
from logqueue_consumers.view.job import Job
from logqueue_consumers.view.records import Record, read_job_record, read_status
from logqueue_consumers.view.store import Batch
from logqueue_consumers.view.told import Told, head_of

DEFINITION_PREFIX: Final = "definition/"
_FOLDED: Final = frozenset({TopicKind.JOBS, TopicKind.STATUS, TopicKind.CONTROL, TopicKind.FLOWS, TopicKind.SCHEDULES})
_SCHEDULE_KEYS: Final = tuple(prefix.encode() for prefix in (DECLARED, SCHEDULE, PAUSE, STATE))
_FEW_JOBS: Final = 16
_REMEMBERED_TOPICS: Final = 4096
# Of the statuses of a partition every 16th is asked where its job lies, and every one of the last.
_SAMPLED: Final = 16
_SAMPLED_WHOLE: Final = 64
# After this many complaints about unreadable statuses only every thousandth is logged.
_LOGGED_UNREADABLE: Final = 20

_FIELDS: Final = [field["name"] for field in SCHEMA["fields"]]
_ORIGIN: Final = slice(_FIELDS.index("topic"), _FIELDS.index("offset") + 1)

_new = tuple.__new__  # what the classes of named tuples do behind a function in Python
_log = structlog.get_logger("logqueue.view")


class BatchReader:
    """Turns records into batches, and counts the status records that it has to leave out."""

    def __init__(self, topics: TopicNames, codec: StatusCodec) -> None:
        self._topics = topics
        self._role = lru_cache(maxsize=_REMEMBERED_TOPICS)(topics.role)
        self._codec = codec
        self._cut = cutter(codec.header)
        self._frames = {frame_header(codec.schema_id)}
        self.unreadable = 0

    def reads(self, topic: str) -> bool:
        """Whether the view is made of this topic, among others."""
        role = self._role(topic)
        return role is not None and role.kind in _FOLDED

    def follows_statuses(self, topic: str) -> bool:
        """Whether the topic holds records of jobs, whose statuses say more than they do."""
        role = self._role(topic)
        return role is not None and role.kind is TopicKind.JOBS

    def origins(self, records: Iterable[tuple[TopicPartition, list[Record]]]) -> dict[TopicPartition, int]:
        """The offsets behind the records of the jobs that these statuses are of, as far as a sample of them tells."""
        behind: dict[TopicPartition, int] = {}
        for at, found in records:
            if at.topic != self._topics.status:
                continue
            for record in found[:-_SAMPLED_WHOLE:_SAMPLED] + found[-_SAMPLED_WHOLE:]:
                try:
                    origin, offset = self._codec.read(record.value or b"", _read_origin)
                except InvalidStatus:
                    continue  # `read` says so
                behind[origin] = max(behind.get(origin, 0), offset + 1)
        return behind

    def expects_more(self, records: Sequence[tuple[TopicPartition, list[Record]]]) -> bool:
        """Whether these are a few queued jobs and nothing else."""
        if not records or sum(len(found) for _, found in records) > _FEW_JOBS:
            return False
        roles = (self._role(at.topic) for at, _ in records)
        return all(role is not None and role.kind is TopicKind.JOBS for role in roles)

    def new_schemas(self, records: Iterable[tuple[TopicPartition, list[Record]]]) -> set[bytes]:
        """Frames (Confluent: magic byte and schema id) of statuses that no record before had: look their schemas up."""
        frames = {
            record.value[:HEADER_BYTES]
            for at, found in records
            if at.topic == self._topics.status
            for record in found
            if record.value is not None
        }
        new = frames - self._frames
        self._frames |= new
        return new

    def read(self, records: Iterable[tuple[TopicPartition, list[Record]]]) -> Batch:
        """The batch of all these records; positions are behind the last record of each partition."""
        pieces: list[Job] = []
        told: list[Told] = []
        definitions: dict[str, bytes | None] = {}
        flows: list[FlowRecord] = []
        schedules: dict[str, bytes | None] = {}
        positions: dict[TopicPartition, int] = {}
        for at, found in records:
            role = self._role(at.topic)
            assert role is not None, f"{at.topic} was not asked for"
            if role.kind is TopicKind.JOBS:
                assert role.queue is not None
                queue = role.queue
                pieces += [read_job_record(record, queue) for record in found]
            elif role.kind is TopicKind.STATUS:
                self._read_statuses(found, told, pieces)
            elif role.kind is TopicKind.FLOWS:
                flows += [FlowRecord(record.key or b"", record.value) for record in found]
            elif role.kind is TopicKind.SCHEDULES:
                schedules.update(_read_schedules(found))
            else:
                definitions.update(_read_definitions(found))
            positions[at] = found[-1].offset + 1
        return Batch(
            pieces=pieces, told=told, definitions=definitions, flows=flows, schedules=schedules, positions=positions
        )

    def _read_statuses(self, records: list[Record], told: list[Told], pieces: list[Job]) -> None:
        """Add what the records say to `told` where it can be kept unread, otherwise to `pieces`."""
        cut, add = self._cut, told.append
        for record in records:
            value = record.value
            if value is None:
                continue  # a tombstone: the log forgets the status, the view keeps what it knows
            try:
                id_, head, tail = cut(value)
                add(_new(Told, (id_, head_of(head), tail, value)))
            except NOT_FOR_US:
                try:
                    pieces.append(self._codec.read(value, read_status))
                except InvalidStatus as error:
                    self._complain(record, error)

    def _complain(self, record: Record, error: InvalidStatus) -> None:
        self.unreadable += 1
        if self.unreadable <= _LOGGED_UNREADABLE or self.unreadable % 1000 == 0:
            _log.warning(
                "a record of the status topic is left out",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                reason=str(error),
                so_far=self.unreadable,
            )


def _read_origin(*fields: Any) -> tuple[TopicPartition, int]:
    """Topic, partition and offset of a job's record. Takes the fields in the order of the schema."""
    topic, partition, offset = fields[_ORIGIN]
    return TopicPartition(topic, partition), offset


def _read_definitions(records: list[Record]) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    for record in records:
        key = record.key.decode("utf-8", "replace") if record.key else ""
        if key.startswith(DEFINITION_PREFIX):
            found[key] = record.value
    return found


def _read_schedules(records: list[Record]) -> dict[str, bytes | None]:
    """The cron schedules and their states; the jobs that wait beside them are known by their statuses."""
    return {
        record.key.decode("utf-8", "replace"): record.value
        for record in records
        if record.key and record.key.startswith(_SCHEDULE_KEYS)
    }
