"""One partition of a keeper's topic in the hands of its owner: read, take over, act when something is due. Shell.

| step      | what happens                                                                                       |
|-----------|----------------------------------------------------------------------------------------------------|
| open      | the index comes from disk; the topic is read from its position to the end                          |
| take over | only when there is something to do: fence the former owner, then read to the end once more          |
| act       | the machine's records go into one transaction; what of them is its own is applied at once           |
| failed    | the transaction's fate is unknown: take over anew, which settles it, and read what it was           |
| recover   | one thing at a time, each put off before it is tried; then batches that double again                |

A partition without anything to wait for costs no transactional id and no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from msgspec.structs import replace

from logqueue.clock import Clock
from logqueue.errors import LogqueueError
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicKind
from logqueue_consumers.keeper.events import EventReader
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.machine import KeeperSpec, Kept, Place
from logqueue_consumers.keeper.writer import NotOwner, NotWritten, TransactionalWriter
from logqueue_consumers.topics.partition_counts import TopicPartitions
from logqueue_consumers.writing.outgoing import Outgoing

log = structlog.get_logger(__name__)

MAX_TOLD = 5
"""Keys that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperLimits:
    """Bounds of a keeper. Times in seconds unless the name says otherwise."""

    batch: int = 500
    """Things handled in one transaction, and events looked at for one."""
    fetch_records: int = 2_000
    """Records applied to an index in one transaction of it."""
    first_backoff_s: float = 0.2
    max_backoff_s: float = 10.0
    reopen_s: float = 1.0
    """Pause before a partition whose index failed is read anew."""
    longest_sleep_s: float = 5.0
    """Wall clocks are set and machines sleep: due times are looked at again at least this often."""
    refresh_s: float = 60.0
    """How often an idle index is marked as up to date."""
    session_timeout_ms: int = 6_000
    """Kafka's smallest: how long the partitions of a killed process go unattended."""
    heartbeat_interval_ms: int = 1_000
    fetch_wait_ms: int = 250


class IndexAhead(Exception):
    """The index knows more than the log has: it belongs to another one, or the log was made anew."""


class KeptPartition:
    """A partition, its machine and its writer."""

    def __init__(
        self,
        spec: KeeperSpec,
        place: Place,
        index: Index,
        *,
        settings: Settings,
        partitions: TopicPartitions,
        group: str,
        clock: Clock,
        limits: KeeperLimits,
        end_of: Callable[[TopicPartition], Awaitable[int]],
        on_fenced: Callable[[], None],
    ) -> None:
        """`end_of` asks the log for the last stable offset of a partition; `on_fenced`: transactions begin."""
        self.at = TopicPartition(place.topic, place.partition)
        self._index = index
        self._settings = settings
        self._partitions = partitions
        self._clock = clock
        self._limits = limits
        self._end_of = end_of
        self._on_fenced = on_fenced
        prefix = settings.topic_prefix
        topic = place.topic.removeprefix(prefix)
        self.transactional_id = f"{prefix}keeper-{topic}-{place.partition}"
        self._writer = TransactionalWriter(settings, transactional_id=self.transactional_id, group=group)
        self._events = EventReader(settings, spec.events, place.partition, group) if spec.events is not None else None
        self._machine = spec.make(index, place)
        self.position = index.position
        self._as_of_ms = clock.time_ms()
        self._ahead: dict[bytes, int] = {}
        """Keys that were written here and not read back yet, with the offsets of their records."""
        self._changed = asyncio.Event()
        self._batch = limits.batch
        """Things for the next transaction: one after a failure, twice as many after each that went well."""
        self._is_ahead = False
        """It was seen that the log starts over: nothing is decided any more from what the index has."""
        self.is_reading = False
        """Somebody waits for the position to reach an end: `passed` is to be told."""

    @property
    def is_fenced(self) -> bool:
        """Whether this owner writes by now."""
        return self._writer.is_fenced

    @property
    def index_path(self) -> Path | None:
        """The index's file."""
        return self._index.path

    def next_due(self) -> int | None:
        """When there is something to do (ms), as far as was read; None when nothing waits for a time."""
        return self._machine.next_due()

    # --- records in; called by whoever fetches ---

    def take(self, records: Sequence[Any]) -> None:
        """Apply records that were read, in the order of the log.

        Raises IndexAhead for records that stand before the position: the index is of no use then. It is not cleared
        here, for it must not be acted on before the whole topic was read: what is due may have a tombstone further on.
        """
        if records[0].offset < self.position:
            raise self._starts_over(records[0].offset)
        now_ms = self._clock.time_ms()
        with self._index.transaction():
            for record in records:
                if record.key is not None and self._ahead.get(record.key, -1) < record.offset:
                    self._machine.apply(Kept(record.key, record.value, record.headers, record.offset, record.timestamp))
            self.position = records[-1].offset + 1
            self._index.set_position(self.position, now_ms=now_ms)
        self._as_of_ms = now_ms
        if self._ahead and max(self._ahead.values()) < self.position:
            self._ahead.clear()
        self._changed.set()

    def passed(self, position: int) -> None:
        """The reader stands here: between what was taken and `position` lie only markers and compacted records."""
        if position > self.position:
            self.position = position
            self._changed.set()

    def wake(self) -> None:
        """Look again at what is due."""
        self._changed.set()

    def _starts_over(self, offset: int) -> IndexAhead:
        self._is_ahead = True
        return IndexAhead(
            f"{self.at.topic}-{self.at.partition} has offset {offset} again, its index is at {self.position}"
        )

    # --- life ---

    async def run(self) -> None:
        """Own the partition until cancelled."""
        backoff_s = self._limits.first_backoff_s
        while True:
            try:
                await self._read_to_end()
                while True:
                    await self._wait_for_work()
                    if not self._writer.is_fenced:
                        await self._take_over()
                    if await self._act():
                        backoff_s = self._limits.first_backoff_s
            except NotOwner as error:
                log.info("keeper stands back", topic=self.at.topic, partition=self.at.partition, reason=str(error))
                backoff_s = self._limits.max_backoff_s
            except (KafkaError, LogqueueError, OSError, TimeoutError) as error:
                log.warning("keeper tries again", topic=self.at.topic, partition=self.at.partition, reason=str(error))
            await self._writer.stop()
            await asyncio.sleep(backoff_s)
            backoff_s = min(self._limits.max_backoff_s, backoff_s * 2)

    async def close(self) -> None:
        """Give the partition up (`run` has ended)."""
        if self._events is not None:
            await self._events.stop()
        await self._writer.stop()
        self._index.close()

    async def _read_to_end(self) -> None:
        """Wait until everything that stands in the topic now has been applied."""
        known = self.position
        end = await self._end_of(self.at)
        if end < known:
            raise IndexAhead(f"{self.at.topic}-{self.at.partition} ends at {end}, its index at {known}")
        self.is_reading = True
        try:
            while self.position < end:
                self._changed.clear()
                await self._changed.wait()
        finally:
            self.is_reading = False

    async def _take_over(self) -> None:
        await self._writer.fence()
        self._on_fenced()
        await self._read_to_end()
        if self._events is not None:
            await self._events.stop()  # what was read ahead may have been acted on by the former owner

    async def _wait_for_work(self) -> None:
        """Until something is due or events have come; returns at once if that is so already."""
        while True:
            self._changed.clear()
            now_ms = self._clock.time_ms()
            due_ms = self._machine.next_due()
            if due_ms is not None and due_ms <= now_ms:
                return
            wants_events = self._events is not None and self._machine.events_since() is not None
            if wants_events and not (self._writer.is_fenced and self._events is not None and self._events.is_started):
                return
            wait_s = self._limits.longest_sleep_s
            if due_ms is not None:
                wait_s = min(wait_s, (due_ms - now_ms) / 1000)
                if not self._writer.is_fenced:
                    return  # be ready before it is due
            if wants_events:
                assert self._events is not None
                if await self._events.wait(wait_s, self._changed):
                    return
            else:
                await _wait(self._changed, wait_s)
            self._refresh()

    def _refresh(self) -> None:
        """An index that is idle is as good as one that is written."""
        now_ms = self._clock.time_ms()
        if now_ms - self._as_of_ms > self._limits.refresh_s * 1000:
            with self._index.transaction():
                self._index.set_position(self.position, now_ms=now_ms)
            self._as_of_ms = now_ms

    # --- acting ---

    async def _act(self) -> bool:
        """Write what is due and what events ask for; false when there was nothing."""
        if self._is_ahead:
            raise IndexAhead(f"{self.at.topic}-{self.at.partition} starts over")
        due_ms = self._machine.next_due()
        has_acted = due_ms is not None and due_ms <= self._clock.time_ms() and await self._act_on_due()
        if self._events is not None:
            has_acted = await self._act_on_events(self._events) or has_acted
        return has_acted

    async def _act_on_due(self) -> bool:
        """One batch; after a failure one thing, which is put off before it is tried.

        Should it be the bad one, the others go on. If it is written, its own records say when it is due again.
        """
        now_ms, size = self._clock.time_ms(), self._batch
        records = self._machine.due(now_ms, size)
        if not records:
            return False  # all that was due has been put off
        if size == 1:
            self._machine.put_off(now_ms)
        try:
            await self._write(records, {})
        except NotOwner:
            raise
        except (KafkaError, LogqueueError, OSError, TimeoutError) as error:
            self._batch = 1
            if size == 1:
                log.error(
                    "put off: it cannot be written. Look at the rights and the record sizes of these topics",
                    topics=sorted({record.topic for record in records}),
                    keys=[repr(record.key) for record in records if self._is_own(record)][:MAX_TOLD],
                    reason=str(error) or repr(error),
                )
            raise
        self._batch = min(self._limits.batch, size * 2)
        return True

    async def _act_on_events(self, reader: EventReader) -> bool:
        since_ms = self._machine.events_since()
        if since_ms is None:
            await reader.stop()
            return False
        if not reader.is_started:
            await reader.start(since_ms)
        events = reader.take(self._limits.batch)
        records: list[Outgoing] = []
        with self._index.trial():  # a later event must see what an earlier one will have changed
            for event in events:
                found = self._machine.on_event(event)
                records += found
                for record in found:
                    if self._is_own(record):
                        assert record.key is not None
                        self._machine.apply(Kept(record.key, record.value, record.headers))
        if records or reader.should_commit:
            await self._write(records, reader.offsets())
            reader.committed()
        return bool(records)

    def _is_own(self, record: Outgoing) -> bool:
        return record.topic == self.at.topic and record.partition in (None, self.at.partition)

    async def _write(self, records: Sequence[Outgoing], offsets: dict[TopicPartition, int]) -> None:
        """One transaction, then apply what of it is our own and was not read back before the commit was answered.

        What was read back may have been followed by more of the same key: a job that is to wait once more.
        """
        placed = await self._place_all(records)
        position = self.position
        found = await self._writer.write(placed, offsets=offsets)
        for record, offset in zip(placed, found, strict=True):
            if self._is_own(record) and offset < position:
                raise self._starts_over(offset)
        with self._index.transaction():
            for record, offset in zip(placed, found, strict=True):
                if self._is_own(record) and offset >= self.position:
                    assert record.key is not None, "records of a compacted topic have keys"
                    self._ahead[record.key] = offset
                    self._machine.apply(
                        Kept(record.key, record.value, record.headers, offset, record.timestamp_ms or 0)
                    )

    async def _place_all(self, records: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """The records with their partitions. Own ones stay here; topics that are missing are made."""
        own = self.at.partition
        records = [
            replace(record, partition=own) if record.partition is None and record.topic == self.at.topic else record
            for record in records
        ]
        unknown = {record.topic for record in records if record.topic not in self._partitions}
        await self._make_retry_topics(unknown)
        await self._partitions.learn(unknown)
        placed = await self._partitions.place(records)
        lost = {record.topic for record in placed if record.partition is None}
        if lost:
            raise NotWritten(f"topics that do not exist: {', '.join(sorted(lost))}")
        return placed

    async def _make_retry_topics(self, topics: set[str]) -> None:
        """A group's topics may have been deleted while its jobs waited here."""
        names = self._settings.topics
        for topic in topics:
            role = names.role(topic)
            if role is not None and role.kind is TopicKind.RETRY and role.queue is not None and role.group is not None:
                specs = [spec for spec in names.group_specs(role.queue, role.group) if spec.name == topic]
                self._partitions.add(await ensure_topics(self._settings, specs))


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
