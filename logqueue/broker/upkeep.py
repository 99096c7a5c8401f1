"""What the data folder needs from time to time: checkpoints, removed files, forgotten producers. Knows no request."""

from __future__ import annotations

import asyncio
import logging

from logqueue.errors import KafkaError
from logqueue.storage.log_directory import LogDirectory

log = logging.getLogger("logqueue.broker.upkeep")

INTERVAL_SECONDS = 60.0  # as Kafka's log.flush.offset.checkpoint.interval.ms


class Upkeep:
    """Runs upkeep in a thread, one pass at a time; a failing pass is logged and the next one tries again."""

    def __init__(self, directory: LogDirectory, *, producer_expiration_ms: int) -> None:
        self._directory = directory
        self._producer_expiration_ms = producer_expiration_ms
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="logqueue-upkeep")

    async def stop(self) -> None:
        """Let the pass that is running end, and start no other."""
        self._stopping.set()
        await self._task

    async def _run(self) -> None:
        while not await self._is_stopped_within(INTERVAL_SECONDS):
            self._directory.expire_producers(after_ms=self._producer_expiration_ms)
            try:
                await asyncio.to_thread(self._pass)
            except (OSError, KafkaError) as error:
                log.error("upkeep of %s failed: %s", self._directory.folder, error)

    def _pass(self) -> None:
        self._directory.checkpoint()
        removed = self._directory.purge()
        if removed:
            log.info("removed %d deleted segment(s) and topic folder(s) from the disk", removed)

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True
