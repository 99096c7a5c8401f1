"""Intake: which partitions give more records, and how fetched ones become jobs in hand. Knows no Kafka client.

A record goes from the backlog of its partition (fetched) into its window (taken, read). Both the worker and each
partition bound what is in hand; half of the worker's bound is set apart in equal parts, so that full partitions leave
room for the others. Where tenants share a window (`dispatch/window_share.py`), records may be put aside and read again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from logqueue.jobs.partitioning import DEFAULT_TENANT
from logqueue.jobs.topics import TopicKind
from logqueue_consumers.dispatch.window_share import BACK_WAIT_S, WindowShare

if TYPE_CHECKING:
    from logqueue.clock import Clock
    from logqueue_consumers.intake.job_reader import JobReader
    from logqueue_consumers.job import Job
    from logqueue_consumers.limits import WorkerLimits
    from logqueue_consumers.partitions.partition import OwnedPartition

log = structlog.get_logger(__name__)

BACK_RESERVE = 32
"""Records that may be taken again in a partition whose offset map is full."""


class Intake:
    """The records of all partitions on their way into hand; `route` is given the jobs in the order of their records."""

    def __init__(
        self,
        reader: JobReader,
        *,
        limits: WorkerLimits,
        clock: Clock,
        route: Callable[[Job], None],
        is_shadow: bool,
    ) -> None:
        self.partitions: set[OwnedPartition] = set()
        self.paused_queues: frozenset[str] = frozenset()
        """Nothing is taken of these."""
        self.is_blocked: Callable[[Job], bool] | None = None
        """Whether a limit or a pause keeps a job from starting at the moment; set where there may be any."""
        self._left = limits.max_unfinished
        self._read = reader.read
        self._limits = limits
        self._clock = clock
        self._route = route
        self._is_shadow = is_shadow

    @property
    def unfinished_count(self) -> int:
        """Records in hand, without those that wait for other code."""
        return sum([partition.window.in_hand_count for partition in self.partitions])

    # --- fetching ---

    def has_room(self) -> bool:
        """Whether more records should be fetched at all; to be asked before `wants`."""
        self._left = self._limits.max_unfinished - self.unfinished_count
        return sum([partition.bytes_in_hand for partition in self.partitions]) < self._limits.max_bytes_in_hand

    def wants(self, partition: OwnedPartition) -> bool:
        """Whether more records of this partition should be fetched."""
        if partition.backlog or partition.is_stopping or partition.is_read or partition.queue in self.paused_queues:
            return False
        share, left = partition.share, self._left
        if share is None and left > 0 and partition.window.is_clear:
            return True  # of most partitions, wherever jobs come one by one
        room = self._room(partition, left)
        if share is None:
            return room > 0
        now_s = self._clock.monotonic()
        if room > 0 and not share.is_back and share.may_look_ahead(now_s):
            return True
        return self._back_room(partition, room) > 0 and (share.is_back or share.back_from(now_s) is not None)

    def end_waits(self) -> float | None:
        """Where a tenant without room was waited for long enough, new records come first: to be asked before `wants`.

        In how many seconds it is to be asked again; None where nobody is waited for.
        """
        now_s = self._clock.monotonic()
        is_waiting = False
        for partition in self.partitions:
            share = partition.share
            if share is None or not share.is_back or not partition.backlog or partition.queue in self.paused_queues:
                continue
            if share.stays_back(now_s):
                is_waiting = True
            else:
                self._back_to_front(partition, share, now_s)
        return BACK_WAIT_S if is_waiting else None

    def turn(self, partition: OwnedPartition) -> int | None:
        """Where to read on, if that is not where the last fetch ended; for a partition that is wanted."""
        at, partition.seek_to = partition.seek_to, None
        share = partition.share
        if share is None:
            return at
        has_room = self._room(partition, self._left) > 0
        turned = share.turn(partition.window.high, self._clock.monotonic(), has_front_room=has_room)
        return at if turned is None else turned

    def _room(self, partition: OwnedPartition, left: int) -> int:
        limits, window = self._limits, partition.window
        room = window.room(limits.max_unfinished_per_partition)
        if room <= left:
            return room
        own = limits.max_unfinished // (2 * len(self.partitions)) - window.in_hand_count
        return min(room, max(left, own))

    @staticmethod
    def _back_room(partition: OwnedPartition, room: int) -> int:
        """What is aside at the head must get into hand although the map is full: that is what frees it."""
        return max(room, BACK_RESERVE - partition.window.unfinished_count)

    def commands_changed(self) -> None:
        """Other limits and pauses hold: what they kept aside may be read again at once."""
        for partition in self.partitions:
            if partition.share is not None:
                partition.share.commands_changed()

    def lacks_room(self) -> bool:
        """Whether records wait until others are finished."""
        return self.unfinished_count >= self._limits.max_unfinished or any(
            partition.share.lacks_room if partition.share is not None else partition.backlog
            for partition in self.partitions
            if partition.queue not in self.paused_queues
        )

    # --- taking ---

    def deliver(self, partition: OwnedPartition, records: Sequence[Any]) -> bool:
        """Records of a partition, in the order of their offsets; true if its log began anew."""
        share = partition.share
        expected = partition.window.high if share is None or not share.is_back else share.reading_from
        is_new = bool(records) and records[0].offset < expected
        if is_new:
            # Fetching moves forward from where it was told to: the log itself begins anew (its topic was made again).
            log.warning("log starts over", topic=partition.topic, partition=partition.partition, at=records[0].offset)
            partition.restart(records[0].offset)
        partition.backlog.extend(records)
        self.pump(partition)
        return is_new

    def passed(self, partition: OwnedPartition, position: int) -> None:
        """Fetching goes on at `position`, and everything fetched was delivered: before it lie no further records.

        What lies there instead are markers of transactions (KIP-98), aborted records, and what compaction has removed.
        """
        share = partition.share
        if partition.backlog or partition.is_stopping or partition.seek_to is not None:
            return  # some of what was fetched is still to be taken, or was dropped to be fetched again
        if share is None or not share.is_back:
            partition.window.pass_to(position if partition.end is None else min(position, partition.end))

    def fetch_again(self, partition: OwnedPartition) -> int:
        """What was fetched last for a partition that was wanted is lost: where to fetch on."""
        if partition.share is not None and partition.share.is_back:
            self._back_to_front(partition, partition.share, self._clock.monotonic())
        return partition.window.high

    def pump_all(self) -> None:
        """Room has come: any backlog may use it, not only that of the partition whose jobs finished."""
        for partition in self.partitions:
            if partition.backlog:
                self.pump(partition)

    def pump(self, partition: OwnedPartition) -> None:
        """Take what the window allows from the backlog."""
        if partition.share is not None:
            self._pump_shared(partition, partition.share)
            return
        backlog = partition.backlog
        if not backlog or partition.queue in self.paused_queues:
            return
        room = self._room(partition, self._limits.max_unfinished - self.unfinished_count)
        unshared = self._unshared(partition)
        is_to_share = min(room, len(backlog)) > unshared and self._has_tenants(partition)
        if is_to_share:
            room = unshared
        window, carried, end = partition.window, partition.carried, partition.end
        read, max_bytes = self._read, self._limits.max_bytes_in_hand
        while room > 0 and backlog and not partition.is_stopping and partition.bytes_in_hand < max_bytes:
            record = backlog.popleft()
            if end is not None and record.offset >= end:
                backlog.clear()
                return
            if not window.take(record.offset) or record.offset in carried:
                continue
            room -= 1
            job = read(record, partition)
            partition.bytes_in_hand += job.size
            self._route(job)
        if is_to_share and backlog and not partition.is_stopping:
            partition.share = share = WindowShare(
                limit=self._limits.max_unfinished_per_partition,
                since=window.high,
                keeps_order=partition.order == "tenant",
                now_s=self._clock.monotonic(),
            )
            self._pump_shared(partition, share)

    def _unshared(self, partition: OwnedPartition) -> int:
        """How many more records may be taken before tenants share the window: half of it, none where jobs may block."""
        if self._is_shadow or partition.order == "partition" or partition.kind is TopicKind.PARKED:
            return self._limits.max_unfinished_per_partition
        if self.is_blocked is not None:
            return 0
        return self._limits.max_unfinished_per_partition // 2 - partition.window.unfinished_count

    def _has_tenants(self, partition: OwnedPartition) -> bool:
        """Whether there is anybody to share with: not where nothing but jobs of no tenant has been seen."""
        if self.is_blocked is None and not partition.has_tenants:
            partition.has_tenants = any(record.key not in _NO_TENANT for record in partition.backlog)
        return self.is_blocked is not None or partition.has_tenants

    def _pump_shared(self, partition: OwnedPartition, share: WindowShare) -> None:
        """As `pump`, with shares: what is over a tenant's is put aside."""
        backlog, window = partition.backlog, partition.window
        if partition.queue in self.paused_queues:
            return
        now_s = self._clock.monotonic()
        look = 0
        while backlog and not partition.is_stopping and partition.bytes_in_hand < self._limits.max_bytes_in_hand:
            if look == 0:
                if not self._goes_on(partition, share, now_s):
                    return
                look = share.step
            look -= 1
            record = backlog.popleft()
            if not share.is_back:
                self._take_new(partition, share, record)
            elif record.offset >= window.high:
                self._back_to_front(partition, share, now_s)
            else:
                if window.is_aside(record.offset):
                    self._take_again(partition, share, record)
                share.read_to = record.offset + 1

    def _goes_on(self, partition: OwnedPartition, share: WindowShare, now_s: float) -> bool:
        """Whether the backlog of a shared window is taken further; it is dropped where something else is to be read."""
        room = self._room(partition, self._limits.max_unfinished - self.unfinished_count)
        if share.is_back:
            if share.goes_on_back(now_s):
                return self._back_room(partition, room) > 0
            if not share.may_wait_back(now_s):
                self._back_to_front(partition, share, now_s)
            return False
        back = share.back_from(now_s)
        if room > 0 and share.may_look_ahead(now_s):
            return True
        if room > 0 or back is not None:
            partition.backlog.clear()
            partition.seek_to = partition.window.high
        return False

    @staticmethod
    def _back_to_front(partition: OwnedPartition, share: WindowShare, now_s: float) -> None:
        partition.backlog.clear()
        partition.seek_to = share.reached_front(partition.window.high, now_s)

    def _take_new(self, partition: OwnedPartition, share: WindowShare, record: Any) -> None:
        window = partition.window
        if not window.take(record.offset) or record.offset in partition.carried:
            return
        job = self._read(record, partition)
        is_blocked = self.is_blocked is not None and self._blocks(job)
        if share.admits(job.tenant, is_blocked=is_blocked):
            share.came(job.tenant, record.offset, is_blocked=is_blocked)
            partition.bytes_in_hand += job.size
            self._route(job)
        else:
            window.put_aside(record.offset)
            share.put_aside(job.tenant, record.offset)

    def _take_again(self, partition: OwnedPartition, share: WindowShare, record: Any) -> None:
        job = self._read(record, partition)
        is_blocked = self._blocks(job)
        if share.admits(job.tenant, is_blocked=is_blocked):
            partition.window.take_again(record.offset)
            share.came_again(job.tenant, record.offset, is_blocked=is_blocked)
            partition.bytes_in_hand += job.size
            self._route(job)

    def _blocks(self, job: Job) -> bool:
        return self.is_blocked is not None and job.problem is None and self.is_blocked(job)


_NO_TENANT = (None, DEFAULT_TENANT.encode())
