"""Outcomes as records: the status of each, and the record that goes on to another topic. No IO."""

from __future__ import annotations

from typing import Protocol

from logqueue_schemas.job_status import RANKS, SYMBOLS, TERMINAL, State, StatusCodec, StatusError, status_key
from logqueue_schemas.status_encoding import (
    encode_birth,
    encode_end,
    encode_fields,
    encode_kind,
    encode_place,
    encode_span,
    encode_stage,
    encode_time,
)
from msgspec import Struct
from msgspec.structs import replace

from logqueue.jobs.topics import TopicKind
from logqueue_consumers.control.notes import encode_details, with_header
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.retrying.notes import retried_of
from logqueue_consumers.status.headers import moved_from, record_header, waiting_header
from logqueue_consumers.writing.outgoing import Outgoing

NO_HEADERS: list[tuple[str, bytes]] = []
MAX_KEYS = 16_384
MAX_STAGES = 4_096
JOBS = TopicKind.JOBS  # what hangs on an enumeration is looked up by a function of Python


class Partitions(Protocol):
    """Who knows which partition of a topic a key belongs to."""

    def partition_of(self, topic: str, key: bytes) -> int:
        """The partition of a key in a known topic."""
        ...


class _Moment(Struct, frozen=True, gc=False):
    """When jobs began and ended: under load many did in the same milliseconds, one after the other."""

    started_us: int
    ended_us: int
    at: bytes
    span: bytes


class _Stage(Struct, frozen=True, gc=False):
    """What a status says of state, attempt and replay, and whether it is the last of its job."""

    encoded: bytes
    is_end: bool


class StatusRecords:
    """What one worker writes about its jobs."""

    def __init__(
        self,
        codec: StatusCodec,
        partitions: Partitions,
        *,
        group: str,
        is_shadow: bool,
        status_topic: str,
        worker: str,
    ) -> None:
        self._frame = codec.header
        self._partitions = partitions
        self._places: dict[bytes, int] = {}
        """The partitions of keys."""
        self._stages: dict[tuple[State, int, int, int | None], _Stage] = {}
        self._group = group
        self._is_shadow = is_shadow
        self._status_topic = status_topic
        self._worker = worker
        self._plain_end = encode_end(None, worker, None)
        self._sequence = 0
        self._moment: _Moment = _Moment(0, 0, b"", b"")

    def running(self, job: Job) -> Outgoing:
        """The job has begun."""
        return self.status(Outcome.of(job, State.RUNNING, job.started_us, finishes=False))

    def moved(self, outcome: Outcome) -> Outgoing:
        """The retry, dead-letter or parked record of an outcome that has one."""
        job, topic, record = outcome.job, outcome.topic, outcome.job.record
        assert topic is not None, "only called for records that move"
        partition = self._partitions.partition_of(topic, job.key)
        headers = [*outcome.headers] if job.details is None else with_header(outcome.headers, job.details)
        key = record.key if outcome.key is None else outcome.key
        return Outgoing(topic, partition, key, record.value, headers, outcome.at_us // 1000)

    def moved_ahead(self, outcome: Outcome) -> Outgoing:
        """As `moved`, of a record that is durable before its status is: it says by itself what became of the job."""
        record = self.moved(outcome)
        if outcome.is_silent:
            return record
        return replace(record, headers=[*record.headers, moved_from(outcome, group=self._group)])

    def status(self, outcome: Outcome) -> Outgoing:
        """The status record of an outcome."""
        job, at_us, started_us = outcome.job, outcome.at_us, outcome.started_us
        sequence = self._sequence + 1
        if at_us > sequence:
            sequence = at_us
        self._sequence = sequence
        stage = self._stages.get((outcome.state, job.headers.replay, outcome.attempt, outcome.rank))
        if stage is None:
            stage = self._stage(outcome)
        partition, origin, id_, key = job.partition, job.origin, job.id.encode(), job.key
        place = self._places.get(key)
        if place is None:
            place = self._place(key)
        if stage.is_end and outcome.due_ms is None:
            moment = self._moment
            if moment.ended_us != at_us or moment.started_us != started_us:
                span = encode_span(started_us or None, at_us, None)
                self._moment = moment = _Moment(started_us, at_us, encode_time(at_us), span)
            at, span = moment.at, moment.span
        else:
            due_us = None if outcome.due_ms is None else outcome.due_ms * 1000
            at, span = encode_time(at_us), encode_span(started_us or None, at_us if stage.is_end else None, due_us)
        value = encode_fields(
            self._frame,
            id_,
            encode_kind(job.type, partition.queue),
            job.tenant.encode("utf-8", "replace"),
            stage.encoded,
            sequence,
            at,
            encode_birth(job.created_ms * 1000),
            span,
            encode_place(origin.topic, origin.partition),
            origin.offset,
            outcome.result,
            self._plain_end if outcome.failure is None and job.details is None else self._end(outcome),
        )
        return Outgoing(
            self._status_topic,
            place,
            status_key(job.id, group=self._group) if self._is_shadow else id_,
            value,
            NO_HEADERS if stage.is_end and partition.kind is JOBS else self._finished_record(outcome),
            at_us // 1000,
        )

    def _stage(self, outcome: Outcome) -> _Stage:
        """What the statuses of this state, attempt and replay have in common."""
        if len(self._stages) >= MAX_STAGES:
            self._stages.clear()
        state, replay, attempt, rank = key = outcome.state, outcome.job.headers.replay, outcome.attempt, outcome.rank
        encoded = encode_stage(
            self._group, self._is_shadow, SYMBOLS[state], replay, attempt, RANKS[state] if rank is None else rank
        )
        stage = self._stages[key] = _Stage(encoded, state in TERMINAL)
        return stage

    def _place(self, key: bytes) -> int:
        """The partition of a key that is not among those remembered."""
        # All are forgotten at once: that costs a key that comes once less than a list of what was used last.
        if len(self._places) >= MAX_KEYS:
            self._places.clear()
        place = self._places[key] = self._partitions.partition_of(self._status_topic, key)
        return place

    def _end(self, outcome: Outcome) -> bytes:
        failure, details = outcome.failure, outcome.job.details
        return encode_end(
            None if failure is None else StatusError(failure.type, failure.message, failure.error_class),
            self._worker,
            None if details is None else encode_details(details),
        )

    def _finished_record(self, outcome: Outcome) -> list[tuple[str, bytes]]:
        """Which record a status finishes, where that is not its job's first one by its end; or which one waits."""
        partition = outcome.job.partition
        if not outcome.finishes:
            if outcome.due_ms is None:
                return NO_HEADERS
            return [waiting_header(retried_of(outcome), partition.topic, partition.partition)]
        return [record_header(partition.topic, partition.partition, outcome.job.offset)]
