"""Reads back which places of a shard are taken, when its first key or unique job comes. Shell over aiokafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from logqueue.errors import LogqueueError
from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.connection import READ_WAIT_MS, new_reader, start_client, stop_client
from logqueue.jobs.settings import Settings
from logqueue.jobs.topics import TopicSpec
from logqueue_consumers.partitions.shard import Shard

log = structlog.get_logger(__name__)

READ_TIMEOUT_S = 20.0
"""Longest time that reading the shards of one round may take before it is begun again."""
FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 2.0

Places = Sequence[tuple[str, bytes | None]]


class UniqueLoader:
    """Reads the shards it is asked for; their jobs wait for it."""

    def __init__(
        self, settings: Settings, spec_of: Callable[[str], TopicSpec], *, loaded: Callable[[Shard, Places], None]
    ) -> None:
        self._settings = settings
        self._spec_of = spec_of
        self._loaded = loaded
        self._wanted: dict[Shard, None] = {}
        self._has_wanted = asyncio.Event()

    def load(self, shard: Shard) -> None:
        """Read this shard soon."""
        self._wanted[shard] = None
        self._has_wanted.set()

    async def run(self) -> None:
        """Read what is asked for, until cancelled; a log that is away is waited for."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            await self._has_wanted.wait()
            self._has_wanted.clear()
            wanted, self._wanted = [shard for shard in self._wanted if shard.partitions], {}
            try:
                await self._read(wanted)
                backoff_s = FIRST_BACKOFF_S
            except (KafkaError, LogqueueError, TimeoutError, OSError) as error:
                log.warning("taken places not read yet: their jobs wait", shards=len(wanted), error=repr(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)
                for shard in wanted:
                    self.load(shard)

    async def _read(self, shards: Sequence[Shard]) -> None:
        if not shards:
            return
        specs = {shard.id.queue: self._spec_of(shard.id.queue) for shard in shards}
        await ensure_topics(self._settings, specs.values())
        consumer: AIOKafkaConsumer = await start_client(lambda: new_reader(self._settings), self._settings)
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                shard_of = {TopicPartition(specs[shard.id.queue].name, shard.id.number): shard for shard in shards}
                places = await _read_all(consumer, list(shard_of))
        finally:
            await stop_client(consumer, timeout_s=1.0)
        for at, shard in shard_of.items():
            self._loaded(shard, places[at])


async def _read_all(consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, Places]:
    """Every record that was committed up to now, in the order of the log."""
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    starts = await consumer.beginning_offsets(partitions)
    for at, start in starts.items():
        consumer.seek(at, start)
    places: dict[TopicPartition, list[tuple[str, bytes | None]]] = {at: [] for at in partitions}
    left = {at for at in partitions if starts[at] < ends[at]}
    while left:
        for at, records in (await consumer.getmany(*left, timeout_ms=READ_WAIT_MS)).items():
            places[at].extend((record.key.decode("utf-8", "replace"), record.value) for record in records if record.key)
        left = {at for at in left if await consumer.position(at) < ends[at]}
    return dict(places)
