"""The events of one keeper partition: a partition of another topic, read from what was committed. Shell.

Offsets are committed with what the events led to, so each event counts once. While the machine wants no events none
are read; when it wants them again they are read from the time it names, not from the old offset.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from logqueue.jobs.connection import new_admin, new_reader, start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue_consumers.keeper.machine import Kept

FETCH_WAIT_MS = 250
MAX_WAITING = 5_000
"""Events fetched and not looked at yet."""
COMMIT_EVERY = 20_000
"""Events that led to nothing before their offset is committed all the same."""
REQUEST_TIMEOUT_S = 20.0
CLOCKS_DIFFER_MS = 10_000


class EventReader:
    """Reads one partition, a bounded number of records ahead."""

    def __init__(self, settings: Settings, topic: str, partition: int, group: str) -> None:
        self._settings = settings
        self._at = TopicPartition(topic, partition)
        self._group = group
        self._reader: AIOKafkaConsumer | None = None
        self._waiting: deque[Any] = deque()
        self._next = 0
        self._committed = 0

    @property
    def is_started(self) -> bool:
        """Whether events are read now."""
        return self._reader is not None

    async def start(self, since_ms: int) -> None:
        """Read from what is committed, or from `since_ms` on if that is later. Raises KafkaError, BrokerUnreachable."""
        await self.stop()
        committed = await self._read_commit()
        reader: AIOKafkaConsumer = await start_client(self._make, self._settings)
        try:
            reader.assign([self._at])
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                begin = (await reader.beginning_offsets([self._at]))[self._at]
                found = (await reader.offsets_for_times({self._at: max(0, since_ms - CLOCKS_DIFFER_MS)}))[self._at]
                since = found.offset if found is not None else (await reader.end_offsets([self._at]))[self._at]
            self._next = self._committed = max(begin, since, committed)
            reader.seek(self._at, self._next)
        except BaseException:
            await stop_client(reader, timeout_s=1.0)
            raise
        self._reader = reader

    async def stop(self) -> None:
        """Read no more, and forget what was read ahead."""
        reader, self._reader = self._reader, None
        self._waiting.clear()
        if reader is not None:
            await stop_client(reader, timeout_s=1.0)

    async def wait(self, timeout_s: float, interrupt: asyncio.Event) -> bool:
        """Wait for events; false when there are none in time, or `interrupt` was set."""
        reader = self._reader
        if self._waiting or reader is None:
            return bool(self._waiting)
        fetching = asyncio.ensure_future(
            reader.getmany(self._at, timeout_ms=int(timeout_s * 1000), max_records=MAX_WAITING)
        )
        interrupted = asyncio.ensure_future(interrupt.wait())
        try:
            await asyncio.wait((fetching, interrupted), timeout=timeout_s + 1, return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                for records in fetching.result().values():
                    self._waiting.extend(records)
        finally:
            interrupted.cancel()
            if not fetching.done():
                fetching.cancel()
                await asyncio.wait((fetching,))
                if not fetching.cancelled() and fetching.exception() is None:
                    for records in fetching.result().values():
                        self._waiting.extend(records)
        return bool(self._waiting)

    def take(self, limit: int) -> list[Kept]:
        """The next events."""
        events: list[Kept] = []
        while self._waiting and len(events) < limit:
            record = self._waiting.popleft()
            self._next = record.offset + 1
            if record.key is not None:
                events.append(Kept(record.key, record.value, record.headers, record.offset, record.timestamp))
        return events

    def offsets(self) -> dict[TopicPartition, int]:
        """What to commit after the events taken so far."""
        return {self._at: self._next}

    def committed(self) -> None:
        """`offsets` were committed."""
        self._committed = self._next

    @property
    def should_commit(self) -> bool:
        """Whether so many events led to nothing that reading them again would cost too much."""
        return self._next - self._committed >= COMMIT_EVERY

    async def _read_commit(self) -> int:
        """The group's offset. The fence has ended every open transaction, so none is pending."""
        admin = await start_client(lambda: new_admin(self._settings), self._settings)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                found = await admin.list_consumer_group_offsets(self._group, partitions=[self._at])
            at = found.get(self._at)
            return at.offset if at is not None and at.offset >= 0 else 0
        finally:
            await stop_client(admin)

    def _make(self) -> AIOKafkaConsumer:
        return new_reader(self._settings, fetch_max_wait_ms=FETCH_WAIT_MS)
