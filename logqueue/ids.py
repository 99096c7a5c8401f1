"""Names and identities that travel between rooms. Values only."""

from __future__ import annotations

from typing import NamedTuple, NewType

JobId = NewType("JobId", str)


class TopicPartition(NamedTuple):
    """A partition of a topic; its text form `topic-partition` is also the folder name on disk."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"
