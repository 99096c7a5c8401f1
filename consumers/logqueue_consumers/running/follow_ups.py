"""Follow-up jobs of a running attempt: collected here, written with its success or not at all. No IO."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from logqueue.errors import LogqueueError
from logqueue.jobs.argument_schema import framed
from logqueue.jobs.errors import InvalidArguments
from logqueue.jobs.flow_context import WORKFLOW_NODE
from logqueue.jobs.flow_records import NodeSpec, encode
from logqueue.jobs.sending import PreparedJob, check_job_size
from logqueue.jobs.settings import Settings
from logqueue_consumers.job import Job
from logqueue_consumers.writing.outgoing import Outgoing

MAX_FOLLOW_UPS = 10_000
"""Follow-up jobs of one attempt."""
MAX_FOLLOW_UP_BYTES = 64 * 1024 * 1024


class TooManyFollowUps(LogqueueError):
    """One attempt sends more than fits into one transaction."""


class AttemptOver(LogqueueError):
    """A handler that goes on after its attempt has ended (a thread after a timeout) wants to send a job."""


def with_schema_id(job: PreparedJob, ids: Mapping[tuple[str, str], int]) -> PreparedJob:
    """A job with an Avro schema as it may be written; InvalidArguments if this worker has not registered its schema."""
    schema = job.schema
    assert schema is not None, "only jobs with a schema ask"
    schema_id = ids.get(schema.key)
    if schema_id is None:
        raise InvalidArguments(
            f"Job {job.type!r} of queue {job.queue!r} declares an Avro schema and belongs to another app: send it over"
            " that app's own connection"
        )
    if schema_id == schema.content_id:
        return job
    if job.headers and job.headers[0][0] == WORKFLOW_NODE:
        node = framed(msgspec.json.decode(job.value, type=NodeSpec), schema_id)
        return msgspec.structs.replace(job, value=encode(node))
    return framed(job, schema_id)


class FollowUps:
    """The follow-up jobs of one attempt."""

    __slots__ = ("_attempt", "_bytes", "_job", "_settings")

    def __init__(self, job: Job, settings: Settings) -> None:
        self._job = job
        self._settings = settings
        self._attempt = job.attempt
        self._bytes = 0
        job.sent = None

    def add(self, prepared: PreparedJob) -> None:
        """Collect one. Raises JobTooLarge, TooManyFollowUps, AttemptOver; callers hold a lock."""
        check_job_size(prepared, self._settings.max_record_bytes)
        if prepared.headers and prepared.headers[0][0] == WORKFLOW_NODE:
            self._add(Outgoing(self._settings.topics.flows, None, prepared.headers[0][1], prepared.value))
            return
        topic = self._settings.topics.jobs(prepared.queue, prepared.priority)
        key = (prepared.key if prepared.key is not None else prepared.tenant).encode()
        self._add(Outgoing(topic, None, key, prepared.value, prepared.headers, prepared.created_ms))

    def _add(self, record: Outgoing) -> None:
        job = self._job
        if job.is_over or job.attempt != self._attempt:
            raise AttemptOver(f"Nothing is sent any more: attempt {self._attempt} of job {job.id} has ended")
        sent = job.sent if job.sent is not None else []
        self._bytes += len(record.value or b"")
        if len(sent) >= MAX_FOLLOW_UPS or self._bytes > MAX_FOLLOW_UP_BYTES:
            raise TooManyFollowUps(
                f"One attempt sends at most {MAX_FOLLOW_UPS:,} jobs and {MAX_FOLLOW_UP_BYTES:,} bytes of arguments:"
                " send jobs that send the rest"
            )
        sent.append(record)
        job.sent = sent
