"""Remembers how many dead letters each topic has, so that they are counted anew only where something has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from logqueue_consumers.letters.counts import LetterCount

from logqueue.ids import TopicPartition
from logqueue.jobs.topics import TopicRole

Extents = Mapping[TopicPartition, tuple[int, int]]
Count = Callable[[Mapping[str, TopicRole]], Awaitable[Mapping[str, LetterCount]]]


class LetterTotals:
    """The counts that were asked for last, with the extents of the topics that they follow from."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Extents, LetterCount]] = {}

    async def counts(
        self, topics: Mapping[str, TopicRole], extents: Extents, *, control: str, count: Count
    ) -> dict[str, LetterCount]:
        """The counts of these dead-letter topics, of which `extents` were just asked; `control` says what is closed."""
        keys = {
            topic: {at: extent for at, extent in extents.items() if at.topic in (topic, control)} for topic in topics
        }
        known = {topic: found for topic, found in self._known.items() if topic in topics}
        stale = {topic: role for topic, role in topics.items() if topic not in known or known[topic][0] != keys[topic]}
        if stale:
            known |= {topic: (keys[topic], found) for topic, found in (await count(stale)).items()}
        self._known = known
        return {topic: found for topic, (_, found) in known.items()}
