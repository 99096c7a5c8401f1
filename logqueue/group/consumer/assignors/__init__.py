"""How partitions are shared out among the members of a consumer group (KIP-848). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from logqueue.group.consumer.assignors.range import assign_ranges
from logqueue.group.consumer.assignors.subscriber import Subscriber
from logqueue.group.consumer.assignors.uniform import assign_uniformly
from logqueue.group.consumer.member import Partitions

# Members by id and the number of partitions of each topic they subscribe to -> what each member is to hold.
Assignor: TypeAlias = Callable[[Mapping[str, Subscriber], Mapping[bytes, int]], dict[str, Partitions]]

ASSIGNORS: dict[str, Assignor] = {"uniform": assign_uniformly, "range": assign_ranges}


@dataclass(frozen=True, slots=True)
class Assignors:
    """The assignors that the broker offers, the default first (`group.consumer.assignors`)."""

    names: tuple[str, ...]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def elect(self, votes: Mapping[str, int]) -> str:
        """The name most members ask for; of equally wanted ones the first, which is the default too."""
        return max(self.names, key=lambda name: votes.get(name, 0))

    def assign(
        self, votes: Mapping[str, int], subscribers: Mapping[str, Subscriber], counts: Mapping[bytes, int]
    ) -> dict[str, Partitions]:
        """Share out the partitions with the elected assignor."""
        return ASSIGNORS[self.elect(votes)](subscribers, counts)
