"""A topic of the log as the other side of a bridge. Shell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.errors import SendFailed
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicSpec
from logqueue_consumers.bridges.telling import Told
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.writing.batch_producer import BatchProducer
from logqueue_consumers.writing.outgoing import Outgoing

TOPIC_PARTITIONS: Final = 4


class TopicSink:
    """A topic of the log, for outcomes as CloudEvents in structured mode."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: BatchProducer | None = None

    async def open(self) -> None:
        """Connect, and make the topic if it does not exist."""
        await ensure_topics(self._settings, [TopicSpec(name=self._topic, partitions=TOPIC_PARTITIONS)])
        limits = WorkerLimits()
        producer = BatchProducer(self._settings, batch_bytes=limits.batch_bytes, max_backoff_s=limits.max_backoff_s)
        await producer.start()
        self._producer = producer
        await producer.learn_partitions(self._topic)

    async def tell(self, messages: Sequence[Told]) -> None:
        """Write them until they are durable; SendFailed if the log refuses one."""
        producer = self._producer
        assert producer is not None, "open() comes first"
        records = [
            Outgoing(
                self._topic,
                producer.partition_of(self._topic, told.key),
                told.key,
                told.body,
                [("content-type", told.content_type.encode())],
            )
            for told in messages
        ]
        if refusals := await producer.send(records):
            raise SendFailed(f"topic {self._topic} refuses an event: {refusals[0].error!r}")

    async def close(self) -> None:
        """End the connection."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()
