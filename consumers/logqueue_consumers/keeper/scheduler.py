"""The machine of `jobs.schedules`: waiting jobs in every partition, the cron schedules in partition 0. No IO."""

from __future__ import annotations

from collections.abc import Callable

from logqueue_schemas.job_status import JobStatus

from logqueue.jobs.topics import TopicNames
from logqueue_consumers.keeper.command_board import CommandBoard
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.machine import KeeperSpec, Kept, Place
from logqueue_consumers.keeper.waiting_jobs import WaitingJobs
from logqueue_consumers.outgoing import Outgoing

LAYOUT = 1


class Scheduler:
    """One partition of `jobs.schedules`."""

    def __init__(self, jobs: WaitingJobs) -> None:
        self._jobs = jobs

    def apply(self, record: Kept) -> None:
        """Fold a record."""
        self._jobs.apply(record)

    def next_due(self) -> int | None:
        """When something is due."""
        return self._jobs.next_due()

    def due(self, now_ms: int, limit: int) -> list[Outgoing]:
        """What is to be written now."""
        return self._jobs.due(now_ms, limit)

    def events_since(self) -> int | None:
        """It needs no events."""
        return None

    def on_event(self, event: Kept) -> list[Outgoing]:
        """It needs no events."""
        return []


def scheduler_spec(names: TopicNames, encode_status: Callable[[JobStatus], bytes], board: CommandBoard) -> KeeperSpec:
    """The keeper of `jobs.schedules`."""

    def make(index: Index, place: Place) -> Scheduler:
        return Scheduler(WaitingJobs(index, place, names=names, encode_status=encode_status, board=board))

    return KeeperSpec(topic=names.schedules, make=make, layout=LAYOUT)
