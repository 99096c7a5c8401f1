"""Results of steps (`ctx.step`), kept in the compacted topic `jobs.steps`. Shell over a group-less reader.

Key: JSON `[group, job id, step]`, of a job that an operator sent round again `[group, job id, step, round]`: a round
begins all steps anew. Value: the result's JSON; partition: that of the tenant. A result is acknowledged by
all replicas before the step returns. The first step of an attempt reads the tenant's partition to its end, so it knows
whatever any worker kept, whoever has owned the job since; what was read lies in a SQLite file without a name, which
the kernel frees with the process. When a job has ended durably, its steps are withdrawn.

The topic is created by the first step. Its records belong to no transaction: a reader must not wait for one that a
dead worker left open. What a crash leaves behind there is deleted after `STEPS_RETENTION_MS`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.settings import Settings
from logqueue_consumers.job import Job
from logqueue_consumers.writing.batch_producer import BatchProducer
from logqueue_consumers.writing.outgoing import Outgoing

log = structlog.get_logger(__name__)

MAX_STEPS = 1_000
"""Steps of one job."""
MAX_NAME_CHARS = 200
MAX_RESULT_BYTES = 64 * 1024
READ_TIMEOUT_S = 30.0
MAX_USED = 100_000
"""Jobs with steps that a worker remembers to withdraw; beyond that, the topic's retention does it."""
CACHE_KIB = 8_192
"""Memory of the local table; the rest lies on disk."""

_TABLE = "CREATE TABLE steps (job BLOB, name TEXT, result BLOB, PRIMARY KEY (job, name)) WITHOUT ROWID"


class StepStore:
    """The steps of the jobs that this worker may meet. Belongs to one event loop."""

    def __init__(self, settings: Settings, producer: BatchProducer, *, group: str) -> None:
        self._settings = settings
        self._producer = producer
        self._group = group
        self._topic = settings.topics.steps
        self._partitions = 0
        self._positions: dict[int, int] = {}
        self._reader: AIOKafkaConsumer | None = None
        self._lock = asyncio.Lock()
        self._table: sqlite3.Connection | None = None
        self._used: dict[bytes, None] = {}
        """Jobs that had a step here, oldest first."""

    async def find(self, job: Job, step: str, *, is_first: bool) -> bytes | None:
        """The kept result of a step, or None. `is_first`: of this attempt, so others may have kept steps meanwhile."""
        table = await self._open()
        key = self._key_of(job)
        if is_first:
            async with self._lock:
                await self._catch_up(partition_of(job.key, self._partitions), table)
            self._used[key] = None
            if len(self._used) > MAX_USED:
                del self._used[next(iter(self._used))]
        row = table.execute("SELECT result FROM steps WHERE job = ? AND name = ?", (key, step)).fetchone()
        return None if row is None else bytes(row[0])

    async def keep(self, job: Job, step: str, result: bytes) -> None:
        """Make a result durable."""
        table = await self._open()
        await self._send([self._record(job, step, result)])
        _put(table, self._key_of(job), step, result)

    @property
    def is_used(self) -> bool:
        """Whether any job of this worker has had a step."""
        return self._table is not None

    async def withdraw(self, jobs: Sequence[Job]) -> None:
        """These jobs have ended, and the log knows it: their steps are over."""
        table = self._table
        if table is None:
            return
        gone: list[Outgoing] = []
        for job in jobs:
            key = self._key_of(job)
            if key not in self._used:
                continue
            del self._used[key]
            found = table.execute("SELECT name FROM steps WHERE job = ?", (key,)).fetchall()
            gone += [self._record(job, name, None) for (name,) in found]
            table.execute("DELETE FROM steps WHERE job = ?", (key,))
        if gone:
            await self._send(gone)

    async def stop(self) -> None:
        """Close the connection and forget."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await stop_client(reader, timeout_s=1.0)
        if self._table is not None:
            self._table.close()
            self._table = None

    async def _open(self) -> sqlite3.Connection:
        """The local table, made (and the topic with it) when the first step of this worker comes."""
        async with self._lock:
            if self._table is None:
                counts = await ensure_topics(self._settings, [self._settings.topics.steps_spec()])
                self._partitions = counts[self._topic]
                self._table = table = sqlite3.connect("", isolation_level=None)
                table.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
                table.execute("PRAGMA journal_mode = OFF")
                table.execute(_TABLE)
            return self._table

    async def _catch_up(self, partition: int, table: sqlite3.Connection) -> None:
        """Read a partition up to its present end. A reader that fails is given up: it may have ended for good."""
        if self._reader is None:
            self._reader = await start_client(lambda: new_reader(self._settings), self._settings)
        try:
            await self._read(self._reader, partition, table)
        except (KafkaError, TimeoutError):
            reader, self._reader = self._reader, None
            if reader is not None:
                await stop_client(reader, timeout_s=1.0)
            raise

    async def _read(self, reader: AIOKafkaConsumer, partition: int, table: sqlite3.Connection) -> None:
        tp = TopicPartition(self._topic, partition)
        async with asyncio.timeout(READ_TIMEOUT_S):
            end = (await reader.end_offsets([tp]))[tp]
            position = self._positions.get(partition, 0)
            if position >= end:
                return
            reader.assign([tp])
            reader.seek(tp, position)
            while position < end:
                for record in (await reader.getmany(tp, timeout_ms=200)).get(tp, ()):
                    _apply(table, record)
                position = await reader.position(tp)
            self._positions[partition] = position

    async def _send(self, records: Sequence[Outgoing]) -> None:
        refusals = await self._producer.send(records)
        if refusals:
            raise refusals[0].error  # the attempt fails with it

    def _record(self, job: Job, step: str, result: bytes | None) -> Outgoing:
        replay = job.headers.replay
        key = msgspec.json.encode([self._group, job.id, step, *([replay] if replay else [])])
        return Outgoing(self._topic, partition_of(job.key, self._partitions), key, result)

    def _key_of(self, job: Job) -> bytes:
        return job_key(self._group, job.id, job.headers.replay)


class _Key(msgspec.Struct, array_like=True):
    """The key of a step's record. Workers of before round numbers were kept pass over what has one."""

    group: str
    job_id: str
    step: str
    replay: int = 0


_read_key = msgspec.json.Decoder(_Key).decode


def job_key(group: str, job_id: str, replay: int) -> bytes:
    """What stands for a round of a job of a group in the local table."""
    return f"{group}\0{job_id}\0{replay}".encode()


def _put(table: sqlite3.Connection, job: bytes, step: str, result: bytes) -> None:
    table.execute("INSERT OR REPLACE INTO steps (job, name, result) VALUES (?, ?, ?)", (job, step, result))


def _apply(table: sqlite3.Connection, record: Any) -> None:
    """Take in one record of the topic; a key that is not ours is passed over, with a word."""
    try:
        parsed = _read_key(record.key or b"")
    except (ValueError, RecursionError):
        log.warning("not the key of a step", topic=record.topic, offset=record.offset)
        return
    key, step = job_key(parsed.group, parsed.job_id, parsed.replay), parsed.step
    if record.value is None:
        table.execute("DELETE FROM steps WHERE job = ? AND name = ?", (key, step))
    else:
        _put(table, key, step, record.value)
