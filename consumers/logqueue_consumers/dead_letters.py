"""Dead letters of a group: list, show, and send round again. Shell over a group-less reader and a producer.

A dead letter stays in its topic for ever; what an operator did with it is an event in `jobs.control`, with the key
`dead-letter/<topic>/<partition>/<offset>`. A letter is open until it was replayed. Replaying writes the original bytes
to the group's own retry topic (so no other group runs it), due at once, under the same id, with `job-replay` one higher
and the attempt reset.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from logqueue_schemas.job_status import RANKS, JobStatus, State, StatusCodec

from logqueue.clock import Clock, SystemClock
from logqueue.errors import LogqueueError
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.errors import InvalidHeader
from logqueue.jobs.headers import (
    Failure,
    Origin,
    read_failure,
    read_job_headers,
    read_origin,
    replayed_headers,
    salvage_job_headers,
)
from logqueue.jobs.job_ids import id_of_position
from logqueue.jobs.partitioning import DEFAULT_TENANT
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.settings import Settings
from logqueue_consumers.batch_producer import BatchProducer, Outgoing
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.topic_list import partition_counts

log = structlog.get_logger(__name__)

PREVIEW_BYTES = 2_000
MAX_LISTED = 10_000
REPLAY_BATCH = 1_000
"""Letters that are written together."""
READ_TIMEOUT_S = 30.0
"""Longest wait for the next records of a topic that is not at its end."""


class DeadLettersUnreadable(LogqueueError):
    """The dead letters cannot be read now; the text says why."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter. `partition` and `offset` name it within `topic`; times are milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    id: str
    type: str | None
    tenant: str
    queue: str
    group: str
    attempt: int
    replay: int
    died_ms: int
    first_failed_ms: int | None
    error_type: str | None
    error_message: str | None
    error_class: str | None
    origin_topic: str | None
    origin_partition: int | None
    origin_offset: int | None
    size: int
    """Bytes of the value."""
    preview: str
    """The value's beginning as text; bytes that are no text are escaped."""
    is_open: bool
    """Not replayed yet."""
    headers: dict[str, str]

    @property
    def position(self) -> str:
        """`partition:offset`, as commands take it."""
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which letters are meant; None and empty mean any."""

    ids: frozenset[str] = frozenset()
    positions: frozenset[tuple[int, int]] = frozenset()
    type: str | None = None
    tenant: str | None = None
    error_type: str | None = None
    error_class: str | None = None
    open_only: bool = True

    def matches(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant."""
        return (
            (not self.ids or letter.id in self.ids)
            and (not self.positions or (letter.partition, letter.offset) in self.positions)
            and self.type in (None, letter.type)
            and self.tenant in (None, letter.tenant)
            and self.error_type in (None, letter.error_type)
            and self.error_class in (None, letter.error_class)
            and (letter.is_open or not self.open_only)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterReplay:
    """What a replay of dead letters did, or would do."""

    matched: int
    replayed: int
    is_dry_run: bool


class DeadLetters:
    """The dead letters of one queue and group."""

    def __init__(self, settings: Settings, *, queue: str, group: str, clock: Clock | None = None) -> None:
        self._settings = settings
        self._names = settings.topics
        self._queue = queue
        self._group = group
        self._clock: Clock = clock if clock is not None else SystemClock()
        self.topic = self._names.dlq(queue, group)

    async def newest(self, where: LetterFilter | None = None, *, limit: int = 100) -> list[DeadLetter]:
        """The newest letters that match, newest first; empty where the topic does not exist."""
        assert 1 <= limit <= MAX_LISTED, f"limit is 1 to {MAX_LISTED}"
        wanted = where if where is not None else LetterFilter(open_only=False)
        newest: dict[int, deque[DeadLetter]] = {}
        async for letter, _ in self._scan():
            if wanted.matches(letter):
                newest.setdefault(letter.partition, deque(maxlen=limit)).append(letter)
        letters = [letter for kept in newest.values() for letter in kept]
        letters.sort(key=lambda letter: (letter.died_ms, letter.partition, letter.offset), reverse=True)
        return letters[:limit]

    async def count(self, where: LetterFilter | None = None) -> int:
        """How many letters match."""
        wanted = where if where is not None else LetterFilter()
        return sum([1 async for letter, _ in self._scan() if wanted.matches(letter)])

    async def show(self, id_or_position: str) -> list[tuple[DeadLetter, bytes | None]]:
        """The letters of a job id, or the one at `partition:offset`, with their whole value; oldest first."""
        position = _position(id_or_position)
        return [
            (letter, record.value)
            async for letter, record in self._scan()
            if letter.id == id_or_position or (letter.partition, letter.offset) == position
        ]

    async def replay(
        self,
        where: LetterFilter,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> LetterReplay:
        """Send matching letters round again, oldest first; with `dry_run` only count them."""
        if dry_run:
            matched = await self.count(where)
            return LetterReplay(matched=matched if limit is None else min(matched, limit), replayed=0, is_dry_run=True)
        chosen: list[tuple[DeadLetter, Any]] = []
        async for letter, record in self._scan():
            if where.matches(letter):
                chosen.append((letter, record))
                if limit is not None and len(chosen) >= limit:
                    break
        await self._send_round(chosen, on_progress)
        return LetterReplay(matched=len(chosen), replayed=len(chosen), is_dry_run=False)

    async def _send_round(
        self, chosen: list[tuple[DeadLetter, Any]], on_progress: Callable[[int], None] | None
    ) -> None:
        if not chosen:
            return
        specs = [*self._names.group_specs(self._queue, self._group), *self._names.shared_specs()]
        await ensure_topics(self._settings, specs)
        codec = await SchemaRegistry(self._settings).status_codec()
        limits = WorkerLimits()
        producer = BatchProducer(self._settings, batch_bytes=limits.batch_bytes, max_backoff_s=limits.max_backoff_s)
        await producer.start()
        try:
            await producer.learn_partitions(*(spec.name for spec in specs))
            for begin in range(0, len(chosen), REPLAY_BATCH):
                part = chosen[begin : begin + REPLAY_BATCH]
                records = [out for letter, record in part for out in self._records(producer, codec, letter, record)]
                refusals = await producer.send(records)
                if refusals:
                    raise DeadLettersUnreadable(f"The log refuses a record of {self.topic}: {refusals[0].error!r}")
                if on_progress is not None:
                    on_progress(begin + len(part))
        finally:
            await producer.stop()

    def _records(
        self, producer: BatchProducer, codec: StatusCodec, letter: DeadLetter, record: Any
    ) -> Iterable[Outgoing]:
        """The job, the event that the letter is no longer open, and the job's new state."""
        now_ms = self._clock.time_ms()
        retry, status, replay = self._names.retry(self._queue, self._group), self._names.status, letter.replay + 1
        key = record.key if record.key is not None else letter.tenant.encode()
        headers = replayed_headers(record.headers, replay=replay)
        yield Outgoing(retry, producer.partition_of(retry, key), record.key, record.value, headers, now_ms)
        event = {"event": "dead-letter.replayed", "id": letter.id, "replay": replay, "at_ms": now_ms}
        yield Outgoing(self._names.control, 0, _event_key(letter), msgspec.json.encode(event), [], now_ms)
        queued = JobStatus(
            id=letter.id,
            queue=self._queue,
            tenant=letter.tenant,
            group=self._group,
            state=State.QUEUED,
            at=now_ms * 1000,
            topic=letter.origin_topic or letter.topic,
            partition=letter.partition if letter.origin_partition is None else letter.origin_partition,
            offset=letter.offset if letter.origin_offset is None else letter.origin_offset,
            type=letter.type,
            replay=replay,
            rank=RANKS[State.QUEUED],
            sequence=now_ms * 1000,
        )
        yield Outgoing(status, producer.partition_of(status, key), queued.key, codec.encode(queued), [], now_ms)

    async def _scan(self) -> AsyncIterator[tuple[DeadLetter, Any]]:
        """Every letter up to the present end of the topic, with its record."""
        topics = await partition_counts(self._settings)
        if self.topic not in topics:
            return
        reader: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
        try:
            closed: set[bytes] = set()
            if self._names.control in topics:
                prefix = f"dead-letter/{self.topic}/".encode()
                async for record in _read_to_end(reader, self._names.control, topics[self._names.control]):
                    if record.key is not None and record.key.startswith(prefix):
                        (closed.add if record.value is not None else closed.discard)(record.key)
            async for record in _read_to_end(reader, self.topic, topics[self.topic]):
                yield self._letter(record, closed), record
        except (KafkaError, TimeoutError) as error:
            raise DeadLettersUnreadable(f"Topic {self.topic} cannot be read now: {error!r}") from None
        finally:
            await stop_client(reader)

    def _letter(self, record: Any, closed: Collection[bytes]) -> DeadLetter:
        headers, failure, origin = record.headers, _failure(record.headers), _origin(record.headers)
        try:
            job = read_job_headers(headers)
        except InvalidHeader:
            job = salvage_job_headers(headers)
        id_ = job.id
        if id_ is None:
            at = origin if origin is not None else Origin(record.topic, record.partition, record.offset, self._group)
            id_ = id_of_position(at.topic, at.partition, at.offset)
        value = record.value or b""
        letter = DeadLetter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            id=id_,
            type=job.type,
            tenant=(record.key or DEFAULT_TENANT.encode()).decode("utf-8", "replace"),
            queue=self._queue,
            group=self._group,
            attempt=job.attempt,
            replay=job.replay,
            died_ms=record.timestamp,
            first_failed_ms=failure.first_failed_ms if failure else None,
            error_type=failure.type if failure else None,
            error_message=failure.message if failure else None,
            error_class=failure.error_class if failure else None,
            origin_topic=origin.topic if origin else None,
            origin_partition=origin.partition if origin else None,
            origin_offset=origin.offset if origin else None,
            size=len(value),
            preview=value[:PREVIEW_BYTES].decode("utf-8", "backslashreplace"),
            is_open=True,
            headers={name: content.decode("utf-8", "backslashreplace") for name, content in headers},
        )
        return letter if _event_key(letter) not in closed else msgspec.structs.replace(letter, is_open=False)


async def _read_to_end(reader: AIOKafkaConsumer, topic: str, count: int) -> AsyncIterator[Any]:
    """The records of a topic from its beginning to its present end, partition by partition in order."""
    partitions = [TopicPartition(topic, number) for number in range(count)]
    reader.assign(partitions)
    async with asyncio.timeout(READ_TIMEOUT_S):
        begins = await reader.beginning_offsets(partitions)
        ends = await reader.end_offsets(partitions)
    left = {tp for tp in partitions if begins[tp] < ends[tp]}
    for tp in partitions:
        reader.seek(tp, begins[tp])
    for tp in partitions:
        while tp in left:
            async with asyncio.timeout(READ_TIMEOUT_S):
                fetched = await reader.getmany(tp, timeout_ms=500)
                position = await reader.position(tp)
            for record in fetched.get(tp, ()):
                if record.offset < ends[tp]:
                    yield record
            if position >= ends[tp]:
                left.discard(tp)


def _event_key(letter: DeadLetter) -> bytes:
    return f"dead-letter/{letter.topic}/{letter.partition}/{letter.offset}".encode()


def _failure(headers: Iterable[tuple[str, bytes]]) -> Failure | None:
    try:
        return read_failure(headers)
    except InvalidHeader:
        return None


def _origin(headers: Iterable[tuple[str, bytes]]) -> Origin | None:
    try:
        return read_origin(headers)
    except InvalidHeader:
        return None


def _position(text: str) -> tuple[int, int] | None:
    partition, separator, offset = text.partition(":")
    return (int(partition), int(offset)) if separator and partition.isdigit() and offset.isdigit() else None
