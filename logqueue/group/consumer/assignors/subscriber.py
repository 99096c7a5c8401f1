"""A member as an assignor sees it. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from logqueue.group.consumer.member import Partitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """A member: the topics it reads, and what it was to hold so far."""

    topics: frozenset[bytes]
    instance_id: str | None = None
    present: Partitions = field(default_factory=dict)
