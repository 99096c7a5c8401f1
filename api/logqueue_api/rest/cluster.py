"""What the log itself can tell: topics, groups, records. Shell over aiokafka, with one bound on every question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaConnectionError,
    NodeNotReadyError,
    NotCoordinatorForGroupError,
)
from logqueue_consumers.commits.group_progress import behind

from logqueue.ids import TopicPartition
from logqueue.jobs.connection import new_admin, new_reader, read_nothing, start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue_api.rest.problems import not_found

# Consumers that read records for requests, made when first needed; further requests wait for one.
_READERS: Final = 2
_EMPTY_POLL_SECONDS: Final = 0.5
_COORDINATOR_SECONDS: Final = 0.1
_KNOWN_STATES: Final = frozenset(
    {"Stable", "PreparingRebalance", "CompletingRebalance", "Empty", "Assigning", "Reconciling"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A group in one partition; see `commits.group_progress.Behind`."""

    at: TopicPartition
    committed: int | None
    end: int
    lag: int
    incomplete: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A consumer group as the log knows it."""

    id: str
    state: str
    protocol_type: str
    members: int
    progress: tuple[Progress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Records of one partition, with the offsets at which it starts and ends."""

    start: int
    end: int
    records: tuple[Any, ...]
    next_offset: int


class Cluster:
    """Asks the log. Connections are made when first needed, and again after they broke."""

    def __init__(self, settings: Settings, *, timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        self._admin: AIOKafkaAdminClient | None = None
        self._connecting = asyncio.Lock()
        self._idle: list[AIOKafkaConsumer] = []
        self._slots = asyncio.Semaphore(_READERS)

    async def close(self) -> None:
        """End the connections."""
        clients: list[object] = [*self._idle, *([self._admin] if self._admin else [])]
        self._idle, self._admin = [], None
        for client in clients:
            await stop_client(client)

    async def topics(self) -> dict[str, int]:
        """Every topic with its number of partitions."""
        return {topic["topic"]: len(topic["partitions"]) for topic in await self._metadata()}

    async def check(self) -> None:
        """Raises if no broker answers."""
        await self._metadata()

    async def groups(self) -> list[tuple[str, str]]:
        """Every group: name and protocol type ("consumer" for ordinary ones)."""
        async with asyncio.timeout(self._timeout), self._asking() as admin:
            found = await admin.list_consumer_groups()
        return sorted({(group, kind) for group, kind, *_ in found})

    async def group(self, group_id: str, *, topics: Collection[str] = ()) -> Group:
        """One group with its progress; a Problem (404) if the log does not know it.

        `topics` are those that the group reads: their partitions count even while it has committed nothing there.
        """
        async with asyncio.timeout(self._timeout):
            described, offsets = await self._ask_coordinator(group_id)
            code, _, state, protocol_type, _, members = described[:6]
            committed = {TopicPartition(*at): meta for at, meta in offsets.items() if meta.offset >= 0}
            if not committed and (code != 0 or state not in _KNOWN_STATES):
                raise not_found(f"there is no consumer group {group_id!r}")
            ends = await self._ends(committed, topics)
        progress = tuple(_progress(at, committed.get(at), *ends[at]) for at in sorted(ends))
        return Group(
            id=group_id,
            state=state,
            protocol_type=protocol_type or "consumer",
            members=len(members),
            progress=progress,
        )

    async def _ask_coordinator(self, group_id: str) -> tuple[Any, Any]:
        """Description and commits of a group, asked again while its coordinator is being found (Kafka's own rule)."""
        while True:
            async with self._asking() as admin:
                try:
                    described = (await admin.describe_consumer_groups([group_id]))[0].groups[0]
                    return described, await admin.list_consumer_group_offsets(group_id)
                except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
                    await asyncio.sleep(_COORDINATOR_SECONDS)

    async def extents(self, topics: Collection[str]) -> Mapping[TopicPartition, tuple[int, int]]:
        """Start and end of each partition of these topics, as far as they exist."""
        async with asyncio.timeout(self._timeout):
            return await self._ends((), topics)

    async def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Start and end of each partition of a topic; a Problem (404) if the log does not know it."""
        async with asyncio.timeout(self._timeout):
            found = await self._ends((), [topic])
        if not found:
            raise not_found(f"the log has no topic {topic!r}")
        return {at.partition: offsets for at, offsets in found.items()}

    async def last_offsets(self, topic: str) -> dict[TopicPartition, int]:
        """The offset of the last record in each partition of a topic that has any."""
        async with asyncio.timeout(self._timeout):
            return {at: end - 1 for at, (start, end) in (await self._ends((), [topic])).items() if end > start}

    async def read(self, at: TopicPartition, *, choose: Callable[[int, int], int], limit: int, max_bytes: int) -> Slice:
        """Records from the offset that `choose(start, end)` names, at most `limit` and about `max_bytes`."""
        async with asyncio.timeout(self._timeout):
            partitions = await self.topics()
            if at.partition >= partitions.get(at.topic, 0):
                raise not_found(f"the log has no partition {at.partition} of a topic {at.topic!r}")
            async with self._reader() as reader:
                return await _read_slice(reader, KafkaPartition(*at), choose, limit, max_bytes)

    async def value_at(self, at: TopicPartition, offset: int) -> bytes | None:
        """The value of one record; None if the log no longer has it."""
        found = await self.read(at, choose=lambda start, end: offset, limit=1, max_bytes=1)
        return next((record.value for record in found.records if record.offset == offset), None)

    async def _ends(
        self, committed: Iterable[TopicPartition], topics: Collection[str]
    ) -> Mapping[TopicPartition, tuple[int, int]]:
        """Start and end of the partitions that still exist: those with a commit, and all of `topics`."""
        known = await self.topics()
        asked = {KafkaPartition(*at) for at in committed if at.partition < known.get(at.topic, 0)}
        asked |= {KafkaPartition(topic, number) for topic in topics for number in range(known.get(topic, 0))}
        if not asked:
            return {}
        async with self._reader() as reader:
            partitions = sorted(asked)
            reader.assign(partitions)
            starts = await reader.beginning_offsets(partitions)
            ends = await reader.end_offsets(partitions)
        return {TopicPartition(*at): (starts[at], ends[at]) for at in partitions}

    async def _metadata(self) -> list[dict[str, Any]]:
        async with asyncio.timeout(self._timeout), self._asking() as admin:
            topics: list[dict[str, Any]] = await admin.describe_topics()
        return topics

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Any]:
        """The admin client; one whose connection broke is not used again."""
        async with self._connecting:
            if self._admin is None:
                self._admin = await start_client(lambda: new_admin(self._settings), self._settings)
        admin = self._admin
        try:
            yield admin
        except (KafkaConnectionError, NodeNotReadyError, TimeoutError, asyncio.CancelledError, OSError):
            if self._admin is admin:
                self._admin = None
                await stop_client(admin)
            raise

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[AIOKafkaConsumer]:
        async with self._slots:
            if self._idle:
                reader = self._idle.pop()
            else:
                reader = await start_client(lambda: new_reader(self._settings), self._settings)
            try:
                yield reader
            except BaseException:
                await stop_client(reader)
                raise
            read_nothing(reader)
            self._idle.append(reader)


def _progress(at: TopicPartition, found: Any, start: int, end: int) -> Progress:
    committed = None if found is None else int(found.offset)
    left = behind(start=start, end=end, committed=committed, metadata="" if found is None else found.metadata or "")
    return Progress(at=at, committed=committed, end=end, lag=left.lag, incomplete=left.incomplete)


async def _read_slice(
    reader: Any, at: KafkaPartition, choose: Callable[[int, int], int], limit: int, max_bytes: int
) -> Slice:
    reader.assign([at])
    start = (await reader.beginning_offsets([at]))[at]
    end = (await reader.end_offsets([at]))[at]
    offset = min(max(choose(start, end), start), end)
    reader.seek(at, offset)
    records: list[Any] = []
    size = 0
    while len(records) < limit and size < max_bytes and offset < end:
        found = await reader.getmany(at, timeout_ms=int(_EMPTY_POLL_SECONDS * 1000), max_records=limit - len(records))
        for record in found.get(at, ()):
            records.append(record)
            size += len(record.value or b"") + len(record.key or b"")
            offset = record.offset + 1
        if not found:
            # What is left of the partition are control records, or offsets that compaction removed.
            position = await reader.position(at)
            if position <= offset:
                break
            offset = position
    return Slice(start=start, end=end, records=tuple(records), next_offset=offset)
