"""What the coordinator asks about topics: the shell answers from its metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Topics(Protocol):
    """The topics that exist now."""

    def has_partition(self, topic: str, partition: int) -> bool:
        """Whether the partition exists."""
        ...

    def name_of(self, topic_id: bytes) -> str | None:
        """The name behind a topic id (16 bytes); None when no topic has it."""
        ...

    def id_of(self, topic: str) -> bytes | None:
        """The id of a topic (16 bytes); None when there is no such topic."""
        ...

    def partition_count(self, topic: str) -> int:
        """The number of partitions of a topic; 0 when there is no such topic."""
        ...

    def names(self) -> Iterable[str]:
        """Every topic."""
        ...

    @property
    def version(self) -> int:
        """Another number whenever a topic has been created, grown or deleted."""
        ...
