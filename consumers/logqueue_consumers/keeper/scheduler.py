"""The machine of `jobs.schedules`: waiting jobs in every partition, the cron schedules in partition 0. No IO."""

from __future__ import annotations

from collections.abc import Callable

from logqueue_schemas.job_status import JobStatus

from logqueue.jobs.schedules import PARTITION
from logqueue.jobs.topics import TopicNames
from logqueue_consumers.keeper.command_board import CommandBoard
from logqueue_consumers.keeper.cron_schedules import CronSchedules, is_cron
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.machine import KeeperSpec, Kept, Place
from logqueue_consumers.keeper.waiting_jobs import WaitingJobs, is_waiting_job
from logqueue_consumers.writing.outgoing import Outgoing

LAYOUT = 1


class Scheduler:
    """One partition of `jobs.schedules`."""

    def __init__(self, jobs: WaitingJobs, schedules: CronSchedules | None) -> None:
        """`schedules` only where the partition has them."""
        self._jobs = jobs
        self._schedules = schedules

    def apply(self, record: Kept) -> None:
        """Fold a record."""
        if is_waiting_job(record.key):
            self._jobs.apply(record)
        elif self._schedules is not None and is_cron(record.key):
            self._schedules.apply(record)

    def next_due(self) -> int | None:
        """When something is due."""
        jobs = self._jobs.next_due()
        schedules = self._schedules.next_due() if self._schedules is not None else None
        if jobs is None or schedules is None:
            return schedules if jobs is None else jobs
        return min(jobs, schedules)

    def due(self, now_ms: int, limit: int) -> list[Outgoing]:
        """What is to be written now."""
        schedules = self._schedules.due(now_ms, limit) if self._schedules is not None else []
        if schedules and limit == 1:
            return schedules
        return [*schedules, *self._jobs.due(now_ms, limit)]

    def put_off(self, now_ms: int) -> None:
        """The first schedule that is due, else the first job."""
        if self._schedules is None or not self._schedules.put_off(now_ms):
            self._jobs.put_off(now_ms)

    def events_since(self) -> int | None:
        """It needs no events."""
        return None

    def on_event(self, event: Kept) -> list[Outgoing]:
        """It needs no events."""
        return []


def scheduler_spec(names: TopicNames, encode_status: Callable[[JobStatus], bytes], board: CommandBoard) -> KeeperSpec:
    """The keeper of `jobs.schedules`."""

    def make(index: Index, place: Place) -> Scheduler:
        jobs = WaitingJobs(index, place, names=names, encode_status=encode_status, board=board)
        has_schedules = place.partition == PARTITION
        return Scheduler(jobs, CronSchedules(index, place, names=names) if has_schedules else None)

    return KeeperSpec(topic=names.schedules, make=make, layout=LAYOUT)
