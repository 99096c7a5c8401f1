"""A consumer group with changes tried on it that are not durable yet. Thrown away whole when something is refused."""

from __future__ import annotations

from collections.abc import Iterable

from logqueue.group.consumer.group import ConsumerGroup
from logqueue.group.consumer.records import ConsumerChange
from logqueue.group.records import Change


class Draft:
    """Changes in the order they were made, and the group as it would be with them. The real group is not touched."""

    __slots__ = ("_is_copied", "changes", "group")

    def __init__(self, group: ConsumerGroup, *, before: Iterable[Change] = (), is_new: bool = False) -> None:
        """`before`: changes that come first and are not of this group's own; `is_new`: nobody else holds `group`."""
        self.group = group
        self.changes: list[Change] = list(before)
        self._is_copied = is_new

    def add(self, *changes: ConsumerChange) -> None:
        """Make changes."""
        if not self._is_copied:
            self.group = self.group.copy()
            self._is_copied = True
        for change in changes:
            self.group.apply(change)
            self.changes.append(change)
