"""Outcomes as records: the status of each, and the record that goes on to another topic. No IO."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from logqueue_schemas.job_status import RANKS, SYMBOLS, TERMINAL, State, StatusCodec, StatusError, status_key
from logqueue_schemas.status_encoding import encode_fields, encode_head, encode_place

from logqueue.jobs.topics import TopicKind
from logqueue_consumers.control.notes import encode_details, with_header
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.retrying.notes import retried_of
from logqueue_consumers.status.moved import moved_from
from logqueue_consumers.status.tail import record_header, waiting_header
from logqueue_consumers.writing.outgoing import Outgoing

NO_HEADERS: list[tuple[str, bytes]] = []
REMEMBERED_KEYS = 65_536


class Partitions(Protocol):
    """Who knows which partition of a topic a key belongs to."""

    def partition_of(self, topic: str, key: bytes) -> int:
        """The partition of a key in a known topic."""
        ...


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
        self._partition_of = lru_cache(REMEMBERED_KEYS)(lambda key: partitions.partition_of(status_topic, key))
        self._group = group
        self._is_shadow = is_shadow
        self._status_topic = status_topic
        self._worker = worker
        self._sequence = 0

    def running(self, job: Job) -> Outgoing:
        """The job has begun."""
        return self.status(Outcome(job, State.RUNNING, job.started_us, finishes=False))

    def moved(self, outcome: Outcome) -> Outgoing:
        """The retry, dead-letter or parked record of an outcome that has one."""
        job, topic, record = outcome.job, outcome.topic, outcome.job.record
        assert topic is not None, "only called for records that move"
        partition = self._partitions.partition_of(topic, job.key)
        headers = outcome.headers if job.details is None else with_header(outcome.headers, job.details)
        key = record.key if outcome.key is None else outcome.key
        return Outgoing(topic, partition, key, record.value, headers, outcome.at_us // 1000)

    def moved_ahead(self, outcome: Outcome) -> Outgoing:
        """As `moved`, of a record that is durable before its status is: it says by itself what became of the job."""
        record = self.moved(outcome)
        if outcome.is_silent:
            return record
        return record._replace(headers=[*record.headers, moved_from(outcome, group=self._group)])

    def status(self, outcome: Outcome) -> Outgoing:
        """The status record of an outcome."""
        job, state, at_us, failure = outcome.job, outcome.state, outcome.at_us, outcome.failure
        self._sequence = sequence = max(self._sequence + 1, at_us)
        is_end = state in TERMINAL
        partition, origin, id_ = job.partition, job.origin, job.id.encode()
        head = encode_head(
            job.type,
            partition.queue,
            job.tenant,
            self._group,
            self._is_shadow,
            SYMBOLS[state],
            job.headers.replay,
            outcome.attempt,
            RANKS[state] if outcome.rank is None else outcome.rank,
        )
        value = self._frame + encode_fields(
            id_,
            head,
            sequence,
            at_us,
            job.created_ms * 1000,
            outcome.started_us or None,
            at_us if is_end else None,
            None if outcome.due_ms is None else outcome.due_ms * 1000,
            encode_place(origin.topic, origin.partition),
            origin.offset,
            outcome.result,
            None if failure is None else StatusError(failure.type, failure.message, failure.error_class),
            self._worker,
            None if job.details is None else encode_details(job.details),
        )
        return Outgoing(
            self._status_topic,
            self._partition_of(job.key),
            status_key(job.id, group=self._group) if self._is_shadow else id_,
            value,
            NO_HEADERS if is_end and partition.kind is TopicKind.JOBS else self._finished_record(outcome),
            at_us // 1000,
        )

    def _finished_record(self, outcome: Outcome) -> list[tuple[str, bytes]]:
        """Which record a status finishes, where that is not its job's first one by its end; or which one waits."""
        partition = outcome.job.partition
        if not outcome.finishes:
            if outcome.due_ms is None:
                return NO_HEADERS
            return [waiting_header(retried_of(outcome), partition.topic, partition.partition)]
        return [record_header(partition.topic, partition.partition, outcome.job.offset)]
