"""Which jobs a crash has put on the retry topics twice: that may happen where records are written at least once."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from logqueue import App
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.headers import ERROR_TYPE, NOT_BEFORE, read_job_headers
from logqueue.jobs.topics import TopicKind


async def doubled(app: App) -> set[str]:
    """Ids of jobs of which two records say the same: the same attempt after a failure, or until the same time."""
    settings = app.settings
    specs = [spec for spec in app.topic_specs() if settings.topics.role(spec.name).kind is TopicKind.RETRY]  # type: ignore[union-attr]
    partitions = [TopicPartition(spec.name, number) for spec in specs for number in range(spec.partitions)]
    reader: AIOKafkaConsumer = await start_client(lambda: new_reader(settings), settings)
    seen: set[tuple[object, ...]] = set()
    twice: set[str] = set()
    try:
        reader.assign(partitions)
        ends = await reader.end_offsets(partitions)
        await reader.seek_to_beginning(*partitions)
        left = {tp for tp, end in ends.items() if end}
        while left:
            for records in (await reader.getmany(*left, timeout_ms=100)).values():
                for record in records:
                    headers, read = dict(record.headers), read_job_headers(record.headers)
                    key = (read.id, read.attempt, None if ERROR_TYPE in headers else headers.get(NOT_BEFORE))
                    if key in seen:
                        twice.add(str(read.id))
                    seen.add(key)
            left = {tp for tp in left if await reader.position(tp) < ends[tp]}
    finally:
        await stop_client(reader)
    return twice
