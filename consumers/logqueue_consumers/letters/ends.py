"""Which dead jobs have succeeded since their letter was written, though nobody replayed them. Shell over one reader.

A worker that died between the letter and its commit leaves a job that runs again, and a key that is free again names a
new job. Only the statuses since the letter, of its tenant's partition, are read, and at most MAX_READ of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from logqueue_schemas.job_status import InvalidStatus, State, StatusCodec

from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.settings import Settings
from logqueue_consumers.letters.choice import ChosenJob

log = structlog.get_logger(__name__)

MAX_READ = 100_000
"""Statuses that are read; in what lies behind them nothing is looked for."""
READ_TIMEOUT_S = 20.0


async def succeeded_since(
    settings: Settings, codec: StatusCodec, jobs: Iterable[ChosenJob], *, partitions: int
) -> list[ChosenJob]:
    """Those whose group has told of a success after their letter. Raises aiokafka's errors or TimeoutError."""
    by_place: dict[TopicPartition, dict[str, ChosenJob]] = {}
    for job in jobs:
        if not job.letter.is_conflict:  # its id is another job's
            key = job.record.key if job.record.key is not None else job.letter.tenant.encode()
            at = TopicPartition(settings.topics.status, partition_of(key, partitions))
            by_place.setdefault(at, {})[job.letter.id] = job
    if not by_place:
        return []
    reader: AIOKafkaConsumer = await start_client(lambda: new_reader(settings), settings)
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await _look(reader, codec, by_place)
    finally:
        await stop_client(reader)


async def _look(
    reader: AIOKafkaConsumer, codec: StatusCodec, by_place: dict[TopicPartition, dict[str, ChosenJob]]
) -> list[ChosenJob]:
    reader.assign(list(by_place))
    ends = await reader.end_offsets(list(by_place))
    since = {at: min(job.letter.died_ms for job in wanted.values()) for at, wanted in by_place.items()}
    for at, found in (await reader.offsets_for_times(since)).items():
        reader.seek(at, ends[at] if found is None else found.offset)
    ended: dict[str, ChosenJob] = {}
    read = 0
    while any([await reader.position(at) < end for at, end in ends.items()]):
        for at, records in (await reader.getmany(timeout_ms=200)).items():
            read += len(records)
            for record in records:
                job = _ended(codec, record.value, by_place[at])
                if job is not None:
                    ended[job.letter.id] = job
        if read >= MAX_READ:
            log.warning("too many statuses since the letters: a success further on is not seen", read=read)
            break
    return list(ended.values())


def _ended(codec: StatusCodec, value: bytes | None, wanted: dict[str, ChosenJob]) -> ChosenJob | None:
    try:
        status = None if value is None else codec.decode(value)
    except InvalidStatus:
        return None  # the view's fold complains of it
    if status is None or status.shadow or status.state is not State.SUCCEEDED:
        return None
    job = wanted.get(status.id)
    if job is None or status.group != job.letter.group or status.at < job.letter.died_ms * 1000:
        return None
    return job
