"""Whether the job that a key or an id stands for is the one that was sent: reads both records. Shell over aiokafka.

The worker ends a record that comes again with other arguments as a dead letter and writes no status for it, since its
id is that of the first job. Who sent it can tell by the position: a status names the record that its job began with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition

from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.handle import UNKNOWN_OFFSET
from logqueue.jobs.settings import Settings
from logqueue.jobs.unique import KeyConflict, argument_digest

if TYPE_CHECKING:
    from logqueue_schemas.job_status import JobStatus

    from logqueue.jobs.handle import JobHandle

POLL_MS = 500

Place = tuple[str, int, int]


async def check_same_job(settings: Settings, handle: JobHandle, status: JobStatus) -> None:
    """KeyConflict if the status belongs to another record than the handle's, with other arguments or another tenant's.

    Of another tenant's job nothing is told. Callers bound the time.
    A record that the log no longer has says nothing: then the jobs count as the same.
    """
    first, own = (status.topic, status.partition, status.offset), (handle.topic, handle.partition, handle.offset)
    if handle.offset == UNKNOWN_OFFSET or first == own:
        return
    if status.tenant != handle.tenant:
        raise KeyConflict(
            f"Job {handle.id} did not run: its id is taken by another tenant's; this one, at "
            f"{handle.topic}-{handle.partition}@{handle.offset}, is a dead letter of class `conflict`"
        )
    reader: AIOKafkaConsumer = await start_client(lambda: new_reader(settings, "read_uncommitted"), settings)
    try:
        values = [await _value_at(reader, place) for place in (first, own)]
    finally:
        await stop_client(reader, timeout_s=2.0)
    digests = {argument_digest(value) for value in values if value is not None}
    if len(digests) > 1:
        what = "idempotency key" if handle.is_keyed else "id"
        raise KeyConflict(
            f"Job {handle.id} did not run: its {what} came before with other arguments, at "
            f"{status.topic}-{status.partition}@{status.offset} (that job is {status.state}); this one, at "
            f"{handle.topic}-{handle.partition}@{handle.offset}, is a dead letter of class `conflict`"
        )


async def _value_at(reader: AIOKafkaConsumer, place: Place) -> bytes | None:
    """The value of a record; None if the log has it no more."""
    at, offset = TopicPartition(place[0], place[1]), place[2]
    reader.assign([at])
    reader.seek(at, offset)
    while await reader.position(at) <= offset:
        for record in (await reader.getmany(at, timeout_ms=POLL_MS, max_records=1)).get(at, ()):
            return record.value if record.offset == offset else None
    return None
