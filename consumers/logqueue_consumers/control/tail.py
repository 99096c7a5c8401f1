"""Follows `jobs.control` in a worker: what operators want, folded, with news told as they come. Shell over one reader.

    tail = ControlTail(settings)
    tail.listeners.append(on_changes)     # called with the changes of each fetch, in the loop
    await tail.start()                    # up to the present end: `tail.state` holds before the first job
    await tail.run()                      # follows until cancelled

A log that is away is waited for; what was known goes on to hold meanwhile. One record is applied once, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.control import CANCEL, RUN_NOW, Change, ControlState
from logqueue.jobs.errors import BrokerUnreachable
from logqueue.jobs.settings import Settings

log = structlog.get_logger(__name__)

READ_TIMEOUT_S = 30.0
"""Longest wait for the present end of the topic at the start."""
FETCH_WAIT_MS = 500
"""How long the broker may hold an empty fetch: commands come at once, and an idle worker asks twice a second."""
MAX_BACKOFF_S = 5.0

Listener = Callable[[Sequence[Change]], None]


class ControlTail:
    """The control topic as this process knows it. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._partition = TopicPartition(settings.topics.control, 0)
        self._position = 0
        self._reader: AIOKafkaConsumer | None = None
        self._warned_of = 0
        self.state = ControlState()
        self.listeners: list[Listener] = []

    @property
    def position(self) -> int:
        """Up to where the topic was read."""
        return self._position

    async def start(self) -> None:
        """Read up to the present end; listeners are not told.

        Raises BrokerUnreachable, aiokafka's errors or TimeoutError. The topic has to exist.
        """
        reader = await self._connect()
        async with asyncio.timeout(READ_TIMEOUT_S):
            end = (await reader.end_offsets([self._partition]))[self._partition]
            while self._position < end:
                await self._read(reader)

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        backoff_s = 0.1
        while True:
            try:
                reader = await self._connect()
                while True:
                    self._tell(await self._read(reader))
                    backoff_s = 0.1
            except (KafkaError, OSError, BrokerUnreachable, TimeoutError) as error:
                log.warning("control topic not read, trying again", error=repr(error))
                await self.stop()
                await asyncio.sleep(backoff_s)
                backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)

    async def stop(self) -> None:
        """Close the connection; `run` must have been cancelled."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await stop_client(reader, timeout_s=1.0)

    async def _connect(self) -> AIOKafkaConsumer:
        if self._reader is None:
            self._reader = reader = await start_client(self._make, self._settings)
            reader.assign([self._partition])
            async with asyncio.timeout(READ_TIMEOUT_S):
                end = (await reader.end_offsets([self._partition]))[self._partition]
            if end < self._position:
                log.warning("control topic starts over", topic=self._partition.topic)
                self._tell(self._forget())
            reader.seek(self._partition, self._position)
        return self._reader

    async def _read(self, reader: AIOKafkaConsumer) -> list[Change]:
        fetched = await reader.getmany(self._partition, timeout_ms=FETCH_WAIT_MS)
        applied = [self.state.apply(record.key, record.value) for record in fetched.get(self._partition, ())]
        self._position = await reader.position(self._partition)
        if self.state.refused > self._warned_of:
            log.error("too many operator commands stand: some are passed over", passed_over=self.state.refused)
            self._warned_of = self.state.refused
        return [change for change in applied if change is not None]

    def _tell(self, changes: Sequence[Change]) -> None:
        if changes:
            for listener in self.listeners:
                listener(changes)

    def _forget(self) -> list[Change]:
        """The topic was made anew: nothing that was known holds."""
        gone, self.state, self._position = self.state, ControlState(), 0
        keys = [(f"{kind}/", subject) for kind, _, subject in (key.partition("/") for key in gone.standing)]
        keys += [(CANCEL, job_id) for job_id in gone.cancels] + [(RUN_NOW, job_id) for job_id in gone.run_nows]
        return [Change(kind, subject, False) for kind, subject in keys]

    def _make(self) -> AIOKafkaConsumer:
        # Not read_committed: a command must not wait for a transaction that a dead worker left open. What is aborted
        # here are withdrawals of commands that were obeyed, and what a keeper decides again.
        return new_reader(self._settings, "read_uncommitted", fetch_max_wait_ms=FETCH_WAIT_MS)
