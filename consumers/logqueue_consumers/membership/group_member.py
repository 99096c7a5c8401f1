"""A worker's membership in its consumer group: assignment, commits, rebalances. Shell over one consumer.

| event    | what happens                                                                                       |
|----------|----------------------------------------------------------------------------------------------------|
| assigned | offset and offset map are read back; a partition that comes back keeps its running jobs            |
| revoked  | no job starts, running ones get a grace, outcomes are flushed, offset and map are committed        |
| lost     | running jobs are cancelled, what they come to is not written                                       |
| stop     | as revoked, with the drain timeout; jobs still running then go back with their attempt unchanged   |
| log away | clients reconnect by themselves; a consumer that gives up is replaced, its partitions kept in hand |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from logqueue.jobs.connection import stop_client
from logqueue.jobs.errors import BrokerUnreachable
from logqueue.jobs.topics import TopicRole
from logqueue_consumers.commits.commits import Commits
from logqueue_consumers.commits.notes import CommitNotes, read_notes
from logqueue_consumers.commits.offset_map import Run, decode, merge
from logqueue_consumers.commits.offset_reader import OffsetReader
from logqueue_consumers.crashes.naming import JobNaming
from logqueue_consumers.crashes.watch import watch_for
from logqueue_consumers.engine import JobEngine
from logqueue_consumers.heartbeats.pulse import Identity
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.membership.fetching import Fetching
from logqueue_consumers.partitions.partition import OwnedPartition, Standing
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.retrying.notes import taken_over
from logqueue_consumers.running.runner import Interrupted
from logqueue_consumers.status.moved import FoundMove, still_open
from logqueue_consumers.status.tail import StatusTail, Tail
from logqueue_consumers.topics.fetch_state import fetch_state
from logqueue_consumers.writing.outgoing import Outgoing, Refusal

if TYPE_CHECKING:
    from logqueue_consumers.transactions.exactly_once import ExactlyOnce
    from logqueue_consumers.transactions.values import Membership

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S = 5.0
POSITION_S = 0.5
"""A position that is being looked up is not waited for longer."""


class GroupMember(ConsumerRebalanceListener):  # type: ignore[misc]
    """The consumer of a worker."""

    def __init__(
        self,
        engine: JobEngine,
        make_consumer: Callable[[], AIOKafkaConsumer],
        offsets: OffsetReader,
        *,
        group: str,
        topics: Mapping[str, TopicRole],
        orders: Mapping[str, str],
        limits: WorkerLimits,
        hurry: asyncio.Event,
        on_ready: Callable[[], None],
        tail: StatusTail | None,
        status_ends: Callable[[], Sequence[int | None]],
        unwritten_since_ms: Callable[[], int],
        write: Callable[[list[Outgoing]], Awaitable[list[Refusal]]],
        transactions: ExactlyOnce | None = None,
    ) -> None:
        self._engine = engine
        self._make_consumer = make_consumer
        self._group = group
        self._topics = topics
        self._orders = orders
        self._limits = limits
        self._hurry = hurry
        self._on_ready = on_ready
        self._tail = tail
        self._write = write
        self._consumer: AIOKafkaConsumer | None = None
        self._partitions: dict[TopicPartition, OwnedPartition] = {}
        self._away: dict[TopicPartition, OwnedPartition] = {}
        """Partitions between revocation and the next assignment."""
        self._loading: asyncio.Task[None] | None = None
        self._transactions = transactions
        self._generation: Membership | None = None
        """The one under which the partitions in hand were assigned."""
        self._commits = Commits(
            offsets,
            group=group,
            timeout_s=limits.flush_timeout_s,
            # A commit between the plan and the end of a transaction would take back what that commits.
            lock=asyncio.Lock() if transactions is None else engine.outbox.lock,
            status_ends=status_ends,
            unwritten_since_ms=unwritten_since_ms,
            owner_note=None if transactions is None else transactions.owner_note,
            pass_markers=self._pass_markers,
        )
        self._fetching = Fetching(
            engine,
            group=group,
            limits=limits,
            partitions=lambda: self._partitions,
            deliver=self._deliver,
        )
        self._naming = JobNaming(
            engine,
            group=group,
            limits=limits,
            hurry=hurry,
            partitions=lambda: self._partitions.values(),
            commit=lambda: self._commit(self._partitions),
        )
        if transactions is not None:
            transactions.bind(self, self._commits)

    # --- life ---

    async def run(self, stopping: asyncio.Event) -> None:
        """Be a member until `stopping` is set. Afterwards the assignment is still held: `stop` ends it."""
        backoff_s = 0.1
        while not stopping.is_set():
            try:
                await self._join(stopping)
                backoff_s = 0.1
                assert self._consumer is not None, "just joined"
                await self._fetching.run(self._consumer, stopping)
            except (KafkaError, OSError) as error:
                log.warning("consumer is replaced", group=self._group, error=repr(error))
                await self._give_up_consumer()
                try:
                    async with asyncio.timeout(backoff_s):
                        await stopping.wait()
                except TimeoutError:
                    backoff_s = min(self._limits.max_backoff_s, backoff_s * 2)

    async def commit_regularly(self) -> None:
        """Commit what has become durable, until cancelled."""
        while True:
            await asyncio.sleep(self._limits.commit_interval_s)
            try:
                await self._commit(self._partitions)
            except (KafkaError, TimeoutError) as error:
                log.warning("offsets not committed, trying again", group=self._group, error=repr(error))

    async def name_jobs(self) -> None:
        """Name the jobs of watched partitions before they start, and run suspects alone, until cancelled."""
        await self._naming.run()

    async def stop(self, *, drain_timeout_s: float) -> None:
        """Finish what runs, hand back the rest, commit, leave the group."""
        if self._loading is not None and self._away:
            # A rebalance is just over: jobs that kept running through it need their partitions to be finished.
            await asyncio.wait((self._loading,), timeout=self._limits.flush_timeout_s)
        partitions = dict(self._partitions)
        self.stop_intake()
        is_idle = await self._engine.wait_idle(partitions.values(), drain_timeout_s, self._hurry)
        if not is_idle:
            count = self._engine.interrupt(partitions.values(), Interrupted.STOPPING)
            log.warning("jobs interrupted: they will run again", group=self._group, jobs=count)
            patience_s = 0.0 if self._hurry.is_set() else self._limits.isolated_grace_s
            is_idle = await self._engine.wait_idle(partitions.values(), patience_s + 1.0, asyncio.Event())
        await self._write_and_commit(partitions, is_idle=is_idle)
        await self.close()
        for partition in [*partitions.values(), *self._away.values()]:
            self._engine.close(partition)

    async def close(self) -> None:
        """Leave the group (also where an error kept `stop` from being called): others need not wait for the session."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait((self._loading,), timeout=STOP_TIMEOUT_S)  # it closes its connections
        await self._close_consumer()

    def stop_intake(self) -> None:
        """No further job starts (the worker is about to stop)."""
        self._pass_markers(self._partitions.values())
        self._engine.stop(self._partitions.values())

    @property
    def partitions(self) -> Mapping[TopicPartition, OwnedPartition]:
        """What this member works on."""
        return self._partitions

    @property
    def member_id(self) -> str | None:
        """What the group calls this member; None while it has not joined."""
        coordinator = self._consumer._coordinator if self._consumer is not None else None
        return getattr(coordinator, "member_id", None) or None

    def identity(self) -> Identity | None:
        """Who sends the group's heartbeats; None while this member has not joined."""
        coordinator = self._consumer._coordinator if self._consumer is not None else None
        if coordinator is None or self.member_id is None:
            return None
        return Identity(self.member_id, coordinator.generation)

    async def position(self, tp: TopicPartition) -> int:
        """Where the consumer is in an assigned partition: behind markers too, which nobody takes."""
        partition = self._partitions[tp]
        try:
            async with asyncio.timeout(POSITION_S):
                found = await self._consumer.position(tp) if self._consumer is not None else 0
        except (KafkaError, TimeoutError):
            found = 0
        return max(int(found), partition.window.high)

    def lag(self) -> int:
        """Records of the assigned partitions that are not finished, up to the ends that fetches have shown."""
        self._pass_markers(self._partitions.values())
        total = 0
        for tp, partition in self._partitions.items():
            window, end = partition.window, fetch_state(self._consumer, tp).end
            total += window.unfinished_count + window.aside_count + max(0, (end or 0) - window.high)
        return total

    def _pass_markers(self, partitions: Iterable[OwnedPartition]) -> None:
        """Count as done what the consumer has read behind the last records, and handed to nobody."""
        for partition in partitions:
            position = fetch_state(self._consumer, TopicPartition(partition.topic, partition.partition)).position
            if position is not None and position > partition.window.high:
                self._engine.records.passed(partition, position)

    # --- joining ---

    async def _join(self, stopping: asyncio.Event) -> None:
        self._consumer = consumer = self._make_consumer()
        self._subscribe(consumer)
        starting = asyncio.ensure_future(consumer.start())
        stop = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait((starting, stop), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
        finally:
            stop.cancel()
            if not starting.done():
                starting.cancel()
                await asyncio.wait((starting,), timeout=STOP_TIMEOUT_S)
                # asyncio prints an error that nobody asked for with its traceback.
                if starting.done() and not starting.cancelled() and (error := starting.exception()) is not None:
                    log.info("the join was cut short", reason=str(error) or type(error).__name__)

    def _subscribe(self, consumer: AIOKafkaConsumer) -> None:
        consumer.subscribe(topics=list(self._topics), listener=self)

    def _deliver(self, partition: OwnedPartition, records: Sequence[Any]) -> None:
        self._engine.deliver(partition, records)

    async def _give_up_consumer(self) -> None:
        """The consumer is beyond repair: keep its partitions in hand until the next assignment."""
        if self._loading is not None:
            self._loading.cancel()
        self._set_away(self._partitions)
        await self._close_consumer()

    async def _close_consumer(self) -> None:
        """Leave the group. A consumer in the middle of a join waits for the others: then its connections are cut."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_client(consumer, timeout_s=STOP_TIMEOUT_S)
            await consumer._client.close()

    # --- rebalances: aiokafka calls these while no fetch is answered ---

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """A rebalance begins (every partition is revoked: aiokafka's assignors are eager)."""
        if self._loading is not None:
            self._loading.cancel()
        partitions = dict(self._partitions)
        if not partitions:
            return
        log.info("partitions revoked", group=self._group, partitions=len(partitions))
        self.stop_intake()
        is_idle = await self._engine.wait_idle(partitions.values(), self._limits.revoke_grace_s, self._hurry)
        await self._write_and_commit(partitions, is_idle=is_idle)
        self._set_away(partitions)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """A rebalance is over. Offsets are read apart: this must return for heartbeats to go on."""
        consumer = self._consumer
        if consumer is None:
            return  # a consumer that is being closed: it was stopped in the middle of a join
        now = set(assigned)
        self._set_away(self._partitions)
        for tp in [tp for tp in self._away if tp not in now]:
            self._engine.close(self._away.pop(tp))
        log.info("partitions assigned", group=self._group, partitions=len(now), kept=len(self._away))
        self._generation = self._membership_of(consumer)
        self._loading = asyncio.get_running_loop().create_task(self._load(consumer, now))

    def _set_away(self, partitions: Mapping[TopicPartition, OwnedPartition]) -> None:
        for tp, partition in partitions.items():
            partition.standing = Standing.REVOKED
            self._engine.stop([partition])
            self._away[tp] = partition
        self._partitions = {}

    async def _load(self, consumer: AIOKafkaConsumer, assigned: set[TopicPartition]) -> None:
        """Find out what is done in new partitions, and begin to fetch them there; tries until the log answers."""
        backoff_s = 0.1
        while True:
            try:
                await self._take_up_all(consumer, assigned)
            except (KafkaError, BrokerUnreachable, TimeoutError) as error:
                log.warning("partitions not taken up yet", group=self._group, error=repr(error))
            except Exception:
                # Nobody waits for this task: without it the worker would hold its partitions and run nothing.
                log.exception("partitions not taken up, trying again", group=self._group)
            else:
                self._engine.changed.set()
                self._on_ready()
                return
            await asyncio.sleep(backoff_s)
            backoff_s = min(self._limits.max_backoff_s, backoff_s * 2)

    async def _take_up_all(self, consumer: AIOKafkaConsumer, assigned: set[TopicPartition]) -> None:
        committed = await self._commits.read(assigned)
        begins = await self._first_offsets(consumer, [tp for tp in assigned if committed[tp][0] < 0])
        notes = {tp: read_notes(committed[tp][1], base=committed[tp][0]) for tp in assigned}
        written = Tail({}, {}, (), ())
        has_bookmark = any(note.bookmark is not None for note in notes.values())
        if self._tail is not None and (has_bookmark or self._transactions is None):
            written = await self._tail.read([*notes.values()])
            self._commits.status_floor = [*written.ends]
        left = [tp for tp, note in notes.items() if note.has_crashed]
        if left:
            log.warning("partitions taken over from a worker that did not give them up", partitions=len(left))
        ends = dict(await consumer.end_offsets(left)) if left else {}
        loaded = {}
        for tp in assigned:
            offset = committed[tp][0]
            base = begins[tp] if offset < 0 else offset
            runs = [
                *decode(notes[tp].map_text, base=base),
                *(Run(at, at + 1) for at in written.finished.get(tp, ()) if at >= base),
            ]
            loaded[tp] = partition = self._take_up(tp, base, runs, is_committed=offset >= 0)
            partition.retried = taken_over(notes[tp].retried, written.retried.get(tp, ()), partition.window)
            self._watch(partition, notes[tp], end=ends.get(tp, base))
        await self._finish_moves(still_open(written.moved, loaded), loaded)
        # From now on whoever takes over must read the statuses that this worker writes.
        await self._commit(loaded, is_first=True)
        # No await between the seeks and `_partitions`: a fetch that outlasts a rebalance would drop records in between.
        for tp, partition in loaded.items():
            consumer.seek(tp, partition.window.base)
            self._away.pop(tp, None)
        self._partitions = loaded
        for partition in loaded.values():
            self._engine.open(partition)
            self._engine.release(partition)

    async def _finish_moves(
        self, moves: Sequence[FoundMove], partitions: Mapping[TopicPartition, OwnedPartition]
    ) -> None:
        """Write the statuses of records that moved on without one: they are finished."""
        refused = {refusal.place for refusal in await self._write([move.status for move in moves])} if moves else ()
        for place, move in enumerate(moves):
            if place not in refused:
                partitions[move.at].window.remember(move.offset)
                partitions[move.at].retried.pop(move.offset, None)

    async def _first_offsets(
        self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Where to begin in partitions without a commit: where their logs begin."""
        return dict(await consumer.beginning_offsets(partitions)) if partitions else {}

    def _take_up(self, tp: TopicPartition, base: int, finished: list[Run], *, is_committed: bool) -> OwnedPartition:
        finished = merge(finished)
        if finished and finished[0].start == base:
            base = finished.pop(0).end
        partition = self._away.get(tp)
        if partition is None:
            role = self._topics[tp.topic]
            assert role.queue is not None, "workers read topics of queues"
            partition = OwnedPartition(
                tp.topic,
                tp.partition,
                kind=role.kind,
                queue=role.queue,
                order=self._orders[role.queue],
                priority=role.priority,
                window=PartitionWindow(base, finished),
            )
        else:
            ended = self._engine.outbox.ended_jobs(partition)
            gone = partition.reopen(base, finished, running=self._engine.running(partition), ended=ended)
            self._engine.forget(partition, gone)
        partition.committed = (base, "") if is_committed else None
        return partition

    def _watch(self, partition: OwnedPartition, notes: CommitNotes, *, end: int) -> None:
        window = partition.window
        runs = window.finished_runs()
        in_hand = (runs[-1].end if runs else window.base) + self._limits.max_unfinished_per_partition
        partition.watch = watch_for(notes, base=window.base, end=min(end, in_hand))
        if partition.watch is not None:
            for job in self._engine.running(partition):
                partition.watch.name(job)

    # --- commits ---

    async def _write_and_commit(self, partitions: Mapping[TopicPartition, OwnedPartition], *, is_idle: bool) -> None:
        """Bring what is known into the log before partitions go; `is_idle` when no job of them runs any more."""
        is_written = await self._engine.outbox.drain(self._limits.flush_timeout_s)
        if not is_written:
            log.error("outcomes not written in time: their jobs will run again", group=self._group)
        try:
            await self._commit(partitions, is_last=is_written and is_idle, is_handover=True)
        except (KafkaError, TimeoutError) as error:
            log.error("last commit failed", group=self._group, error=repr(error))

    async def _commit(self, partitions: Mapping[TopicPartition, OwnedPartition], **kind: bool) -> None:
        """Commit, where there is a consumer to do it with; see Commits.write."""
        if self._consumer is not None:
            await self._commits.write(self._consumer, partitions, **kind)

    # --- membership, as transactions ask for it (see `transactions.exactly_once.Member`) ---

    def membership(self) -> Membership | None:
        """The generation under which the partitions were assigned; None while none are."""
        return self._generation if self._partitions else None

    def membership_over(self, membership: Membership) -> None:
        """The group has gone on without this member: what its jobs come to waits until it has joined again."""
        if membership is self._generation:
            log.warning("no member any more: partitions are let go of", group=self._group)
            self._set_away(self._partitions)

    def held_partitions(self) -> Collection[OwnedPartition]:
        """The partitions whose positions are known."""
        return self._partitions.values()

    def _membership_of(self, consumer: AIOKafkaConsumer) -> Membership | None:
        """Who this member is in the group, as aiokafka's coordinator has it; None where nobody asks."""
        if self._transactions is None:
            return None
        from logqueue_consumers.transactions.values import Membership

        coordinator = consumer._coordinator
        return Membership(self._group, coordinator.member_id, coordinator.generation, consumer._group_instance_id)
