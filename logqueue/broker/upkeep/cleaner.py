"""The cleaner: finds the logs that are to be compacted and sees them through. Knows no request.

The reading and copying is done by a process of its own (`compaction_process`). What is left here are short steps: on
the loop what changes a log's list of segments, in threads what waits for the disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from logqueue.broker.partitions.partition import Partition
from logqueue.broker.upkeep.retention import expire
from logqueue.broker.upkeep.upkeep import LOOKS_PER_TURN
from logqueue.errors import KafkaError
from logqueue.ids import TopicPartition
from logqueue.storage.compaction.cleaning import Cleaning, CompactionLimits
from logqueue.storage.compaction.job import CompactionDone, CompactionFailed, CompactionJob
from logqueue.storage.compaction.plan import CompactionPlan
from logqueue.storage.environment import Environment
from logqueue.storage.log import PartitionLog
from logqueue.storage.log_directory import LogDirectory
from logqueue.storage.uncleanable import write_uncleanable

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.upkeep.compaction_process import CompactionProcess

log = logging.getLogger("logqueue.broker.upkeep.cleaner")

MAX_COMPACTIONS = 4
"""Most logs compacted at once, whatever log.cleaner.threads says: each occupies a thread that waits for its process."""

MIN_BACKOFF_SECONDS = 0.1
"""Shortest wait between two looks at all logs, whatever log.cleaner.backoff.ms says."""


class Cleaner:
    """Compacts up to `log.cleaner.threads` logs at once, the dirtiest first.

    `uncleanable` names the logs that could not be compacted because they are damaged, and why; they are left alone
    until a restart, and stand in a file for operators to see. `in_progress` are those being compacted now.
    `compactions` and `looks` count since the start; `max_dirty_ratio` is that of the last look.
    """

    def __init__(self, broker: Broker, directory: LogDirectory, environment: Environment) -> None:
        self.uncleanable: dict[TopicPartition, str] = {}
        self.in_progress: set[TopicPartition] = set()
        self.max_dirty_ratio = 0.0
        self.compactions = 0
        self.looks = 0
        self._broker = broker
        self._directory = directory
        self._environment = environment
        self._given_up: dict[TopicPartition, PartitionLog] = {}  # those of `uncleanable`
        self._is_stopping = False
        self._cleaning = Cleaning(directory, environment)
        self._not_before: dict[TopicPartition, float] = {}  # loop time; of those that came to nothing
        self._idle: list[CompactionProcess] = []
        self._busy: set[CompactionProcess] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Look for work until `stopping` is set; then what is under way is broken off."""
        running: set[asyncio.Task[None]] = set()
        stop = asyncio.create_task(stopping.wait(), name="logqueue-cleaner-stop")
        await self._tell_uncleanable()  # nothing is known to be damaged yet, whatever the last run has found
        try:
            while not stopping.is_set():
                try:
                    await self._start_due(running)
                except Exception:  # there may be no thread to be had for a while, among others
                    log.exception("looking for logs to compact failed, it will be tried again")
                done, _ = await asyncio.wait(
                    {stop, *running}, timeout=self._backoff, return_when=asyncio.FIRST_COMPLETED
                )
                running -= done
        finally:
            self._is_stopping = True
            for process in self._busy:
                process.kill()
            await asyncio.gather(*running, return_exceptions=True)
            stop.cancel()
            self._end_idle()

    @property
    def processes(self) -> list[int]:
        """Ids of the processes that compact."""
        return [process.pid for process in (*self._busy, *self._idle)]

    @property
    def _backoff(self) -> float:
        return max(self._broker.config.log_cleaner_backoff_ms / 1000, MIN_BACKOFF_SECONDS)

    # What is to be done

    async def _start_due(self, running: set[asyncio.Task[None]]) -> None:
        room = min(self._broker.config.log_cleaner_threads, MAX_COMPACTIONS) - len(running)
        for partition in await self._find_due(room):
            self.in_progress.add(partition.id)
            running.add(asyncio.create_task(self._compact(partition), name=f"logqueue-compact-{partition.id}"))
        if not running:
            await asyncio.to_thread(self._end_idle)

    async def _find_due(self, room: int) -> list[Partition]:
        """The dirtiest logs that are due, at most `room`. Old segments of compacted logs go here too, as in Kafka."""
        if self._directory.failure is not None:
            return []
        await self._forget_deleted()
        due: list[tuple[float, Partition]] = []
        now, dirtiest = self._broker.loop.time(), 0.0
        for number, partition in enumerate(self._compacted()):
            if number % LOOKS_PER_TURN == LOOKS_PER_TURN - 1:
                await asyncio.sleep(0)
            if self._directory.logs.get(partition.id) is not partition.log:
                continue  # deleted meanwhile
            try:
                expire(partition, now_ms=self._broker.clock.time_ms())
                plan = self._plan(partition, partition.last_stable_offset)
            except (OSError, KafkaError) as error:
                log.error("%s cannot be looked at for compaction: %s", partition.id, error)
                continue
            dirtiest = max(dirtiest, plan.dirty_ratio)
            if plan.is_due and self._not_before.get(partition.id, 0.0) <= now:
                due.append((plan.dirty_ratio, partition))
        self.max_dirty_ratio = dirtiest
        self.looks += 1
        due.sort(key=lambda entry: -entry[0])
        return [partition for _, partition in due[: max(room, 0)]]

    def _compacted(self) -> list[Partition]:
        return [
            partition
            for topic in self._broker.topics.by_name.values()
            if "compact" in topic.config.cleanup_policy
            for partition in topic.partitions
            if partition.id not in self.in_progress and partition.id not in self.uncleanable
        ]

    def _plan(self, partition: Partition, stable_offset: int) -> CompactionPlan:
        now_ms = self._broker.clock.time_ms()
        return self._cleaning.plan(partition.log, stable_offset=stable_offset, now_ms=now_ms)

    def _limits(self) -> CompactionLimits:
        config = self._broker.config
        return CompactionLimits(
            memory_bytes=config.log_cleaner_dedupe_buffer_size
            // min(max(config.log_cleaner_threads, 1), MAX_COMPACTIONS),
            load_factor=config.log_cleaner_io_buffer_load_factor,
            buffer_bytes=max(config.log_cleaner_io_buffer_size, 1024),
            max_bytes_per_second=config.log_cleaner_io_max_bytes_per_second,
        )

    # One log

    async def _compact(self, partition: Partition) -> None:
        """See one log through; nothing that goes wrong with it keeps the others from being compacted."""
        self._not_before[partition.id] = self._broker.loop.time() + self._backoff
        try:
            job = await self._prepare(partition)
            if job is not None and await self._run_job(partition, job):
                del self._not_before[partition.id]
        except (OSError, KafkaError) as error:
            if self._is_there(partition):
                log.error("compacting %s failed, it will be tried again: %s", partition.id, error)
        except (RuntimeError, MemoryError):  # no thread for it, as a rule: that says nothing of the log
            log.exception("compacting %s failed, it will be tried again", partition.id)
        except Exception as error:
            log.exception("compacting %s failed in an unforeseen way; please report this", partition.id)
            await self._give_up(partition, repr(error))
        finally:
            self.in_progress.discard(partition.id)

    def _is_there(self, partition: Partition) -> bool:
        return self._directory.logs.get(partition.id) is partition.log

    async def _prepare(self, partition: Partition) -> CompactionJob | None:
        stable_offset = partition.last_stable_offset
        recovery_point = await asyncio.to_thread(self._cleaning.prepare, partition.log)
        plan = self._plan(partition, min(stable_offset, recovery_point))
        if not plan.is_due or self._is_stopping:
            return None
        return self._cleaning.job(partition.log, plan, self._limits(), now_ms=self._broker.clock.time_ms())

    async def _run_job(self, partition: Partition, job: CompactionJob) -> bool:
        """Have a job done and its segments swapped in; False if it failed."""
        process = self._take_process()
        self._busy.add(process)
        is_done = False
        try:
            await asyncio.to_thread(process.send, job)
            is_done = await self._take_results(partition, process)
        finally:
            self._busy.discard(process)
            if is_done:
                self._idle.append(process)
            else:
                process.kill()
                await self._surely(process.close)
                if self._is_there(partition):
                    await self._surely(partial(self._cleaning.discard, partition.log))
        return is_done

    async def _take_results(self, partition: Partition, process: CompactionProcess) -> bool:
        stored = partition.log
        segments = {segment.base_offset: segment for segment in stored.segments}
        while True:
            result = await asyncio.to_thread(process.receive)
            if not self._is_there(partition):
                return False
            if isinstance(result, CompactionFailed):
                await self._note_failure(partition, result)
                return False
            if isinstance(result, CompactionDone):
                await asyncio.to_thread(self._cleaning.finish, partition.id, result)
                self._note_done(partition.id, result)
                return True
            replacement = await asyncio.to_thread(self._cleaning.stage, stored, result, segments)
            if not self._cleaning.swap(replacement):
                return False
            settle = partial(self._cleaning.settle, replacement, now_ms=self._broker.clock.time_ms())
            await self._surely(settle)  # before anything else is staged

    async def _surely(self, act: Callable[[], None]) -> None:
        """Do in a thread what must not be left out; the loop does it where no thread can be had."""
        try:
            done = self._broker.loop.run_in_executor(None, act)
        except RuntimeError:
            act()
        else:
            await done

    def _take_process(self) -> CompactionProcess:
        if self._idle:
            return self._idle.pop()
        from logqueue.broker.upkeep.compaction_process import CompactionProcess  # most brokers never compact anything

        return CompactionProcess()

    def _end_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _note_done(self, partition: TopicPartition, done: CompactionDone) -> None:
        self.compactions += 1
        log.info(
            "compacted %s up to offset %d: %d -> %d bytes, %d -> %d records in %.1f s",
            partition,
            done.clean_offset,
            done.bytes_before,
            done.bytes_after,
            done.records_before,
            done.records_after,
            done.seconds,
        )

    async def _note_failure(self, partition: Partition, failed: CompactionFailed) -> None:
        if self._broker.is_stopping:
            return
        if failed.is_damage:
            log.error("%s is not compacted any more, until a restart: %s", partition.id, failed.reason)
            await self._give_up(partition, failed.reason)
        else:
            log.warning("compacting %s failed, it will be tried again: %s", partition.id, failed.reason)

    # Logs that are given up

    async def _give_up(self, partition: Partition, reason: str) -> None:
        self.uncleanable[partition.id] = reason
        self._given_up[partition.id] = partition.log
        await self._tell_uncleanable()

    async def _forget_deleted(self) -> None:
        """A topic that was deleted may come again under its name, and undamaged."""
        gone = [each for each, given_up in self._given_up.items() if self._directory.logs.get(each) is not given_up]
        for partition in gone:
            del self.uncleanable[partition], self._given_up[partition]
        if gone:
            await self._tell_uncleanable()

    async def _tell_uncleanable(self) -> None:
        reasons = {str(partition): reason for partition, reason in self.uncleanable.items()}
        try:
            await asyncio.to_thread(write_uncleanable, self._environment.fs, self._directory.folder, reasons)
        except (OSError, RuntimeError, MemoryError) as error:
            log.warning("which logs are not compacted could not be noted: %s", error)
