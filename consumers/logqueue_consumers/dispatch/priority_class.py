"""A priority class of a queue: its tenants take turns by weight, quiet ones before noisy ones. No IO, no clock.

Start-time fair queueing: the tenant that has had least by its weight is next, and one that comes back after a silence
begins where the others are. A tenant that runs more than `NOISY_RATIO` of what the worker can run at once is noisy (the
threshold of Amazon SQS fair queues): it waits until no quiet tenant has a job. It is quiet again as soon as its jobs
have ended, so nobody starves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

from logqueue_consumers.dispatch.flow import Flow, TenantShare
from logqueue_consumers.dispatch.turns import Turns

if TYPE_CHECKING:
    from logqueue_consumers.job import Job

NOISY_RATIO = 0.10
MAX_REMEMBERED = 1_024
"""Tenants without jobs whose share is remembered."""
MAX_VOID = 1_024
"""Entries of noisy tenants, beside two for each tenant, before those that are void are looked for."""

_Entry = tuple[float, int, TenantShare]


class PriorityClass:
    """Jobs of one class. `weight` is its part beside the other classes; `credit` and `served_s` belong to the queue."""

    def __init__(self, queue: str, name: str, weight: float, *, concurrency: int) -> None:
        self.queue = queue
        self.name = name
        self.weight = weight
        self.credit = 0.0
        self.served_s = 0.0
        """When it was served last, or had its first job again."""
        self.active_count = 0
        """Jobs of flows that no bucket is known to block."""
        self.tenants: dict[str, TenantShare] = {}
        self._noisy_from = max(1.0, concurrency * NOISY_RATIO)
        self._quiet: Turns[_Entry] = Turns()
        self._noisy: Turns[_Entry] = Turns()
        self._virtual_time = 0.0
        self._places = count(1)
        self._idle: deque[TenantShare] = deque()
        """Tenants that had no job when they came here, the first one first."""
        self._forgotten: list[TenantShare] = []
        """To be used again: no more than there were tenants with jobs at once."""

    def enlist(self, tenant: str) -> TenantShare:
        """What a tenant has of this class, who is not among its tenants."""
        forgotten = self._forgotten
        share = self.tenants[tenant] = forgotten.pop() if forgotten else TenantShare(self)
        share.name = tenant
        return share

    def activate(self, flow: Flow) -> None:
        """The flow has jobs and nothing is known to block it."""
        share = flow.tenant
        flow.blocker = None
        share.active.append(flow)
        self.active_count += 1 if flow.behind is None else len(flow)
        if not share.place:
            share.virtual_time = max(share.virtual_time, self._virtual_time)
            self._enter(share)

    def take(self, now_s: float, blocked: list[Flow]) -> tuple[Job, Flow] | None:
        """The next job that may start; flows found blocked wait for their buckets, and are added to `blocked`."""
        while (entry := self._quiet.pop() or self._noisy.pop()) is not None:
            _, place, share = entry
            if share.place != place:
                continue  # void
            first = share.active[0]
            flow = self._startable(share, now_s, blocked) if first.buckets else first
            if flow is None:
                share.place = 0
                continue
            if share.virtual_time > self._virtual_time:
                self._virtual_time = share.virtual_time
            share.virtual_time += 1.0 / share.weight
            share.running += 1
            self.active_count -= 1
            active = share.active
            job, behind = flow.first, flow.behind
            assert job is not None, "a flow without jobs is gone"
            if behind:
                flow.first = behind.popleft()
                if len(active) > 1:
                    active.append(active.pop(0))
            else:
                del active[0]
                share.drop(flow)
            if active:
                self._enter(share)
            else:
                share.place = 0
            return job, flow
        return None

    def ended(self, share: TenantShare) -> None:
        """A job of this tenant is over."""
        share.running -= 1
        if share.place and share.running + 1 >= self._noisy_from * share.weight > share.running:
            self._enter(share)  # quiet again: its entry among the noisy ones is void
            if len(self._noisy) > MAX_VOID + 2 * len(self.tenants):
                # Nobody comes to them while a tenant is always quiet. Each has one entry at most that is not void.
                self._noisy.replace([entry for entry in self._noisy if entry[2].place == entry[1]])
        if share.first is None and not share.running and not share.bounded and not share.is_listed:
            self._list_idle(share)

    def clear(self) -> Iterator[Flow]:
        """Forget what waits here; the flows that had jobs. Running jobs stay counted."""
        self._quiet.clear()
        self._noisy.clear()
        self.active_count = 0
        for share in list(self.tenants.values()):
            yield from share.flows()
            share.clear()
            if share.is_idle and not share.is_listed:
                self._list_idle(share)

    def _enter(self, share: TenantShare) -> None:
        share.place = place = next(self._places)
        turns = self._noisy if share.running >= self._noisy_from * share.weight else self._quiet
        turns.push((share.virtual_time, place, share))

    def _startable(self, share: TenantShare, now_s: float, blocked: list[Flow]) -> Flow | None:
        while share.active:
            flow = share.active[0]
            blocker = flow.find_blocker(now_s) if flow.buckets else None
            if blocker is None:
                return flow
            del share.active[0]
            self.active_count -= len(flow)
            flow.blocker = blocker
            blocker.waiting[flow] = None
            blocked.append(flow)
        return None

    def _list_idle(self, share: TenantShare) -> None:
        """Of the tenants without jobs, those are forgotten that have been so the longest."""
        share.is_listed = True
        self._idle.append(share)
        if len(self._idle) > MAX_REMEMBERED:
            first = self._idle.popleft()
            first.is_listed = False
            if first.is_idle:
                del self.tenants[first.name]
                first.virtual_time = 0.0
                self._forgotten.append(first)
