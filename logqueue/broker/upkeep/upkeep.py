"""What the data folder needs from time to time, each at its interval. Knows no request.

checkpoints    log.flush.offset.checkpoint.interval.ms   rolled segments are synced, recovery points and starts noted
retention      log.retention.check.interval.ms           old segments are taken out of their logs
compaction     log.cleaner.backoff.ms                    in `cleaner.py`
removal        with each of the above                    files whose delay is over leave the disk
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import TYPE_CHECKING

from logqueue.errors import KafkaError
from logqueue.storage.environment import Environment
from logqueue.storage.errors import UnknownTopic
from logqueue.storage.log_directory import LogDirectory

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.upkeep.cleaner import Cleaner

log = logging.getLogger("logqueue.broker.upkeep")

MIN_INTERVAL_SECONDS = 0.05
"""Shortest time between two passes of one kind, whatever their interval says."""

LOOKS_PER_TURN = 100
"""Logs looked at before the loop gets to do something else."""

CLEANER_DELAY_SECONDS = 1.0
"""How often it is looked whether there is something to compact: until then the cleaner is not even imported."""


class Upkeep:
    """Runs the passes; a failing one is logged and the next one tries again.

    `cleaner` is None until there is a compacted topic.
    """

    def __init__(self, broker: Broker, directory: LogDirectory, environment: Environment) -> None:
        self.cleaner: Cleaner | None = None
        self._broker = broker
        self._directory = directory
        self._environment = environment
        self._disk = Lock()  # checkpoints and removals run one at a time
        self._stopping = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._repeat(self._checkpoint, self._checkpoint_ms), name="logqueue-checkpoints"),
            asyncio.create_task(self._repeat(self._expire, self._retention_ms), name="logqueue-retention"),
        ]
        if broker.config.log_cleaner_enable:
            self._tasks.append(asyncio.create_task(self._clean(), name="logqueue-cleaner"))

    # Settings may change while the broker runs.

    def _checkpoint_ms(self) -> int:
        return self._broker.config.log_flush_offset_checkpoint_interval_ms

    def _retention_ms(self) -> int:
        return self._broker.config.log_retention_check_interval_ms

    async def stop(self) -> None:
        """Let the passes that are running end, start no other, and break off what is being compacted."""
        self._stopping.set()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, BaseException):  # the stop goes on: the rest of the broker has to be closed
                log.error("upkeep of %s had ended", self._directory.folder, exc_info=ended)

    async def _repeat(self, step: Callable[[], Awaitable[None]], interval_ms: Callable[[], int]) -> None:
        while not await self._is_stopped_within(max(interval_ms() / 1000, MIN_INTERVAL_SECONDS)):
            try:
                await step()
                await asyncio.to_thread(self._remove)
            except (OSError, KafkaError) as error:
                log.error("upkeep of %s failed: %s", self._directory.folder, error)
            except Exception:  # there may be no thread to be had for a while: the next pass tries again
                log.exception("upkeep of %s failed, it will be tried again", self._directory.folder)

    async def _checkpoint(self) -> None:
        self._directory.expire_producers(after_ms=self._broker.config.producer_id_expiration_ms)
        for number, (partition, each) in enumerate(list(self._directory.logs.items())):
            if self._directory.logs.get(partition) is not each:
                continue  # deleted meanwhile
            if each.note_producers() or number % LOOKS_PER_TURN == LOOKS_PER_TURN - 1:
                await asyncio.sleep(0)
        await asyncio.to_thread(self._flush_and_checkpoint)

    def _flush_and_checkpoint(self) -> None:
        for each in list(self._directory.logs.values()):
            if self._stopping.is_set():
                return  # the stop flushes everything
            if each.is_flush_due:
                try:
                    each.sync()
                except UnknownTopic:
                    continue  # deleted meanwhile
        self._directory.checkpoint()

    async def _expire(self) -> None:
        """Retention of the logs that are not compacted; the cleaner sees to the others, between two compactions."""
        from logqueue.broker.upkeep.retention import expire

        partitions = [partition for topic in self._broker.topics.by_name.values() for partition in topic.partitions]
        has_cleaner = self._broker.config.log_cleaner_enable
        for number, partition in enumerate(partitions):
            if number % LOOKS_PER_TURN == LOOKS_PER_TURN - 1:
                await asyncio.sleep(0)
            if has_cleaner and "compact" in partition.config.cleanup_policy:
                continue
            if self._directory.logs.get(partition.id) is partition.log:
                try:
                    expire(partition, now_ms=self._broker.clock.time_ms())
                except (OSError, KafkaError) as error:  # a file that cannot be read holds up no other log
                    log.error("retention of %s failed: %s", partition.id, error)

    async def _clean(self) -> None:
        while not await self._is_stopped_within(CLEANER_DELAY_SECONDS):
            if any("compact" in topic.config.cleanup_policy for topic in self._broker.topics.by_name.values()):
                break
        else:
            return
        try:
            from logqueue.broker.upkeep.cleaner import Cleaner

            self.cleaner = Cleaner(self._broker, self._directory, self._environment)
            await self.cleaner.run(self._stopping)
        except Exception:  # everything else goes on without it
            log.exception("the cleaner ended in an unforeseen way, nothing is compacted any more; please report this")

    def _remove(self) -> None:
        with self._disk:
            removed = self._directory.purge(goes_on=lambda: not self._stopping.is_set())
        if removed:
            log.info("removed the files of %d deleted segment(s) and topic folder(s) from the disk", removed)

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True
