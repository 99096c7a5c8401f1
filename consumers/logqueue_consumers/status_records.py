"""Outcomes as records: the status of each, and the record that goes on to another topic. No IO."""

from __future__ import annotations

from typing import Protocol

from logqueue_schemas.job_status import RANKS, TERMINAL, JobStatus, State, StatusCodec, StatusError, status_key

from logqueue.jobs.topics import TopicKind
from logqueue_consumers.control.notes import encode_details, with_header
from logqueue_consumers.job import Job
from logqueue_consumers.moved_records import moved_from
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.outgoing import Outgoing
from logqueue_consumers.retry_notes import retried_of
from logqueue_consumers.status_tail import record_header, waiting_header

NO_HEADERS: list[tuple[str, bytes]] = []


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
        self._codec = codec
        self._partitions = partitions
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
        job, state, failure = outcome.job, outcome.state, outcome.failure
        self._sequence = max(self._sequence + 1, outcome.at_us)
        origin = job.origin
        status = JobStatus(
            id=job.id,
            queue=job.partition.queue,
            tenant=job.tenant,
            group=self._group,
            state=state,
            at=outcome.at_us,
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            type=job.type,
            shadow=self._is_shadow,
            replay=job.headers.replay,
            attempt=outcome.attempt,
            rank=RANKS[state] if outcome.rank is None else outcome.rank,
            sequence=self._sequence,
            created_at=job.created_ms * 1000,
            started_at=outcome.started_us or None,
            finished_at=outcome.at_us if state in TERMINAL else None,
            due_at=None if outcome.due_ms is None else outcome.due_ms * 1000,
            result=outcome.result,
            error=None if failure is None else StatusError(failure.type, failure.message, failure.error_class),
            worker=self._worker,
            details=None if job.details is None else encode_details(job.details),
        )
        return Outgoing(
            self._status_topic,
            self._partitions.partition_of(self._status_topic, job.key),
            status_key(job.id, group=self._group if self._is_shadow else None),
            self._codec.encode(status),
            self._finished_record(outcome),
            outcome.at_us // 1000,
        )

    def _finished_record(self, outcome: Outcome) -> list[tuple[str, bytes]]:
        """Which record a status finishes, where that is not plain from its state and position; or which one waits."""
        partition = outcome.job.partition
        if not outcome.finishes:
            if outcome.due_ms is None:
                return NO_HEADERS
            return [waiting_header(retried_of(outcome), partition.topic, partition.partition)]
        if outcome.state in TERMINAL and partition.kind is TopicKind.JOBS:
            return NO_HEADERS
        return [record_header(partition.topic, partition.partition, outcome.job.offset)]
