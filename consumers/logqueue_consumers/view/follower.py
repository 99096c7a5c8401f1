"""Follows every topic that the view is made of, from stored positions on. Knows aiokafka, and nothing of jobs.

It is no member of any group: the positions live in the view, in the transaction that holds what was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from logqueue.ids import TopicPartition
from logqueue.jobs.connection import new_admin, new_reader, read_nothing, start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue_consumers.topics.fetch_state import fetch_state, fetch_states
from logqueue_consumers.view.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowLimits:
    """Bounds of following. Times in seconds."""

    max_records: int = 5_000  # handed out at once, hence in one transaction of the view
    fetch_bytes: int = 8 * 1024 * 1024  # of one answer of a broker
    partition_fetch_bytes: int = 1024 * 1024
    discovery_interval: float = 1.0  # how long a new topic may stay unseen


# A fetch waits this long at the broker for records; a new record ends it at once. Who leads the partitions of a new
# topic is asked on the same connection, hence after the fetch: a longer wait would hide new topics for longer.
_FETCH_WAIT_MS: Final = 100
_START: Final = 0


class Follower:
    """Reads all partitions of the topics that `wanted` chooses, and finds new ones while it runs.

    Entering it connects, or raises BrokerUnreachable after the `connect_timeout_s` of the settings.
    """

    def __init__(self, settings: Settings, *, wanted: Callable[[str], bool], limits: FollowLimits) -> None:
        self._settings = settings
        self._wanted = wanted
        self._limits = limits
        self._positions: dict[TopicPartition, int] = {}
        self._passed: dict[TopicPartition, int] = {}
        """Positions behind markers of transactions (KIP-98), which are read but handed to nobody."""
        self._passed_lately: dict[TopicPartition, int] = {}
        self._has_partitions = asyncio.Event()
        self._has_looked = False
        """Whether the partitions are those that the cluster has: before that there are none to lag behind on."""
        self._clients = AsyncExitStack()
        self._admin: Any = None
        self._consumer: Any = None
        self.cluster_id = ""

    async def __aenter__(self) -> Self:
        settings = self._settings
        try:
            # Two connections: questions about the cluster must not queue behind a fetch that waits for records.
            self._admin = await start_client(lambda: new_admin(settings), settings)
            self._clients.push_async_callback(stop_client, self._admin)
            self._consumer = await start_client(self._new_consumer, settings)
            self._clients.push_async_callback(stop_client, self._consumer)
            self.cluster_id = (await self._admin.describe_cluster()).get("cluster_id") or ""
        except BaseException:
            await self._clients.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._clients.aclose()

    def _new_consumer(self) -> AIOKafkaConsumer:
        return new_reader(
            self._settings,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            fetch_max_bytes=self._limits.fetch_bytes,
            max_partition_fetch_bytes=self._limits.partition_fetch_bytes,
        )

    def start_at(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read on from these offsets; partitions that are not named are read from their start. `discover` begins."""
        self._positions = dict(positions)
        self._passed = {}
        self._passed_lately = {}
        read_nothing(self._consumer)
        self._has_partitions.clear()
        self._has_looked = False

    async def is_same_log(self, cluster_id: str) -> bool:
        """Whether this is the log of the positions: the same cluster, and no position behind the end."""
        self.cluster_id = (await self._admin.describe_cluster()).get("cluster_id") or ""
        if self.cluster_id != cluster_id:
            return False
        known = await self._partitions()
        read = [at for at in known if self._positions.get(at, 0) > 0]
        ends = await self._consumer.end_offsets([KafkaPartition(*at) for at in read]) if read else {}
        return all(self._positions[at] <= ends[KafkaPartition(*at)] for at in read)

    async def discover(self) -> None:
        """Begin to read topics and partitions that are new, stop reading those that are gone."""
        found = await self._partitions()
        self._has_looked = True
        if found == {TopicPartition(*at) for at in self._consumer.assignment()}:
            return
        partitions = [KafkaPartition(*at) for at in sorted(found)]
        self._consumer.assign(partitions)
        for partition in partitions:
            self._consumer.seek(partition, self._positions.get(TopicPartition(*partition), _START))
        if partitions:
            self._has_partitions.set()
        else:
            self._has_partitions.clear()

    def assigned(self) -> Sequence[TopicPartition]:
        """The partitions that are read, in order."""
        return sorted(TopicPartition(*at) for at in self._consumer.assignment())

    def position(self, at: TopicPartition) -> int:
        """The offset behind the last record of a partition that was handed out."""
        return self._positions.get(at, _START)

    def is_at_end(self, at: TopicPartition) -> bool:
        """Whether all is handed out that a partition had when it was last asked; False until it has been."""
        position, end = fetch_state(self._consumer, KafkaPartition(*at))
        return position is not None and end is not None and position >= end

    async def read(
        self, *, timeout: float, of: Iterable[TopicPartition] = (), most: int | None = None
    ) -> Sequence[tuple[TopicPartition, list[Record]]]:
        """Records that have come, at most `most` or `max_records`; nothing if none comes within `timeout` seconds.

        Of all partitions, or of those alone that `of` names.
        """
        if not self._has_partitions.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._has_partitions.wait()
            except TimeoutError:
                return ()
        most = min(most or self._limits.max_records, self._limits.max_records)
        partitions = [KafkaPartition(*at) for at in of]
        found = await self._consumer.getmany(*partitions, timeout_ms=int(timeout * 1000), max_records=most)
        # No await from here on: `discover` must never see positions that lag behind what was handed out.
        batches = [(TopicPartition(*at), records) for at, records in found.items()]
        self._positions.update((at, records[-1].offset + 1) for at, records in batches)
        return batches

    def lag(self) -> int | None:
        """Records in the topics behind what was handed out; None until all are found and have told where they end.

        Nor is it known while a position is being looked up again, after records at a partition's start were deleted.
        """
        if not self._has_looked:
            return None
        lag = 0
        read, passed = self._positions.get, self._passed.get
        for partition, position, end in fetch_states(self._consumer):
            if position is None or end is None:
                return None
            if end > position:
                lag += end - position
            at: Any = partition  # equal to ours
            if position > read(at, 0) and position > passed(at, 0):
                self._passed[TopicPartition(*at)] = self._passed_lately[TopicPartition(*at)] = position
        return lag

    def passed(self) -> Mapping[TopicPartition, int]:
        """Positions further than those of the records handed out, as `lag` found them: markers lie between."""
        self._passed_lately = {}
        return {at: position for at, position in self._passed.items() if position > self._positions.get(at, 0)}

    def passed_lately(self) -> Mapping[TopicPartition, int]:
        """Of these the ones that have not been told since."""
        lately, self._passed_lately = self._passed_lately, {}
        return lately

    async def _partitions(self) -> set[TopicPartition]:
        topics = await self._admin.describe_topics()
        return {
            TopicPartition(topic["topic"], partition["partition"])
            for topic in topics
            if topic["error_code"] == 0 and self._wanted(topic["topic"])
            for partition in topic["partitions"]
        }
