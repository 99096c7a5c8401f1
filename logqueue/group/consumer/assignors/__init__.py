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

    @property
    def default(self) -> str:
        """The name of the assignor of groups that ask for none."""
        return self.names[0]

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def find(self, name: str | None) -> Assignor:
        """The assignor; the default for no name, and for one that the broker no longer offers."""
        return ASSIGNORS[name if name in self.names else self.default]
