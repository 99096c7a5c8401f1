"""Flows: jobs of one tenant and class that the same buckets bound, in their order. No IO."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logqueue_consumers.dispatch.bucket import Bucket
    from logqueue_consumers.dispatch.priority_class import PriorityClass
    from logqueue_consumers.job import Job


class Flow:
    """Either among its tenant's active flows, or waiting for one bucket."""

    __slots__ = ("blocker", "buckets", "jobs", "tenant")

    def __init__(self, tenant: TenantShare, buckets: tuple[Bucket, ...]) -> None:
        self.tenant = tenant
        self.buckets = buckets
        self.jobs: deque[Job] = deque()
        self.blocker: Bucket | None = None
        """The bucket that it waits for."""

    def find_blocker(self, now_s: float) -> Bucket | None:
        """The first bucket that lets no job start now."""
        for bucket in self.buckets:
            if not bucket.has_room(now_s):
                return bucket
        return None


class TenantShare:
    """A tenant in one class: its flows, and how much of the class it has had (`virtual_time`, in jobs by weight)."""

    __slots__ = ("active", "flows", "name", "owner", "place", "running", "virtual_time", "weight")

    def __init__(self, owner: PriorityClass, name: str, weight: float) -> None:
        self.owner = owner
        self.name = name
        self.weight = weight
        self.virtual_time = 0.0
        self.running = 0
        self.flows: dict[tuple[Bucket, ...], Flow] = {}
        self.active: deque[Flow] = deque()
        self.place = 0
        """The number of its valid entry in the class's heaps; 0 when it has none."""
