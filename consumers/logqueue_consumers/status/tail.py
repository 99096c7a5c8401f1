"""Reads the end of the status topic for outcomes that no commit covers yet. Shell over group-less readers.

A status tells which record it finishes: a terminal one the job's first record, unless the header `job-record` names
another (a record of a retry or parked topic, or one that moved on to such a topic). One that finishes none, since its
job waits in memory for another attempt, names the record in `job-waits`. What moved on without a status is found in the
topics where it went (`status.moved`).

A transaction of somebody else (a keeper, another app) that is open in the status topic hides what is written behind it
from readers of committed records. It ends soon, by its writer, by whoever comes after that one, or by its timeout, and
is waited for.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from logqueue_schemas.job_status import InvalidStatus, StatusCodec

from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue_consumers.commits.notes import CommitNotes, Retried
from logqueue_consumers.status.headers import RECORD, WAITS, read_record, read_waiting
from logqueue_consumers.status.moved import FoundMove, MovedRecords

log = structlog.get_logger(__name__)

MAX_TAIL_RECORDS = 500_000
"""Longest stretch of statuses, and of moved records, that is read: the newest ones."""
SLACK_MS = 10_000
"""Moved records are read from so long before the noted time: clocks are set, and a broker may stamp records itself."""
READ_TIMEOUT_S = 20.0
POLL_MS = 200


class Tail(NamedTuple):
    """What the log has of outcomes that no commit covers yet, by partition."""

    finished: Mapping[TopicPartition, Sequence[int]]
    """Offsets of finished records."""
    retried: Mapping[TopicPartition, Sequence[Retried]]
    """Jobs that wait for another attempt, or did; the last word on each comes last."""
    moved: Sequence[FoundMove]
    """Records that were replaced; those that are not finished all the same lack their statuses."""
    ends: Sequence[int]
    """Where the partitions of the status topic end."""


Stretches = Mapping[TopicPartition, tuple[int, int]]
"""What is to be read of each partition: from an offset to another one."""


class StatusTail:
    """The status topic as a worker that takes over partitions reads it."""

    def __init__(
        self,
        settings: Settings,
        codec: StatusCodec,
        *,
        group: str,
        partitions: int,
        moved: MovedRecords,
        moved_to: Iterable[TopicPartition],
    ) -> None:
        """`moved_to` are the partitions of the topics where the group's records move to."""
        self._settings = settings
        self._codec = codec
        self._group = group
        self._partitions = [TopicPartition(settings.topics.status, number) for number in range(partitions)]
        self._moved = moved
        self._moved_to = list(moved_to)

    async def read(self, notes: Sequence[CommitNotes]) -> Tail:
        """What was written from the earliest of the bookmarks on that these commits have.

        Raises aiokafka's errors, BrokerUnreachable or TimeoutError: callers try again.
        """
        bookmarks = [note.bookmark for note in notes if note.bookmark is not None]
        since_ms = min((note.since_ms for note in notes if note.since_ms is not None), default=None)
        finished: dict[TopicPartition, list[int]] = defaultdict(list)
        retried: dict[TopicPartition, list[Retried]] = defaultdict(list)
        moved: list[FoundMove] = []
        async with self._reader("read_uncommitted", [*self._partitions, *self._moved_to]) as reader:
            ends = await reader.end_offsets(self._partitions)
            if since_ms is not None:
                await self._read_moved(reader, max(0, since_ms - SLACK_MS), moved)
        stretches = newest(self._statuses_since(bookmarks, ends)) if bookmarks else {}
        if any(start < end for start, end in stretches.values()):
            async with self._reader("read_committed", self._partitions) as reader:
                await _read_through(reader, stretches, lambda record: self._note(record, finished, retried))
        return Tail(finished, retried, moved, [ends[tp] for tp in self._partitions])

    @asynccontextmanager
    async def _reader(self, isolation: str, partitions: Sequence[TopicPartition]) -> AsyncIterator[AIOKafkaConsumer]:
        reader = await start_client(lambda: new_reader(self._settings, isolation), self._settings)
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                # Without this aiokafka looks for the leaders of one topic after the other, with a pause before each.
                await reader._client.set_topics({tp.topic for tp in partitions})
                yield reader
        finally:
            await stop_client(reader, timeout_s=1.0)

    def _statuses_since(self, bookmarks: Sequence[Sequence[int]], ends: Mapping[TopicPartition, int]) -> Stretches:
        """From the earliest bookmark on; from the beginning where one got too long to be noted."""
        count = len(self._partitions)
        known = all(len(positions) >= count for positions in bookmarks)
        starts = [min(positions) for positions in zip(*bookmarks, strict=False)] if known else [0] * count
        return {tp: (start, ends[tp]) for tp, start in zip(self._partitions, starts, strict=False)}

    async def _read_moved(self, reader: AIOKafkaConsumer, since_ms: int, moved: list[FoundMove]) -> None:
        """Uncommitted records do no harm here: only a record that stands in the log is sent on in a transaction."""

        def take(record: Any) -> None:
            if (move := self._moved.read(record)) is not None:
                moved.append(move)

        # A topic of dead letters may have been deleted.
        there = [tp for tp in self._moved_to if tp.partition in (reader.partitions_for_topic(tp.topic) or ())]
        try:
            begins = await reader.offsets_for_times(dict.fromkeys(there, since_ms))
            ends = await reader.end_offsets(there)
            stretches = {tp: (begin.offset, ends[tp]) for tp, begin in begins.items() if begin is not None}
            await _read_through(reader, newest(stretches), take)
        except TopicAuthorizationFailedError as error:
            log.warning("no right to read where records moved to: their jobs may run twice", topics=str(error))

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
            if name not in (RECORD, WAITS):
                continue
            # Where the header says nothing it is not known which record this is about: none is finished then.
            if name == RECORD and (found := read_record(value)) is not None:
                at, offset = found
                finished[at].append(offset)
            elif name == WAITS and (waiting := read_waiting(value)) is not None:
                at, waits = waiting
                retried[at].append(waits)
            else:
                log.warning("status not understood", partition=record.partition, offset=record.offset, header=name)
            return
        if status.is_terminal:
            finished[TopicPartition(status.topic, status.partition)].append(status.offset)


async def _read_through(reader: AIOKafkaConsumer, stretches: Stretches, take: Callable[[Any], None]) -> None:
    left = {tp: end for tp, (start, end) in stretches.items() if start < end}
    if left:
        reader.assign(list(left))
    for tp in left:
        reader.seek(tp, stretches[tp][0])
    while left:
        for records in (await reader.getmany(*left, timeout_ms=POLL_MS)).values():
            for record in records:
                take(record)
        for tp in list(left):
            if await reader.position(tp) >= left[tp]:
                del left[tp]


def newest(stretches: Stretches, *, limit: int = MAX_TAIL_RECORDS) -> Stretches:
    """Of too long stretches the last parts: what no commit covers is what was written last."""
    total = sum(max(0, end - start) for start, end in stretches.values())
    if total <= limit:
        return stretches
    log.warning("much was written since the last commit: only the newest is read", records=total, limit=limit)
    part = limit // len(stretches)
    return {tp: (max(start, end - part), end) for tp, (start, end) in stretches.items()}
