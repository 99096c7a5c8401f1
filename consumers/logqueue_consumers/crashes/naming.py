"""Names jobs of watched partitions in commits before they start, and runs suspects alone (see `watch`). Shell.

A job that may end its process must be in the log by name before it runs: otherwise nobody could tell which one it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog
from aiokafka.errors import KafkaError

from logqueue_consumers.engine import JobEngine
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.partitions.partition import OwnedPartition

log = structlog.get_logger(__name__)

NAMING_BACKOFF_S = 0.2
LOOK_AGAIN_S = 0.1
"""How often, while jobs lack names, it is looked whether a limit or a pause holds back some that have one."""


class JobNaming:
    """For the partitions of one member."""

    def __init__(
        self,
        engine: JobEngine,
        *,
        group: str,
        limits: WorkerLimits,
        hurry: asyncio.Event,
        partitions: Callable[[], Collection[OwnedPartition]],
        commit: Callable[[], Awaitable[None]],
    ) -> None:
        """`commit` brings what is known into the log; raises TimeoutError and aiokafka's errors."""
        self._engine = engine
        self._group = group
        self._limits = limits
        self._hurry = hurry
        self._partitions = partitions
        self._commit = commit
        self._not_before_s = 0.0
        """When suspects may be tried again (the loop's time): a job that runs for long lets none be alone."""

    async def run(self) -> None:
        """Name, then start what waits for its name, until cancelled."""
        watch, loop = self._engine.crash_watch, asyncio.get_running_loop()
        while True:
            await self._wait_for_jobs()
            if watch.has_suspects() and loop.time() >= self._not_before_s and not await self._run_suspects():
                self._not_before_s = loop.time() + self._limits.alone_s
                loop.call_later(self._limits.alone_s, watch.wanted.set)
            jobs = watch.admit(self._engine.records.is_blocked)
            if not jobs:
                continue
            if await self._commit_names():
                self._engine.start_at_once(jobs)
            else:
                watch.take_back(jobs)

    async def _wait_for_jobs(self) -> None:
        watch = self._engine.crash_watch
        try:
            async with asyncio.timeout(LOOK_AGAIN_S if watch.has_waiting() else None):
                await watch.wanted.wait()
        except TimeoutError:
            pass
        watch.wanted.clear()

    async def _run_suspects(self) -> bool:
        """One after the other, with nothing beside them; false when a job that runs on does not allow it.

        Then they wait, and the others go on meanwhile: nothing else would start for as long as that job takes.
        """
        watch = self._engine.crash_watch
        watch.pause()
        try:
            is_alone = await self._engine.wait_idle(self._partitions(), self._limits.suspect_wait_s, self._hurry)
            while is_alone and (job := watch.next_suspect(is_alone=is_alone)) is not None:
                if is_blocked := self._engine.is_blocked(job):
                    watch.let_wait(job)
                if not await self._commit_names():
                    watch.suspect_again(job)
                    break
                self._engine.start_at_once([job])
                if is_blocked:
                    continue
                log.warning("job runs alone: a worker ended while it ran", id=job.id, type=job.type)
                is_alone = await self._engine.wait_over(job, self._limits.alone_s)
                watch.acquit(job)
            return is_alone
        finally:
            self._engine.resume()

    async def _commit_names(self) -> bool:
        """Commit what is known now; false (after a pause) when the log does not take it."""
        try:
            await self._commit()
        except (KafkaError, TimeoutError) as error:
            log.warning("jobs not named yet", group=self._group, error=repr(error))
            await asyncio.sleep(NAMING_BACKOFF_S)
            return False
        return True
