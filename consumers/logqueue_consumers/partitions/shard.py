"""A shard: what the owner of one partition number of a queue knows of its tenants. No IO.

The job topic of a queue, the topics of its priority classes and its retry topic have as many partitions, and a tenant
is in the same-numbered partition of each. The assignor gives these to one member, so whoever owns a shard decides
alone about its tenants: limits, uniqueness and fair shares need no agreement with anybody.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from logqueue_consumers.partitions.partition import OwnedPartition


class ShardId(NamedTuple):
    """A queue and a partition number."""

    queue: str
    number: int


class Shard:
    """Lives as long as this worker owns a partition of it."""

    __slots__ = ("id", "notes", "opened_s", "partitions")

    def __init__(self, id: ShardId) -> None:  # noqa: A002 - the word
        self.id = id
        self.opened_s = 0.0
        """Since when this worker owns it (monotonic clock)."""
        self.partitions: set[OwnedPartition] = set()
        """Job, priority, retry and parked partitions of this number that the worker owns."""
        self.notes: dict[Hashable, Any] = {}
        """What other parts keep for the shard (an index of unique jobs, ...): gone when the shard is."""


class Shards:
    """The shards of a worker."""

    __slots__ = ("_shards", "version")

    def __init__(self) -> None:
        self._shards: dict[ShardId, Shard] = {}
        self.version = 0
        """Grows when a shard comes or goes."""

    def join(self, partition: OwnedPartition, now_s: float) -> None:
        """The worker owns this partition from now on."""
        shard = self._shards.get(partition.shard.id)
        if shard is None:
            shard = self._shards[partition.shard.id] = partition.shard
            shard.opened_s = now_s
            self.version += 1
        partition.shard = shard
        shard.partitions.add(partition)

    def leave(self, partition: OwnedPartition) -> None:
        """The partition is gone, and with the last one its shard."""
        shard = partition.shard
        shard.partitions.discard(partition)
        if not shard.partitions and self._shards.get(shard.id) is shard:
            del self._shards[shard.id]
            self.version += 1

    def count(self, queue: str) -> int:
        """Of how many numbers of a queue this worker owns partitions."""
        return sum(1 for shard in self._shards if shard.queue == queue)

    def __len__(self) -> int:
        return len(self._shards)
