"""How many partitions topics have, and so which one a key belongs to. Shell: asks the log once per topic.

A record may go to a topic that its writer has never seen: a follow-up job to a queue that nobody has used yet. Job
topics are created where they are missing, as senders do; any other topic has to exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog
from msgspec.structs import replace

from logqueue.jobs.admin import TopicsNotCreated, ensure_topics
from logqueue.jobs.errors import BrokerUnreachable
from logqueue.jobs.partitioning import DEFAULT_TENANT, murmur2
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicKind, TopicSpec
from logqueue_consumers.topics.listing import partition_counts
from logqueue_consumers.writing.outgoing import Outgoing

log = structlog.get_logger(__name__)

CREATE_ATTEMPTS = 3
"""How often the log may refuse to create a topic before the records for it are given up."""
BACKOFF_S = 0.2
_DEFAULT_KEY = DEFAULT_TENANT.encode()


class TopicPartitions:
    """The partition counts that this process knows. They never change while a topic lives (see Queue)."""

    def __init__(self, settings: Settings, partitions_of: Callable[[str], int]) -> None:
        """`partitions_of` says how many partitions a queue's topic is created with."""
        self._settings = settings
        self._partitions_of = partitions_of
        self._counts: dict[str, int] = {}

    def add(self, counts: Mapping[str, int]) -> None:
        """These are known."""
        self._counts.update(counts)

    def __contains__(self, topic: str) -> bool:
        return topic in self._counts

    def count(self, topic: str) -> int:
        """How many partitions a known topic has."""
        return self._counts[topic]

    def partition_of(self, topic: str, key: bytes) -> int:
        """The partition that Kafka's default partitioner gives a key in a known topic (murmur2)."""
        return (murmur2(key) & 0x7FFFFFFF) % self._counts[topic]

    async def place(self, records: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """The records with their partitions; those whose topic does not exist and cannot be made stay without one.

        Waits as long as the log is away.
        """
        if None not in [record.partition for record in records]:
            return records
        await self._learn_patiently({record.topic for record in records if record.partition is None})
        return [
            record
            if record.partition is not None or record.topic not in self._counts
            else replace(record, partition=self.partition_of(record.topic, record.key or _DEFAULT_KEY))
            for record in records
        ]

    async def _learn_patiently(self, topics: set[str]) -> None:
        attempts = 0
        while attempts < CREATE_ATTEMPTS:
            try:
                await self.learn(topics)
            except BrokerUnreachable as error:
                log.warning("topics not looked up yet", error=str(error))
            except TopicsNotCreated as error:
                log.error("topic not created", error=str(error))
                attempts += 1
            else:
                return
            await asyncio.sleep(BACKOFF_S)

    async def learn(self, topics: Iterable[str]) -> None:
        """Look these topics up; job topics are created where they are missing, others stay unknown.

        Raises BrokerUnreachable, TopicsNotCreated.
        """
        wanted = {topic for topic in topics if topic not in self._counts}
        specs = [spec for topic in wanted if (spec := self._spec(topic)) is not None]
        if specs:
            self._counts.update(await ensure_topics(self._settings, specs))
        if wanted - self._counts.keys():
            found = await partition_counts(self._settings)
            self._counts.update({topic: found[topic] for topic in wanted if topic in found})

    def _spec(self, topic: str) -> TopicSpec | None:
        names = self._settings.topics
        role = names.role(topic)
        if role is None or role.kind is not TopicKind.JOBS or role.queue is None:
            return None
        return names.jobs_spec(role.queue, partitions=self._partitions_of(role.queue), priority=role.priority)
