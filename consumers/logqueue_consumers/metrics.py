"""A worker at one moment, in numbers. No IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from logqueue_consumers.counts import Counts

if TYPE_CHECKING:
    from logqueue_consumers.membership.group_member import GroupMember
    from logqueue_consumers.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMetrics:
    """A worker at one moment."""

    group: str
    worker: str
    partitions: int
    succeeded: int
    dead: int
    parked: int
    expired: int
    cancelled: int
    retried: int
    interrupted: int
    running: int
    ready: int
    """Taken, waiting for a runner."""
    delayed: int
    """Held in memory until due."""
    unfinished: int
    lag: int
    """Records in the assigned partitions that are not finished, as far as the worker has seen the log's end."""
    breakers: Mapping[str, str]
    """closed, open or half-open, by name."""


def measure(bench: Workbench, member: GroupMember | None) -> WorkerMetrics:
    """What a worker has done and has in hand, now or at its end."""
    engine = bench.engine
    counts = engine.counts if engine is not None else Counts()
    return WorkerMetrics(
        group=bench.group,
        worker=bench.name,
        partitions=len(member.partitions) if member is not None else 0,
        succeeded=counts.succeeded,
        dead=counts.dead,
        parked=counts.parked,
        expired=counts.expired,
        cancelled=counts.cancelled,
        retried=counts.retried,
        interrupted=counts.interrupted,
        running=engine.running_count if engine is not None else 0,
        ready=engine.ready_count if engine is not None else 0,
        delayed=engine.delayed_count if engine is not None else 0,
        unfinished=engine.records.unfinished_count if engine is not None else 0,
        lag=member.lag() if member is not None else 0,
        breakers={} if bench.breakers is None else dict(bench.breakers.states()),
    )
