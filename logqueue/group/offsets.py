"""The committed offsets of all groups, as replayed from the log. Knows nothing of members."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from logqueue.group.records import CommittedOffset
from logqueue.ids import TopicPartition

_NONE: dict[TopicPartition, CommittedOffset] = {}


class Offsets:
    """Group -> partition -> committed offset. Changes only through `apply`, which replay and durable appends call."""

    __slots__ = ("_by_group",)

    def __init__(self) -> None:
        self._by_group: dict[str, dict[TopicPartition, CommittedOffset]] = {}

    def apply(self, group_id: str, position: TopicPartition, committed: CommittedOffset | None) -> None:
        """Store or remove one offset."""
        if committed is not None:
            self._by_group.setdefault(group_id, {})[position] = committed
            return
        of_group = self._by_group.get(group_id)
        if of_group is not None:
            of_group.pop(position, None)
            if not of_group:
                del self._by_group[group_id]

    def get(self, group_id: str, position: TopicPartition) -> CommittedOffset | None:
        """The group's offset of one partition."""
        return self._by_group.get(group_id, _NONE).get(position)

    def of_group(self, group_id: str) -> Mapping[TopicPartition, CommittedOffset]:
        """All offsets of a group."""
        return self._by_group.get(group_id, _NONE)

    def groups(self) -> Iterable[str]:
        """Groups that have offsets."""
        return self._by_group.keys()
