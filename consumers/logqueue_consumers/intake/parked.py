"""Jobs of an unknown type that wait in the parked topic: known by name, so that a command finds them. No IO.

Their offsets stay unfinished, so a worker that knows the type gets them; their values are not kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from logqueue_consumers.partitions.partition import Standing

if TYPE_CHECKING:
    from logqueue_consumers.job import Job
    from logqueue_consumers.outcome import Outcome

log = structlog.get_logger(__name__)

MAX_PARKED: Final = 20_000
"""Jobs that are known by name, about 1.5 KiB each. A command finds the others when a worker starts after it."""


class ParkedJobs:
    """The parked jobs of a worker's partitions."""

    def __init__(self) -> None:
        self._jobs: set[Job] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    def keep(self, job: Job) -> None:
        """It waits from now on; its value is out of hand."""
        partition = job.partition
        partition.window.wait(job.offset)
        partition.bytes_in_hand -= job.size
        if len(self._jobs) >= MAX_PARKED:
            return
        job.size = 0
        job.record = msgspec.structs.replace(job.record, value=None)
        self._jobs.add(job)
        if len(self._jobs) == MAX_PARKED:
            log.warning("too many parked jobs: commands do not find the rest before a worker starts", known=MAX_PARKED)

    def take(self, end: Callable[[Job], Outcome | None]) -> list[Outcome]:
        """How jobs end that do not wait any more."""
        able = [job for job in self._jobs if job.partition.standing is Standing.OWNED and not job.partition.is_stopping]
        ended = {job: outcome for job in able if (outcome := end(job)) is not None}
        self._jobs.difference_update(ended)
        return list(ended.values())

    def drop_stopping(self) -> None:
        """Forget the jobs of partitions where none starts any more: should one come back, it is read again."""
        self._jobs = {job for job in self._jobs if not job.partition.is_stopping}
