"""Reads a group's committed offsets with their metadata, which aiokafka's consumer hides. Shell.

`AIOKafkaConsumer.committed()` answers the offset alone; the admin client's OffsetFetch also returns the metadata, where
the offset map is. It reports some errors only by leaving partitions out, so an answer counts when it is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from logqueue.jobs.connection import new_admin, start_client, stop_client
from logqueue.jobs.errors import BrokerUnreachable
from logqueue.jobs.settings import Settings

log = structlog.get_logger(__name__)

FIRST_BACKOFF_S = 0.05
REQUEST_TIMEOUT_S = 10.0


class OffsetReader:
    """One admin connection, opened when it is needed and again when it broke."""

    def __init__(self, settings: Settings, *, max_backoff_s: float) -> None:
        self._settings = settings
        self._max_backoff_s = max_backoff_s
        self._admin: AIOKafkaAdminClient | None = None
        self._lock = asyncio.Lock()

    async def read(self, group: str, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """Offset and metadata of each partition, -1 and empty where nothing was committed.

        Tries until the log answers; callers cancel when the answer is no longer of use.
        """
        wanted = list(partitions)
        backoff_s = FIRST_BACKOFF_S
        async with self._lock:
            while wanted:
                try:
                    if self._admin is None:
                        self._admin = await start_client(lambda: new_admin(self._settings), self._settings)
                    async with asyncio.timeout(REQUEST_TIMEOUT_S):
                        found = await self._admin.list_consumer_group_offsets(group, partitions=wanted)
                except (KafkaError, BrokerUnreachable, TimeoutError, AttributeError) as error:
                    # aiokafka raises AttributeError where it means the broker's error of one partition.
                    log.warning("committed offsets not read", group=group, error=repr(error))
                    await self._close()
                else:
                    if all(partition in found for partition in wanted):
                        return {
                            partition: (found[partition].offset, found[partition].metadata or "")
                            for partition in wanted
                        }
                await asyncio.sleep(backoff_s)
                backoff_s = min(self._max_backoff_s, backoff_s * 2)
        return {}

    async def stop(self) -> None:
        """Close the connection."""
        await self._close()

    async def _close(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            await stop_client(admin, timeout_s=1.0)
