"""The ready queue: jobs that could run, and which of them is next. No IO, no clock.

Classes share the picks by weight (smooth weighted round robin); a class that was not served for `AGING_S` while it had
a job that may start is served next, whatever its weight. So with classes of weights w1..wn, all with jobs that may
start, the class i has at least one of any `2 * ceil(sum(w) / wi) + n` picks in a row, and none waits longer than
AGING_S and one pick for each other class that waits as long.

Within a class tenants take turns (`priority_class.py`); jobs of one tenant with the same buckets keep their order.
A flow that a bucket blocks costs nothing until the bucket has room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from logqueue_consumers.dispatch.flow import Flow
from logqueue_consumers.dispatch.priority_class import PriorityClass

if TYPE_CHECKING:
    from logqueue_consumers.dispatch.bucket import Bucket
    from logqueue_consumers.job import Job

AGING_S = 60.0
"""A class with a job that may start is served this long after it was served last, at the next pick."""


@dataclass(slots=True, eq=False)
class Placed:
    """Where a job belongs beside its tenant: queue, class, and what bounds it. Of one ready queue."""

    queue: str
    priority: str
    weight: float
    """Of the class."""
    tenant_weight: float
    buckets: tuple[Bucket, ...]
    owner: PriorityClass | None = None
    """The class itself, once it has been looked for: many jobs have the same place."""

    def bounded(self, buckets: Iterable[Bucket]) -> Placed:
        """The same place with these buckets more."""
        own = (*self.buckets, *buckets)
        return Placed(self.queue, self.priority, self.weight, self.tenant_weight, own, self.owner)


class ReadyQueue:
    """Jobs by class, tenant and buckets."""

    def __init__(self, *, concurrency: int) -> None:
        self._concurrency = concurrency
        self._classes: dict[tuple[str, str], PriorityClass] = {}
        self._only: PriorityClass | None = None
        """The only class there is: nobody has to be asked whose turn it is."""
        self._running: dict[Job, Flow] = {}
        self._count = 0
        self._timed: dict[Bucket, None] = {}
        """Buckets with waiting flows that time may fill."""
        self.fill_s = inf
        """When the earliest of them has a token, and `fill` is to be called. A field: it is read for every job."""

    def __len__(self) -> int:
        """Jobs that wait, blocked ones with them."""
        return self._count

    @property
    def active_count(self) -> int:
        """Jobs that nothing is known to block."""
        return sum(found.active_count for found in self._classes.values())

    def has_active(self) -> bool:
        """Whether there is a job that nothing is known to block."""
        if self._only is not None:
            return self._only.active_count > 0
        for found in self._classes.values():  # noqa: SIM110 - asked for every job, and a generator costs more than this
            if found.active_count:
                return True
        return False

    @property
    def running_count(self) -> int:
        """Jobs taken and not ended."""
        return len(self._running)

    def add(self, job: Job, placed: Placed, now_s: float) -> None:
        """A job could run from now on."""
        found = placed.owner or self._class(placed, now_s)
        share = found.tenants.get(job.tenant)
        if share is None:
            share = found.enlist(job.tenant)
        share.weight = placed.tenant_weight
        flow = share.flow(placed.buckets) if placed.buckets else share
        self._count += 1
        if flow.first is None:
            flow.first = job
            if not found.active_count:
                found.served_s, found.credit = now_s, 0.0
            found.activate(flow)
            return
        if flow.behind is None:
            flow.behind = deque((job,))
        else:
            flow.behind.append(job)
        if flow.blocker is None:
            found.active_count += 1

    def take(self, now_s: float) -> Job | None:
        """The next job to start, or None when none may; it holds its buckets until `ended`."""
        while (found := self._only or self._next_class(now_s)) is not None and found.active_count:
            blocked: list[Flow] = []
            taken = found.take(now_s, blocked)
            for flow in blocked:
                # What a bucket had let go and another one stopped must not keep those behind it waiting.
                self._wake(flow.buckets, now_s)
            if taken is None:
                continue  # all of it was blocked
            job, flow = taken
            self._count -= 1
            found.served_s = now_s
            if self._only is None:  # alone it gets what it pays
                self._charge(found)
            self._running[job] = flow
            if flow.buckets:
                for bucket in flow.buckets:
                    bucket.start()
                self._wake(flow.buckets, now_s)
            return job
        return None

    def adopt(self, job: Job, placed: Placed, now_s: float) -> None:
        """A job runs already: it counts as if it had been taken here."""
        found = placed.owner or self._class(placed, now_s)
        share = found.tenants.get(job.tenant)
        if share is None:
            share = found.enlist(job.tenant)
        share.weight = placed.tenant_weight
        share.running += 1
        for bucket in placed.buckets:
            bucket.adopt()
        self._running[job] = Flow(share, placed.buckets)

    def ended(self, job: Job) -> tuple[Bucket, ...]:
        """A job that was taken is over (for this attempt); the buckets that it held, which are to be `freed`."""
        flow = self._running.pop(job, None)
        if flow is None:
            return ()
        share = flow.tenant
        share.owner.ended(share)
        return flow.buckets

    def freed(self, buckets: tuple[Bucket, ...], now_s: float) -> None:
        """A job has let these go: others may."""
        for bucket in buckets:
            bucket.end()
        self._wake(buckets, now_s)

    def fill(self, now_s: float) -> None:
        """Time has passed: flows whose buckets have tokens again may go on."""
        timed, self._timed, self.fill_s = self._timed, {}, inf
        self._wake(timed, now_s)

    def blocked_count(self) -> int:
        """Jobs that a bucket is known to hold back."""
        return self._count - self.active_count

    def drain(self) -> list[Job]:
        """Remove and return every waiting job; each tenant's keep their order."""
        jobs: list[Job] = []
        for found in self._classes.values():
            for flow in found.clear():
                for bucket in flow.buckets:
                    bucket.waiting.pop(flow, None)
                jobs += flow.jobs()
        self._count = 0
        self._timed.clear()
        self.fill_s = inf
        return jobs

    def remove(self, is_gone: Callable[[Job], bool], place: Callable[[Job], Placed], now_s: float) -> list[Job]:
        """Remove and return the waiting jobs for which `is_gone` holds."""
        gone: list[Job] = []
        for job in self.drain():
            if is_gone(job):
                gone.append(job)
            else:
                self.add(job, place(job), now_s)
        return gone

    def jobs(self) -> Iterable[Job]:
        """Every waiting job."""
        for found in self._classes.values():
            for share in found.tenants.values():
                for flow in share.flows():
                    yield from flow.jobs()

    def running(self) -> list[Job]:
        """Every job that was taken and has not ended."""
        return list(self._running)

    def release_all(self) -> list[Job]:
        """Forget what runs, so that it can be adopted under other buckets; returns it."""
        running = list(self._running)
        for job in running:
            for bucket in self.ended(job):
                bucket.end()
        return running

    def _class(self, placed: Placed, now_s: float) -> PriorityClass:
        key = (placed.queue, placed.priority)
        found = self._classes.get(key)
        if found is None:
            found = PriorityClass(*key, placed.weight, concurrency=self._concurrency)
            found.served_s = now_s
            self._classes[key] = found
            self._only = found if len(self._classes) == 1 else None
        found.weight = placed.weight
        placed.owner = found
        return found

    def _next_class(self, now_s: float) -> PriorityClass | None:
        best: PriorityClass | None = None
        for found in self._classes.values():
            if not found.active_count:
                continue
            if now_s - found.served_s >= AGING_S:
                if best is None or now_s - best.served_s < AGING_S or found.served_s < best.served_s:
                    best = found
            elif best is None or (
                now_s - best.served_s < AGING_S and found.credit + found.weight > best.credit + best.weight
            ):
                best = found
        return best

    def _charge(self, served: PriorityClass) -> None:
        total = 0.0
        for found in self._classes.values():
            if found.active_count or found is served:
                found.credit += found.weight
                total += found.weight
        served.credit -= total

    def _wake(self, buckets: Iterable[Bucket], now_s: float) -> None:
        """Let the flow that waits longest for each of these go on if there is room; the others may wait for time."""
        for bucket in buckets:
            if not bucket.waiting:
                continue
            if bucket.has_room(now_s):
                flow, _ = bucket.waiting.popitem(last=False)
                flow.tenant.owner.activate(flow)
            if bucket.waiting and (at_s := bucket.filled_at(now_s)) is not None:
                self._timed[bucket] = None
                if at_s < self.fill_s:
                    self.fill_s = at_s
