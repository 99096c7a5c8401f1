"""Replay: history run through the same handlers in a shadow group. Shell over the worker's engine.

A replay reads a job, retry, parked or dead-letter topic from a position to an end that is fixed when it begins. It has
a group of its own for its commits, so an interrupted replay goes on where it was; its statuses are marked as shadow and
keyed `<group>/<job id>`; handlers see `ctx.replaying`. It writes no retry, dead-letter or parked records: failed
attempts are tried again in memory, after at most the worker's memory delay. The live group is not touched.

Partitions are assigned by hand: a replay is one process, and nobody joining can disturb it. A group that has live
members refuses its commits, so a replay cannot harm a worker group by mistake.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from logqueue_schemas.job_status import TERMINAL, JobStatus

from logqueue.jobs.effects import Effects, replayed_effect
from logqueue.jobs.schema_source import open_registry
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicKind
from logqueue_consumers.commits.offset_map import Run
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.membership.group_member import GroupMember
from logqueue_consumers.metrics import WorkerMetrics, measure
from logqueue_consumers.outcome import ShadowRules
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.replaying.compare import Comparison, ComparisonSummary, Ending
from logqueue_consumers.replaying.extent import (
    Chosen,
    Position,
    Range,
    check_shadow,
    checked_topic,
    narrowed,
    resolve,
)
from logqueue_consumers.replaying.recorded import Recorded, read_recorded
from logqueue_consumers.workbench import Workbench, bounded, stop_on_signals, unless

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue_consumers.job import Job
    from logqueue_consumers.outcome import Outcome

log = structlog.get_logger(__name__)

Progress = Callable[[int, int], None]
"""Called with the records done and the records in all."""

PROGRESS_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySummary:
    """What a replay did. `records` are those between start and end, `resumed` those done by an earlier run of it.

    Where an earlier run has been, or this one has not been yet, offsets that hold a transaction's marker count too.
    """

    topic: str
    group: str
    records: int
    resumed: int
    succeeded: int
    dead: int
    parked: int
    scheduled: int
    retried: int
    is_complete: bool
    seconds: float
    comparison: ComparisonSummary | None = None
    """What differs from the live runs; None where that was not asked for."""


async def run_replay(
    app: App,
    *,
    topic: str,
    group: str,
    start: Position | None = None,
    end: Position | None = None,
    settings: Settings | None = None,
    concurrency: int | None = None,
    drain_timeout: float | None = None,
    on_progress: Progress | None = None,
    on_ready: Callable[[], None] | None = None,
    stop: asyncio.Event | None = None,
    hurry: asyncio.Event | None = None,
    limits: WorkerLimits | None = None,
    chosen: Chosen | None = None,
    effects: Effects = Effects.DENY,
    compare: bool = False,
    ignore: Sequence[str] = (),
) -> ReplaySummary:
    """Run a topic's records in [start, end) through the app's handlers; returns when all are done or `stop` is set.

    `start` None is the beginning, `end` None the end of the log when this began. Where the group has committed already,
    its commit counts instead of `start`: the replay goes on. `chosen` leaves all records out but these. `effects` says
    what `ctx.effect` does. `compare` sets what jobs come to beside how they ended live, in the app's own group;
    `ignore` are paths of results that do not count. `on_ready` is called when all is checked and the first job is about
    to run. Raises InvalidReplay, NotRecorded, and what `run_worker` raises.
    """
    used = settings if settings is not None else app.settings
    replay = Replay(
        app,
        topic=topic,
        group=group,
        start=start,
        end=end,
        settings=used,
        limits=bounded(limits, concurrency=concurrency, drain_timeout=drain_timeout),
        on_progress=on_progress,
        on_ready=on_ready,
        chosen=chosen,
        effects=effects,
        comparison=Comparison(ignore) if compare else None,
    )
    with stop_on_signals(stop, hurry) as (stopping, hurrying):
        return await replay.run(stopping, hurrying)


class Replay:
    """One replay of one topic."""

    def __init__(
        self,
        app: App,
        *,
        topic: str,
        group: str,
        start: Position | None,
        end: Position | None,
        settings: Settings,
        limits: WorkerLimits,
        on_progress: Progress | None = None,
        on_ready: Callable[[], None] | None = None,
        chosen: Chosen | None = None,
        effects: Effects = Effects.DENY,
        comparison: Comparison | None = None,
    ) -> None:
        self._topic, self._role = checked_topic(app, topic, settings)
        check_shadow(group, app)
        self._bench = Workbench(app, group=group, rules=ShadowRules(), settings=settings, limits=limits)
        self._start = start
        self._end = end
        self._on_progress = on_progress
        self._on_ready = on_ready
        self._chosen = chosen
        self._effects = effects
        self._comparison = comparison
        self._recorded: dict[str, Recorded] = {}
        self._ranges: dict[TopicPartition, Range] = {}
        self._member: ReplayMember | None = None

    async def run(self, stopping: asyncio.Event, hurry: asyncio.Event) -> ReplaySummary:
        """Replay until done or `stopping`."""
        began_s = time.monotonic()
        is_complete = False
        try:
            if await unless(stopping, self._prepare(hurry)):
                if self._on_ready is not None:
                    self._on_ready()
                is_complete = await self._replay(stopping)
        finally:
            await self._bench.stop()
        return self._summary(is_complete=is_complete, seconds=time.monotonic() - began_s)

    def metrics(self) -> WorkerMetrics:
        """The replay now."""
        return measure(self._bench, self._member)

    async def _prepare(self, hurry: asyncio.Event) -> None:
        bench = self._bench
        bench.replayed_effect = self._replayed_effect
        engine = await bench.prepare(bench.settings.topics.shared_specs())
        self._ranges = await resolve(bench.settings, self._topic, self._start, self._end)
        if self._chosen is not None:
            self._ranges = narrowed(self._ranges, self._chosen)
        if self._comparison is not None or self._effects is Effects.RECORDED:
            self._recorded = await self._read_recorded()
        if self._comparison is not None:
            engine.ended_hooks.append(self._compare)
        assert self._role.queue is not None, "checked"
        queue = bench.app.queues[self._role.queue]
        self._member = ReplayMember(
            engine,
            bench.make_consumer,
            bench.offsets,
            group=bench.group,
            topics={self._topic: self._role},
            orders={queue.name: queue.order},
            limits=bench.limits,
            hurry=hurry,
            on_ready=lambda: None,
            tail=None,
            status_ends=lambda: (),
            unwritten_since_ms=bench.unwritten_since_ms,
            write=bench.write,
            ranges=self._ranges,
        )

    async def _read_recorded(self) -> dict[str, Recorded]:
        """How the jobs ended live. A job topic's own records are known by their places, others by their queue."""
        bench, ranges, is_origin = self._bench, self._ranges, self._role.kind is TopicKind.JOBS

        def wants(status: JobStatus) -> bool:
            if status.group != bench.app.group or status.queue != self._role.queue:
                return False
            if not is_origin:
                return True
            extent = ranges.get(TopicPartition(status.topic, status.partition))
            return extent is not None and extent.holds(status.offset)

        codec = await open_registry(bench.settings).status_codec()
        count = bench.partitions.count(bench.settings.topics.status)
        return await read_recorded(bench.settings, codec, partitions=count, wants=wants)

    def _replayed_effect(self, job: Job, key: str) -> Any:
        recorded = self._recorded.get(job.id)
        return replayed_effect(self._effects, key, None if recorded is None else recorded.details)

    def _compare(self, job: Job, outcome: Outcome) -> None:
        """An outcome of the replay."""
        if outcome.state not in TERMINAL or self._comparison is None:
            return
        failure, recorded = outcome.failure, self._recorded.get(job.id)
        error_type = None if failure is None else failure.type
        replayed = Ending.of(outcome.state, result=outcome.result, error_type=error_type)
        self._comparison.add(job.id, job.type, recorded=recorded.ending if recorded else None, replayed=replayed)

    async def _replay(self, stopping: asyncio.Event) -> bool:
        member = self._member
        assert member is not None, "prepared"
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(member, over))
            stopped = tasks.create_task(_forward(stopping, over))
            await self._bench.work(member, over)
            watching.cancel()
            stopped.cancel()
        self._report(member)
        return member.is_complete

    async def _watch(self, member: ReplayMember, over: asyncio.Event) -> None:
        """Report progress until everything is done, then end the replay."""
        while not await member.looks_done():
            self._report(member)
            await asyncio.sleep(PROGRESS_S)
        over.set()

    def _report(self, member: ReplayMember) -> None:
        if self._on_progress is not None:
            self._on_progress(member.done_count(), member.record_count())

    def _summary(self, *, is_complete: bool, seconds: float) -> ReplaySummary:
        member, engine = self._member, self._bench.engine
        counts = engine.counts if engine is not None else None
        return ReplaySummary(
            topic=self._topic,
            group=self._bench.group,
            records=member.record_count() if member is not None else 0,
            resumed=member.resumed if member is not None else 0,
            succeeded=counts.succeeded if counts else 0,
            dead=counts.dead if counts else 0,
            parked=counts.parked if counts else 0,
            scheduled=counts.scheduled if counts else 0,
            retried=counts.retried if counts else 0,
            is_complete=is_complete,
            seconds=seconds,
            comparison=None if self._comparison is None else self._comparison.summary(),
        )


class ReplayMember(GroupMember):
    """A consumer with a group for its commits but no membership: its partitions are given to it."""

    def __init__(self, *args: Any, ranges: dict[TopicPartition, Range], **options: Any) -> None:
        super().__init__(*args, **options)
        self._ranges = ranges
        self._known: dict[TopicPartition, OwnedPartition] = {}
        self.resumed = 0
        """Records that an earlier run of this replay finished."""
        self.is_complete = False
        self._seen: dict[TopicPartition, int] = {}
        """Up to where each partition was read."""
        self._holes = 0
        """Offsets seen that hold no record: markers of transactions, what compaction has removed."""

    def _subscribe(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign(list(self._ranges))

    async def _join(self, stopping: asyncio.Event) -> None:
        await super()._join(stopping)
        if not stopping.is_set():
            await self.on_partitions_assigned(self._ranges)

    async def _first_offsets(
        self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, int]:
        return {tp: self._ranges[tp].start for tp in partitions}

    def _take_up(self, tp: TopicPartition, base: int, finished: list[Run], *, is_committed: bool) -> OwnedPartition:
        is_new = tp not in self._known
        partition = super()._take_up(tp, base, finished, is_committed=is_committed)
        partition.end = self._ranges[tp].end
        partition.is_read = partition.window.base >= partition.end
        if is_new:
            self._known[tp] = partition
            self._seen[tp] = partition.window.base
            extent, runs = self._ranges[tp], partition.window.finished_runs()
            self.resumed += extent.count(partition.window.base)
            self.resumed += sum(extent.count(run.end) - extent.count(run.start) for run in runs)
        return partition

    def _deliver(self, partition: OwnedPartition, records: Sequence[Any]) -> None:
        tp = TopicPartition(partition.topic, partition.partition)
        extent = self._ranges[tp]
        self._see(tp, [record.offset for record in records], to=records[-1].offset + 1)
        wanted = records if extent.chosen is None else [record for record in records if extent.holds(record.offset)]
        super()._deliver(partition, wanted)

    def _see(self, tp: TopicPartition, offsets: Sequence[int], *, to: int) -> None:
        """These are the records up to `to`: whatever else lies there is none."""
        extent, seen = self._ranges[tp], self._seen[tp]
        end = min(to, extent.end)
        if extent.chosen is None and end > seen:
            self._holes += end - seen - sum(seen <= offset < end for offset in offsets)
            self._seen[tp] = end

    def record_count(self) -> int:
        """Records of the ranges, done or not; what was not read yet counts by its offsets."""
        return sum(extent.count() for extent in self._ranges.values()) - self._holes

    def done_count(self) -> int:
        """Records of the ranges that are finished."""
        done = -self._holes
        for tp, partition in self._known.items():
            end = partition.end if partition.end is not None else 0
            reached = end if partition.is_read else min(partition.window.high, end)
            in_hand = partition.window.unfinished_count + len(partition.backlog)
            done += self._ranges[tp].count(reached) - in_hand
        return max(0, done)

    async def looks_done(self) -> bool:
        """Whether every partition was read to its end and nothing is unfinished."""
        consumer = self._consumer
        if consumer is None or len(self._partitions) < len(self._ranges):
            return False
        for tp, partition in self._partitions.items():
            if not partition.is_read:
                try:
                    position = await consumer.position(tp)
                except KafkaError as error:
                    log.warning("position not known yet", topic=tp.topic, partition=tp.partition, error=repr(error))
                    return False
                partition.is_read = partition.end is not None and position >= partition.end
                if partition.is_read:
                    self._see(tp, (), to=position)
        self.is_complete = all(
            partition.is_read and not partition.backlog and partition.window.unfinished_count == 0
            for partition in self._partitions.values()
        )
        return self.is_complete


async def _forward(stopping: asyncio.Event, over: asyncio.Event) -> None:
    await stopping.wait()
    over.set()
