"""Jobs whose Avro schema is not known here yet: they wait until the schema topic was read again, then are judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logqueue_consumers.intake.job_reader import JobReader
    from logqueue_consumers.job import Job


class SchemaWaits:
    """Bounded by the windows of the partitions; `route` is given the jobs once they were read for the last time."""

    def __init__(self, reader: JobReader, refresh: Callable[[], Awaitable[None]], route: Callable[[Job], None]) -> None:
        self._reader = reader
        self._refresh = refresh
        self._route = route
        self._waits: list[Job] = []
        self._in_hand: list[Job] = []
        """For these the schema topic is being read."""
        self._has_any = asyncio.Event()

    def add(self, job: Job) -> None:
        """The job's schema is not known."""
        self._waits.append(job)
        self._has_any.set()

    def drop_stopping(self) -> None:
        """Forget the jobs of partitions where none starts any more: should one come back, it is read again."""
        self._waits = [job for job in self._waits if not job.partition.is_stopping]
        self._in_hand = [job for job in self._in_hand if not job.partition.is_stopping]

    async def run(self, wake: Callable[[], None]) -> None:
        """Read the schema topic again whenever jobs wait for it, until cancelled."""
        while True:
            await self._has_any.wait()
            self._has_any.clear()
            self._in_hand, self._waits = self._waits, []
            await self._refresh()
            jobs, self._in_hand = self._in_hand, []
            for job in jobs:
                if not job.partition.is_stopping:
                    self._route(self._reader.read(job.record, job.partition, is_last_try=True))
            wake()
