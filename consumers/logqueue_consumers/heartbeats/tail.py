"""Follows `jobs.workers` into a roster. Shell over one group-less reader; a log that is away is waited for."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from logqueue.errors import LogqueueError
from logqueue.jobs.connection import new_reader, start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue_consumers.heartbeats.roster import Roster
from logqueue_consumers.topics.listing import partition_counts

log = structlog.get_logger(__name__)

FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 5.0
POLL_MS = 500
"""How long the broker may hold an empty fetch: heartbeats come at once, and who hears none asks twice a second."""
LOOK_S = 2.0
"""How often it is looked whether the first worker has made the topic."""


class RosterTail:
    """Keeps a roster fresh for as long as `run` runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.roster = Roster()
        self.is_read = asyncio.Event()
        """The topic was read to its end once: whoever is not in the roster is not there."""

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                await self._wait_for_topic()
                await self._follow()
            except (KafkaError, LogqueueError, OSError, TimeoutError) as error:
                log.warning("heartbeats not read, trying again", error=repr(error))
            await asyncio.sleep(backoff_s)
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)

    async def _wait_for_topic(self) -> None:
        """Asking for its metadata would create the topic, with the broker's defaults."""
        while self._settings.topics.workers not in await partition_counts(self._settings):
            self.is_read.set()  # there are no workers yet
            await asyncio.sleep(LOOK_S)

    async def _follow(self) -> None:
        partition = TopicPartition(self._settings.topics.workers, 0)
        reader: AIOKafkaConsumer = await start_client(self._make, self._settings)
        try:
            end = (await reader.end_offsets([partition]))[partition]  # asked later, it would wait behind a fetch
            reader.assign([partition])
            await reader.seek_to_beginning(partition)
            self.roster.clear()
            while True:
                fetched = await reader.getmany(partition, timeout_ms=POLL_MS)
                for record in fetched.get(partition, ()):
                    self.roster.apply(record.key, record.value)
                if not self.is_read.is_set() and await reader.position(partition) >= end:
                    self.is_read.set()
        finally:
            await stop_client(reader, timeout_s=1.0)

    def _make(self) -> AIOKafkaConsumer:
        return new_reader(self._settings, fetch_max_wait_ms=POLL_MS)
