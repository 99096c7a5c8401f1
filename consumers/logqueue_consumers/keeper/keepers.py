"""The keepers of a process: a second, small consumer group decides who owns which partition. Shell over aiokafka.

Every worker process of a prefix joins the group `<prefix>logqueue.keepers`, whatever its app: each partition of the
keepers' topics has one owner, and when that ends another takes over. The group is only the invitation; that there is
never more than one who writes is the work of the transactional ids (KIP-98).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from logqueue.clock import Clock, SystemClock
from logqueue.errors import LogqueueError
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import new_admin, new_reader, start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import JOBS_PARTITIONS, TopicSpec
from logqueue_consumers.cache_folder import cache_folder
from logqueue_consumers.keeper.index import Index, IndexInUse
from logqueue_consumers.keeper.kept_partition import KeeperLimits, KeptPartition
from logqueue_consumers.keeper.machine import KeeperSpec, Place
from logqueue_consumers.membership.sticky_assignor import StickyAssignor
from logqueue_consumers.topics.partition_counts import TopicPartitions
from logqueue_consumers.wills.last_will import LastWill

log = structlog.get_logger(__name__)

POSITION_TIMEOUT_S = 0.2
POLL_MS = 100
STOP_TIMEOUT_S = 5.0


def keepers_group(settings: Settings) -> str:
    """The consumer group of the keepers under a prefix."""
    return f"{settings.topic_prefix}logqueue.keepers"


class Keepers(ConsumerRebalanceListener):  # type: ignore[misc]
    """One member of the keepers' group. All methods belong to one event loop."""

    def __init__(
        self,
        settings: Settings,
        specs: Sequence[KeeperSpec],
        topics: Sequence[TopicSpec],
        *,
        clock: Clock | None = None,
        limits: KeeperLimits | None = None,
        will: LastWill | None = None,
    ) -> None:
        """`specs` are the keepers, `topics` what they need on the log, `will` is that of their process."""
        self._settings = settings
        self._specs = {spec.topic: spec for spec in specs}
        self._topics = topics
        self._clock = clock if clock is not None else SystemClock()
        self._limits = limits if limits is not None else KeeperLimits()
        self._will = will
        self._group = keepers_group(settings)
        self._partitions = TopicPartitions(settings, lambda queue: JOBS_PARTITIONS)
        self._consumer: AIOKafkaConsumer | None = None
        self._owned: dict[TopicPartition, KeptPartition] = {}
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._cluster_id = ""
        self._changing = asyncio.Lock()
        """Held while partitions are opened and closed: rebalances, failures and the end overlap."""
        self.has_joined = asyncio.Event()

    @property
    def owned(self) -> Iterable[TopicPartition]:
        """The partitions in hand."""
        return self._owned.keys()

    @property
    def member_id(self) -> str | None:
        """What the group calls this member; None while it has not joined."""
        coordinator = self._consumer._coordinator if self._consumer is not None else None
        return getattr(coordinator, "member_id", None) or None

    def next_due(self) -> int | None:
        """When the first of its partitions has something to do (ms); None when none waits for a time."""
        return min((due for kept in self._owned.values() if (due := kept.next_due()) is not None), default=None)

    async def position(self, at: TopicPartition) -> int:
        """Where the consumer is in a partition in hand: behind markers too, which nobody takes."""
        kept = self._owned[at]
        assert self._consumer is not None
        try:
            async with asyncio.timeout(POSITION_TIMEOUT_S):
                return max(kept.position, int(await self._consumer.position(at)))
        except (TimeoutError, IllegalStateError):
            return kept.position

    def wake(self) -> None:
        """Something that machines look at has changed: commands, ..."""
        for kept in self._owned.values():
            kept.wake()

    async def run(self) -> None:
        """Be a member until cancelled; waits as long as the log is away."""
        backoff_s = self._limits.first_backoff_s
        try:
            while True:
                try:
                    await self._join()
                    backoff_s = self._limits.first_backoff_s
                    await self._read()
                except (KafkaError, LogqueueError, OSError, TimeoutError) as error:
                    log.warning("keepers join again", group=self._group, reason=str(error) or repr(error))
                except Exception:
                    # Their thread would end, and the worker go on without: nothing that waits would come due.
                    log.exception("keepers join again", group=self._group)
                await self._leave()
                await asyncio.sleep(backoff_s)
                backoff_s = min(self._limits.max_backoff_s, backoff_s * 2)
        finally:
            await self._leave()

    async def _join(self) -> None:
        settings, limits = self._settings, self._limits
        self._partitions.add(await ensure_topics(settings, self._topics))
        admin = await start_client(lambda: new_admin(settings), settings)
        try:
            self._cluster_id = (await admin.describe_cluster()).get("cluster_id") or ""
        finally:
            await stop_client(admin)
        self._consumer = consumer = await start_client(
            lambda: new_reader(
                settings,
                group_id=self._group,
                session_timeout_ms=limits.session_timeout_ms,
                heartbeat_interval_ms=limits.heartbeat_interval_ms,
                partition_assignment_strategy=(StickyAssignor(on_assigned=self._update_will),),
                fetch_max_wait_ms=limits.fetch_wait_ms,
            ),
            settings,
        )
        consumer.subscribe(list(self._specs), listener=self)

    async def _read(self) -> None:
        """Hand records to their partitions until something breaks."""
        assert self._consumer is not None
        while True:
            found = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=self._limits.fetch_records)
            for kept, error in self._hand_over(found):
                await self._reopen(kept, error)
            await asyncio.sleep(0)
            for at, kept in list(self._owned.items()):
                if kept.is_reading:
                    await self._tell_position(at, kept)
                # A rebalance may have come between: look at what is owned now.
                if self._owned.get(at) is kept and (task := self._tasks.get(at)) is not None and task.done():
                    await self._reopen(kept, task.exception())

    def _hand_over(self, found: Mapping[TopicPartition, Sequence[Any]]) -> list[tuple[KeptPartition, Exception]]:
        """Give every partition its records; returns those that failed.

        Nothing is awaited here, and nothing may be between the fetch and this: a rebalance that seeks meanwhile would
        make these records stale, and they would be fetched a second time.
        """
        failed = []
        for at, records in found.items():
            kept = self._owned.get(at)
            if kept is not None and records:
                try:
                    kept.take(records)
                except Exception as error:
                    failed.append((kept, error))
        return failed

    async def _tell_position(self, at: TopicPartition, kept: KeptPartition) -> None:
        assert self._consumer is not None
        try:
            async with asyncio.timeout(POSITION_TIMEOUT_S):
                position = await self._consumer.position(at)
        except (TimeoutError, IllegalStateError):
            return  # it is being looked up, or gone
        if self._owned.get(at) is kept:
            kept.passed(position)

    async def _end_of(self, at: TopicPartition) -> int:
        """Where committed records end (the last stable offset)."""
        assert self._consumer is not None
        ends = await self._consumer.end_offsets([at])
        return int(ends[at])

    # --- assignment; called by aiokafka ---

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Nothing yet: most partitions come back, and whoever gets one of the others fences us."""

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Give up what is gone, open what is new, read on everywhere from where the index stands."""
        wanted = set(assigned)
        # aiokafka has forgotten where it read and begins at the oldest record, for this group commits nothing. Before
        # anything is awaited: closing others may take seconds.
        for at in wanted & self._owned.keys():
            self._seek(at)
        async with self._changing:
            if self._consumer is None:
                return  # a rebalance that overlaps with leaving
            await self._close([at for at in self._owned if at not in wanted])
            if self._consumer is None:
                return  # it has begun to leave meanwhile
            for at in wanted:
                if at not in self._owned:
                    self._open(at)
                    self._seek(at)
        self.has_joined.set()
        log.debug("keepers assigned", partitions=[f"{at.topic}-{at.partition}" for at in sorted(wanted)])

    def _seek(self, at: TopicPartition) -> None:
        if self._consumer is not None:  # else a rebalance overlaps with leaving
            self._consumer.seek(at, self._owned[at].position)

    def _open(self, at: TopicPartition) -> None:
        spec = self._specs[at.topic]
        place = Place(
            topic=at.topic,
            partition=at.partition,
            partitions=self._partitions.count(at.topic),
            count_of=self._partitions.count,
        )
        kept = KeptPartition(
            spec,
            place,
            self._open_index(spec, at),
            settings=self._settings,
            partitions=self._partitions,
            group=self._group,
            clock=self._clock,
            limits=self._limits,
            end_of=self._end_of,
            on_fenced=self._update_will,
        )
        self._owned[at] = kept
        self._tasks[at] = asyncio.create_task(kept.run(), name=f"keeper {at.topic}-{at.partition}")

    def _update_will(self) -> None:
        """For the case that this process is killed: its place, and the transactions that may be open."""
        if self._will is not None:
            ids = (kept.transactional_id for kept in self._owned.values() if kept.is_fenced)
            self._will.is_member(self._group, self.member_id, sorted(ids))

    def _open_index(self, spec: KeeperSpec, at: TopicPartition) -> Index:
        folder = cache_folder(self._settings) / "keepers" / (self._cluster_id or "unnamed")
        identity = f"{self._cluster_id}/{at.topic}/{at.partition}/{spec.layout}"
        try:
            name = f"{at.topic}-{at.partition}"
            return Index.open(folder, name, identity=identity, now_ms=self._clock.time_ms())
        except (OSError, sqlite3.Error, IndexInUse) as error:
            log.warning("index is not kept: every start reads the whole topic", folder=str(folder), reason=str(error))
            return Index.temporary()

    async def _reopen(self, kept: KeptPartition, error: BaseException | None) -> None:
        """The index is of no use, or a machine has a bug: begin anew from the topic.

        The new index begins at 0, before which no record stands: a log that starts over is read once from there.
        """
        at = kept.at
        log.error("keeper begins anew", topic=at.topic, partition=at.partition, error=repr(error), exc_info=error)
        async with self._changing:
            if self._owned.get(at) is not kept:
                return  # it was given up meanwhile
            path = kept.index_path
            await self._close([at])
            if path is not None:
                path.unlink(missing_ok=True)
            await asyncio.sleep(self._limits.reopen_s)
            if self._consumer is not None and at in self._consumer.assignment():
                self._open(at)
                self._seek(at)

    async def _close(self, gone: Sequence[TopicPartition]) -> None:
        tasks = [self._tasks.pop(at) for at in gone]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # told by whoever saw it end
        await asyncio.gather(*(self._owned.pop(at).close() for at in gone))

    async def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        async with self._changing:
            await self._close(list(self._owned))
        if consumer is not None:
            await stop_client(consumer, timeout_s=STOP_TIMEOUT_S)
        self._update_will()
