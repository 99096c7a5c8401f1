"""What coordinators may ask about topics, answered from the broker's."""

from __future__ import annotations

from collections.abc import Iterable

from logqueue.broker.partitions.topics import Topics


class TopicNames:
    """The topics that exist now."""

    __slots__ = ("_topics",)

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def has_partition(self, topic: str, partition: int) -> bool:
        found = self._topics.by_name.get(topic)
        return found is not None and 0 <= partition < len(found.partitions)

    def name_of(self, topic_id: bytes) -> str | None:
        found = self._topics.by_id.get(topic_id)
        return None if found is None else found.name

    def id_of(self, topic: str) -> bytes | None:
        found = self._topics.by_name.get(topic)
        return None if found is None else found.id

    def partition_count(self, topic: str) -> int:
        found = self._topics.by_name.get(topic)
        return 0 if found is None else len(found.partitions)

    def names(self) -> Iterable[str]:
        return self._topics.by_name.keys()

    @property
    def version(self) -> int:
        return self._topics.version
