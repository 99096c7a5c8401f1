"""Reads the end of the status topic for outcomes that no commit covers yet. Shell over a group-less reader.

A status tells which record it finishes: a terminal one the job's first record, unless the header `job-record` names
another (a record of a retry or parked topic, or one that moved on to such a topic). One that finishes none, since its
job waits in memory for another attempt, names the record in `job-waits`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from logqueue_schemas.job_status import InvalidStatus, StatusCodec

from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue_consumers.commit_notes import Retried

log = structlog.get_logger(__name__)

RECORD_HEADER = "job-record"
"""`<topic>/<partition>/<offset>` of the record that a status finishes."""
WAITS_HEADER = "job-waits"
"""`<topic>/<partition>` of the record whose job waits, and `/<number>` of what `Retried` says, in its order."""
MAX_TAIL_RECORDS = 500_000
"""Longest stretch of statuses that is read; beyond it jobs that finished last before a crash may run again."""
READ_TIMEOUT_S = 20.0


class Tail(NamedTuple):
    """What statuses say that no commit covers yet, by partition."""

    finished: Mapping[TopicPartition, Sequence[int]]
    """Offsets of finished records."""
    retried: Mapping[TopicPartition, Sequence[Retried]]
    """Jobs that wait for another attempt, or did; the last word on each comes last."""
    ends: Sequence[int]
    """Where the partitions of the status topic end."""


class StatusTail:
    """The status topic as a worker that takes over partitions reads it."""

    def __init__(self, settings: Settings, codec: StatusCodec, *, group: str, partitions: int) -> None:
        self._settings = settings
        self._codec = codec
        self._group = group
        self._partitions = [TopicPartition(settings.topics.status, number) for number in range(partitions)]

    async def read(self, bookmarks: Iterable[Sequence[int]]) -> Tail:
        """What was written from the earliest of the bookmarks on.

        Raises aiokafka's errors, BrokerUnreachable or TimeoutError: callers try again.
        """
        starts = [min(positions) for positions in zip(*bookmarks, strict=False)]
        reader: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
        try:
            reader.assign(self._partitions)
            async with asyncio.timeout(READ_TIMEOUT_S):
                found = await reader.end_offsets(self._partitions)
                ends = [found[tp] for tp in self._partitions]
                return await self._read_on(reader, starts, ends)
        finally:
            await stop_client(reader, timeout_s=1.0)

    async def _read_on(self, reader: AIOKafkaConsumer, starts: Sequence[int], ends: Sequence[int]) -> Tail:
        finished: dict[TopicPartition, list[int]] = defaultdict(list)
        retried: dict[TopicPartition, list[Retried]] = defaultdict(list)
        left = {tp: end for tp, start, end in zip(self._partitions, starts, ends, strict=False) if start < end}
        total = sum(end - start for start, end in zip(starts, ends, strict=False))
        if total > MAX_TAIL_RECORDS:
            log.warning("too many statuses since the last commit: jobs finished last may repeat", statuses=total)
            return Tail(finished, retried, ends)
        for tp in left:
            reader.seek(tp, starts[tp.partition])
        while left:
            for records in (await reader.getmany(*left, timeout_ms=200)).values():
                for record in records:
                    self._note(record, finished, retried)
            for tp in list(left):
                if await reader.position(tp) >= left[tp]:
                    del left[tp]
        return Tail(finished, retried, ends)

    def _note(
        self,
        record: Any,
        finished: dict[TopicPartition, list[int]],
        retried: dict[TopicPartition, list[Retried]],
    ) -> None:
        if record.value is None:
            return
        try:
            status = self._codec.decode(record.value)
        except InvalidStatus as error:
            log.warning("status not understood", partition=record.partition, offset=record.offset, error=str(error))
            return
        if status.shadow or status.group != self._group:
            return
        for name, value in record.headers:
            if name == RECORD_HEADER:
                topic, partition, offset = value.decode().rsplit("/", 2)
                finished[TopicPartition(topic, int(partition))].append(int(offset))
                return
            if name == WAITS_HEADER:
                at, waits = _waiting(value)
                retried[at].append(waits)
                return
        if status.is_terminal:
            finished[TopicPartition(status.topic, status.partition)].append(status.offset)


def record_header(topic: str, partition: int, offset: int) -> tuple[str, bytes]:
    """The header of a status that finishes another record than the job's first."""
    return RECORD_HEADER, f"{topic}/{partition}/{offset}".encode()


def waiting_header(waits: Retried, topic: str, partition: int) -> tuple[str, bytes]:
    """The header of a status that finishes no record, because its job waits in memory."""
    first = 0 if waits.first_failed_ms is None else waits.first_failed_ms
    return WAITS_HEADER, f"{topic}/{partition}/{waits.offset}/{waits.attempt}/{waits.due_ms}/{first}".encode()


def _waiting(value: bytes) -> tuple[TopicPartition, Retried]:
    topic, *numbers = value.decode().rsplit("/", 5)
    partition, offset, attempt, due_ms, first_failed_ms = map(int, numbers)
    return TopicPartition(topic, partition), Retried(offset, attempt, due_ms, first_failed_ms or None)
