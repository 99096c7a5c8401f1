"""What waits to be written by the outbox, and what became of it. No IO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.partitions.partition import Standing
from logqueue_consumers.writing.outgoing import Outgoing


@dataclass(slots=True)
class Pending:
    """What waits to be written, in order."""

    outcomes: Sequence[Outcome] = ()
    started: Sequence[Job] = ()
    """Jobs whose `running` status is due."""
    emitted: Sequence[Outgoing] = ()

    @property
    def count(self) -> int:
        """How much there is: outcomes, starts and single records."""
        return len(self.outcomes) + len(self.started) + len(self.emitted)

    def __add__(self, other: Pending) -> Pending:
        return Pending(
            [*self.outcomes, *other.outcomes], [*self.started, *other.started], [*self.emitted, *other.emitted]
        )


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one step of a delivery came to: outcomes that are durable, and what has to be written again."""

    durable: Sequence[Outcome]
    again: Pending = field(default_factory=Pending)


def settle(pending: Pending) -> Pending:
    """What may be written now: outcomes of partitions that are away are held by them, of lost ones dropped."""
    writable = pending.outcomes
    partitions = {outcome.job.partition for outcome in writable}
    if any(partition.standing is not Standing.OWNED for partition in partitions):
        for outcome in writable:
            if outcome.job.partition.standing is Standing.REVOKED:
                outcome.job.partition.held.append(outcome)
        writable = [outcome for outcome in writable if outcome.job.partition.standing is Standing.OWNED]
    return Pending(
        writable,
        [job for job in pending.started if not job.is_over and job.partition.standing is Standing.OWNED],
        pending.emitted,
    )


class Delivery(Protocol):
    """Who writes what one flush has collected: `AtLeastOnce`, or `ExactlyOnce`."""

    async def deliver(self, pending: Pending) -> Delivered:
        """Write it (all, or the first part), with a `running` status for each job started.

        Waits as long as the log is away: callers bound what they have under way and cancel.
        """
        ...
