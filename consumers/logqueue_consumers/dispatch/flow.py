"""Flows: jobs of one tenant and class that the same buckets bound, in their order. No IO.

There may be as many tenants as jobs in hand, so what each of them has is small: a tenant's jobs without buckets are a
flow that is the tenant itself, and a flow of one job has no queue. A job sets a dozen of these fields, so they are
slots: what is made in C (msgspec) is set at half the speed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from logqueue_consumers.dispatch.bucket import Bucket
    from logqueue_consumers.dispatch.priority_class import PriorityClass
    from logqueue_consumers.job import Job


class Flow:
    """Either among its tenant's active flows, or waiting for one bucket. It goes with its last job."""

    __slots__ = ("behind", "blocker", "buckets", "first", "tenant")

    def __init__(self, tenant: TenantShare, buckets: tuple[Bucket, ...]) -> None:
        self.tenant = tenant
        self.buckets = buckets
        self.first: Job | None = None
        """The next job; None only before the first one comes and after the last one has gone."""
        self.behind: deque[Job] | None = None
        self.blocker: Bucket | None = None
        """The bucket that it waits for."""

    def __len__(self) -> int:
        if self.first is None:
            return 0
        return 1 if self.behind is None else 1 + len(self.behind)

    def jobs(self) -> Iterator[Job]:
        """Its jobs in order."""
        if self.first is not None:
            yield self.first
        yield from self.behind or ()

    def find_blocker(self, now_s: float) -> Bucket | None:
        """The first bucket that lets no job start now."""
        for bucket in self.buckets:
            if not bucket.has_room(now_s):
                return bucket
        return None


NO_FLOWS: Final[Mapping[Any, Flow]] = MappingProxyType({})


class TenantShare(Flow):
    """A tenant in one class: its flows, and how much of the class it has had (`virtual_time`, in jobs by weight).

    It is itself the flow of its jobs that have no buckets.
    """

    __slots__ = (
        "active",
        "bounded",
        "is_listed",
        "name",
        "owner",
        "place",
        "running",
        "virtual_time",
        "weight",
    )

    def __init__(self, owner: PriorityClass) -> None:
        super().__init__(self, ())
        self.owner = owner
        self.name = ""
        self.weight = 1.0
        self.virtual_time = 0.0
        self.running = 0
        self.bounded: Mapping[tuple[Bucket, ...], Flow] = NO_FLOWS
        """The flows of jobs that have buckets, by these."""
        self.active: list[Flow] = []
        self.place = 0
        """The number of its valid entry in the class's heaps; 0 when it has none."""
        self.is_listed = False
        """Whether it is among the class's idle ones (or was when it was listed)."""

    @property
    def is_idle(self) -> bool:
        """Whether it has no jobs."""
        return self.first is None and not self.bounded and not self.running

    def flow(self, buckets: tuple[Bucket, ...]) -> Flow:
        """The flow of the jobs with these buckets, made if there is none."""
        if not buckets:
            return self
        found = self.bounded.get(buckets)
        if found is None:
            found = Flow(self, buckets)
            if self.bounded:
                self.bounded[buckets] = found  # type: ignore[index]
            else:
                self.bounded = {buckets: found}
        return found

    def flows(self) -> Iterator[Flow]:
        """All that have jobs."""
        if self.first is not None:
            yield self
        yield from self.bounded.values()

    def drop(self, flow: Flow) -> None:
        """The last job of a flow has gone."""
        flow.first = flow.behind = None
        if flow.buckets:
            del self.bounded[flow.buckets]  # type: ignore[attr-defined]

    def clear(self) -> None:
        """Forget what waits."""
        self.first, self.behind, self.bounded, self.place = None, None, NO_FLOWS, 0
        self.active.clear()
