"""Moves rows of an outbox table to the log: exactly one record a row. Shell; what a row becomes is outbox_rows.py.

| step | if everything dies after it |
|---|---|
| 1. lead: the table's lock | the lock ends with the connection |
| 2. fence: InitProducerId under the table's id (KIP-98) | what a former relay has on its way is refused |
| 3. recall: the rows of the last batch, from `jobs.outbox` | |
| 4. delete those from the table | deleted twice is deleted |
| 5. read the next rows | |
| 6. one transaction: their jobs, and which rows they are | either both are on the log or neither |
| 7. delete them, back to 5 | step 3 and 4 of the next relay delete them |

The lock only keeps relays from fencing each other in turn; that no row is doubled rests on 2, 3 and 6 alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from logqueue.clock import Clock
from logqueue.jobs.admin import TopicsNotCreated, ensure_topics
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.errors import BrokerUnreachable
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import JOBS_PARTITIONS
from logqueue_consumers.bridges.outbox_rows import (
    BadRow,
    Done,
    Row,
    job_record,
    memory_record,
    priority_of,
    remembered,
)
from logqueue_consumers.bridges.outbox_table import OutboxTable, TableUnreachable
from logqueue_consumers.bridges.pacing import FIRST_BACKOFF_S, longer, pause
from logqueue_consumers.bridges.queue_classes import QueueClasses, read_classes
from logqueue_consumers.keeper.writer import NotOwner, NotWritten, TransactionalWriter
from logqueue_consumers.topics.partition_counts import TopicPartitions
from logqueue_consumers.writing.outgoing import Outgoing

log = structlog.get_logger(__name__)

POLL_S = 1.0
"""How long a row may lie unseen where no notification tells of it."""
STANDBY_S = 1.0
"""How often a relay that stands by asks whether the one that leads has gone."""
RECALL_TIMEOUT_S = 60.0
"""Longer than a transaction of another relay can stay open: reading stops where one begins until it has ended."""
PLACE_TIMEOUT_S = 30.0


@dataclass(slots=True)
class RelayCounts:
    """What a relay has done since its start."""

    moved: int = 0
    refused: int = 0
    recalled: int = 0
    """Rows that a relay before had moved and not deleted."""
    is_leading: bool = False


class OutboxRelay:
    """One relay of one table. `on_lead` is told each time that it begins to move rows."""

    def __init__(
        self, settings: Settings, table: OutboxTable, *, clock: Clock, on_lead: Callable[[], None] | None = None
    ) -> None:
        self.counts = RelayCounts()
        self._settings = settings
        self._names = settings.topics
        self._table = table
        self._clock = clock
        self._on_lead = on_lead if on_lead is not None else lambda: None
        self._partitions = TopicPartitions(settings, lambda _: JOBS_PARTITIONS)
        self._classes = QueueClasses()
        self._has_met_both = False
        self._alone = 0
        """Rows that go one at a time, since one of them is larger than its topic takes."""

    async def run(self, stop: asyncio.Event) -> RelayCounts:
        """Move rows until `stop`. Raises TableMissing, and what keeps the first look at table and log from happening.

        Later failures of either are waited out, with up to pacing.MAX_BACKOFF_S between two tries.
        """
        backoff_s = FIRST_BACKOFF_S
        while not stop.is_set():
            moved = self.counts.moved
            try:
                await self._lead(stop)
            except (TableUnreachable, BrokerUnreachable, TopicsNotCreated) as error:
                if not self._has_met_both:
                    raise
                log.warning("outbox relay waits", error=str(error))
            except (NotWritten, NotOwner, KafkaError, TimeoutError) as error:
                log.warning("outbox relay begins again", error=str(error) or type(error).__name__)
            finally:
                self.counts.is_leading = False
                await self._table.close()
            if not stop.is_set():
                backoff_s = FIRST_BACKOFF_S if self.counts.moved > moved else longer(backoff_s)
                await pause(stop, backoff_s)
        return self.counts

    async def drain(self) -> RelayCounts:
        """Move what is there now, and end: for a cron job, or a test. Raises like `run`, and at any failure.

        While another relay leads, its standing by may last.
        """
        stop = asyncio.Event()
        try:
            await self._lead(stop, once=True)
        finally:
            self.counts.is_leading = False
            await self._table.close()
        return self.counts

    async def _lead(self, stop: asyncio.Event, *, once: bool = False) -> None:
        """One connection to the table and one session of the log, from the lock to the first failure."""
        identity = await self._table.open()
        self._partitions.add(await ensure_topics(self._settings, [self._names.outbox_spec()]))
        self._has_met_both = True
        while not await self._table.try_lead():
            await pause(stop, STANDBY_S)
            if stop.is_set():
                return
        writer = TransactionalWriter(
            self._settings, transactional_id=f"{self._settings.topic_prefix}outbox-{identity}", group=""
        )
        try:
            await writer.fence()
            await self._forget(await self._recall(identity))
            self.counts.is_leading = True
            self._on_lead()
            while not stop.is_set():
                has_more = await self._move(writer, identity)
                if once and not has_more:
                    return
                if not has_more:
                    await _first(self._table.changed(POLL_S), stop)
        finally:
            await writer.stop()

    async def _move(self, writer: TransactionalWriter, identity: str) -> bool:
        """One batch; whether other rows wait behind it."""
        rows, has_more = await self._table.read(max_row_bytes=self._settings.max_record_bytes)
        if self._alone:
            self._alone, has_more, rows = self._alone - 1, has_more or len(rows) > 1, rows[:1]
        moved, records = await self._records(rows)
        if moved:
            memory = memory_record(identity, moved, self._names, now_ms=self._clock.time_ms())
            try:
                await writer.write([*records, memory])
            except NotWritten as error:
                await self._after_refusal(error, moved)
                raise
            await self._table.delete([row.identity for row in moved])
            self.counts.moved += len(moved)
        return has_more

    async def _after_refusal(self, error: NotWritten, rows: Sequence[Row]) -> None:
        """A row that its topic does not take (max.message.bytes) must not keep the others from being moved."""
        if not isinstance(error.__cause__, (MessageSizeTooLargeError, RecordListTooLargeError)):
            return
        if len(rows) == 1:
            await self._refuse(rows[0], f"larger than its topic takes (max.message.bytes): {error.__cause__}")
        else:
            self._alone = len(rows)

    async def _records(self, rows: Sequence[Row]) -> tuple[list[Row], list[Outgoing]]:
        """The rows that are jobs, with their records; the others are refused."""
        await self._learn_classes(rows)
        found: list[tuple[Row, Outgoing]] = []
        for row in rows:
            try:
                record = job_record(row, self._names, self._classes, max_bytes=self._settings.max_record_bytes)
                found.append((row, record))
            except BadRow as error:
                await self._refuse(row, str(error))
        async with asyncio.timeout(PLACE_TIMEOUT_S):
            placed = await self._partitions.place([record for _, record in found])
        moved, records = [], []
        for (row, _), record in zip(found, placed, strict=True):
            if record.partition is None:
                await self._refuse(row, f"topic {record.topic} does not exist and cannot be created")
            else:
                moved.append(row)
                records.append(record)
        return moved, records

    async def _learn_classes(self, rows: Sequence[Row]) -> None:
        """What workers have published, asked for once a batch and only where a row names a class that is not known."""
        named = ((row.queue, name) for row in rows if (name := priority_of(row)) is not None)
        if not all(self._classes.knows(queue, name) for queue, name in named):
            self._classes = await read_classes(self._settings)

    async def _refuse(self, row: Row, reason: str) -> None:
        log.error("outbox row refused", position=row.position, id=row.id, type=row.type, reason=reason)
        await self._table.refuse(row, reason)
        self.counts.refused += 1

    async def _forget(self, done: Done) -> None:
        if done:
            before = (await self._table.counts()).pending
            await self._table.delete(sorted(done))
            self.counts.recalled += max(0, before - (await self._table.counts()).pending)

    async def _recall(self, identity: str) -> Done:
        """The rows of the last transaction of this table that was committed.

        Other tables' relays write to the same partition: the end asked for is the log's, not that of what is committed,
        and reading goes on until the transactions before it have ended.
        """
        place = TopicPartition(self._names.outbox, 0)
        looking: AIOKafkaConsumer = await start_client(
            lambda: new_reader(self._settings, "read_uncommitted"), self._settings
        )
        try:
            end = (await looking.end_offsets([place]))[place]
        finally:
            await stop_client(looking, timeout_s=1.0)
        reader: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
        done: Done = frozenset()
        try:
            reader.assign([place])
            async with asyncio.timeout(RECALL_TIMEOUT_S):
                reader.seek(place, (await reader.beginning_offsets([place]))[place])
                while await reader.position(place) < end:
                    for records in (await reader.getmany(place, timeout_ms=200)).values():
                        done = remembered(records, identity) or done
        finally:
            await stop_client(reader, timeout_s=1.0)
        return done


async def _first(change: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
    """Wait for a change or the stop."""
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(change), asyncio.create_task(stop.wait())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
