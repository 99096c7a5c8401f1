"""Writes operator commands into the log: who wanted what and when, then the command itself. Shell over a producer.

`jobs.audit` keeps every command for ever, in one order; `jobs.control` keeps what holds. The audit record is durable
first, so nothing is ever obeyed that nobody can be asked about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.control import Command, encode_json
from logqueue.jobs.errors import SendFailed
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import JOBS_PARTITIONS, TopicSpec
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.topics.partition_counts import TopicPartitions
from logqueue_consumers.writing.batch_producer import BatchProducer
from logqueue_consumers.writing.outgoing import Outgoing

BATCH = 1_000
"""Commands that are written together."""


class CommandWriter:
    """Connects at the first command. Belongs to one event loop; close it with `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        limits = WorkerLimits()
        self._producer = BatchProducer(settings, batch_bytes=limits.batch_bytes, max_backoff_s=limits.max_backoff_s)
        self.partitions = TopicPartitions(settings, lambda _: JOBS_PARTITIONS)
        self._lock = asyncio.Lock()
        self._is_started = False

    async def write(self, commands: Sequence[Command], *, records: Sequence[Outgoing] = ()) -> None:
        """Make commands durable, after `records` that they are about; partitions of None are looked up.

        Raises BrokerUnreachable, TopicsNotCreated, SendFailed.
        """
        await self._start()
        for begin in range(0, len(commands), BATCH):
            part = commands[begin : begin + BATCH]
            await self._send([self._audit(command) for command in part])
        await self._send(records)
        for begin in range(0, len(commands), BATCH):
            part = commands[begin : begin + BATCH]
            topic = self._settings.topics.control
            await self._send([Outgoing(topic, 0, *command.record(), [], command.at_ms) for command in part])

    async def withdraw(self, keys: Sequence[str], *, at_ms: int) -> None:
        """Take commands back that stand for nothing any more. No deed of an operator, so not in the audit topic."""
        if keys:
            await self._start()
            topic = self._settings.topics.control
            await self._send([Outgoing(topic, 0, key.encode(), None, [], at_ms) for key in keys])

    async def note(self, event: str, *, by: str, at_ms: int, facts: dict[str, Any]) -> None:
        """Put a deed that is no command of its own (a bulk operation) into the audit topic."""
        await self._start()
        value = encode_json({"event": event, "by": by, "at": at_ms, **facts})
        await self._send([Outgoing(self._settings.topics.audit, 0, event.encode(), value, [], at_ms)])

    async def learn(self, specs: Iterable[TopicSpec]) -> TopicPartitions:
        """Make sure of these topics; their partitions."""
        await self._start()
        self.partitions.add(await ensure_topics(self._settings, specs))
        return self.partitions

    async def stop(self) -> None:
        """Close the connection."""
        async with self._lock:
            if self._is_started:
                await self._producer.stop()

    async def _start(self) -> None:
        async with self._lock:
            if not self._is_started:
                names = self._settings.topics
                counts = await ensure_topics(self._settings, [*names.shared_specs(), names.audit_spec()])
                self.partitions.add(counts)
                await self._producer.start()
                self._is_started = True

    async def _send(self, records: Sequence[Outgoing]) -> None:
        if not records:
            return
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                placed = await self.partitions.place(records)
                refusals = await self._producer.send(placed)
        except TimeoutError:
            raise SendFailed(
                f"The log did not confirm {len(records)} records within {self._settings.send_timeout_s:g} s:"
                " whether they were written is not known"
            ) from None
        if refusals:
            raise SendFailed(f"The log refuses a record for {placed[refusals[0].place].topic}: {refusals[0].error!r}")

    def _audit(self, command: Command) -> Outgoing:
        kind, _, subject = command.key.partition("/")
        value = encode_json(
            {
                "event": kind if command.value is not None else f"{kind}.withdrawn",
                "subject": subject,
                "by": command.by,
                "at": command.at_ms,
                "value": command.value,
            }
        )
        return Outgoing(self._settings.topics.audit, 0, command.key.encode(), value, [], command.at_ms)
