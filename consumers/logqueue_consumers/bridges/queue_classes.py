"""The priority classes of queues as their workers have published them; reading them is the one thing that needs a log.

A row of plain SQL may name any class: the default one has no topic of its own, and a topic of a class that no worker
knows would be read by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer

from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.control import DEFINITION
from logqueue.jobs.definition import DEFAULT_PRIORITY
from logqueue.jobs.sending import check_class
from logqueue.jobs.settings import Settings
from logqueue_consumers.topics.listing import partition_counts
from logqueue_consumers.topics.scan import read_to_end


class _Published(msgspec.Struct, frozen=True):
    queue: str
    priorities: dict[str, float] = {}
    default_priority: str = DEFAULT_PRIORITY


@dataclass(frozen=True, slots=True)
class QueueClasses:
    """By queue: its default class, and all of them."""

    by_queue: Mapping[str, tuple[str, frozenset[str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Iterable[bytes]) -> QueueClasses:
        """From definitions as workers publish them; of several apps with one queue the classes of all."""
        found: dict[str, tuple[str, frozenset[str]]] = {}
        for value in values:
            try:
                job = msgspec.json.decode(value, type=_Published)
            except (ValueError, RecursionError):
                continue  # of a newer version, or not a worker's: the API tells of it
            before = found[job.queue][1] if job.queue in found else frozenset()
            found[job.queue] = job.default_priority, before | frozenset(job.priorities)
        return cls(found)

    def knows(self, queue: str, named: str) -> bool:
        """Whether the queue is known to have this class."""
        default, classes = self.by_queue.get(queue, ("", frozenset[str]()))
        return named == default or named in classes

    def topic_class(self, queue: str, named: str) -> str | None:
        """The class whose topic a job goes to, None for the queue's own; InvalidArguments if the queue has none such.

        Of a queue that no worker has published every class is taken, and `normal` is its default.
        """
        default, classes = self.by_queue.get(queue, (DEFAULT_PRIORITY, frozenset({named})))
        return check_class(named, classes, default=default, queue=queue)


async def read_classes(settings: Settings) -> QueueClasses:
    """What is published now. Raises BrokerUnreachable, aiokafka's errors and TimeoutError."""
    topic, values = settings.topics.control, dict[bytes, Any]()
    counts = await partition_counts(settings)
    if topic not in counts:
        return QueueClasses()
    reader: AIOKafkaConsumer = await start_client(lambda: new_reader(settings), settings)
    try:
        async for record in read_to_end(reader, topic, counts[topic]):
            if record.key is not None and record.key.startswith(DEFINITION.encode()):
                values[record.key] = record.value
    finally:
        await stop_client(reader)
    return QueueClasses.of(value for value in values.values() if value is not None)
