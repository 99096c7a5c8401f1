"""What an engine counts of the jobs that it ran. No IO."""

from __future__ import annotations

from dataclasses import dataclass

from logqueue_schemas.job_status import State


@dataclass(slots=True)
class Counts:
    """How jobs ended since the start, by the engine that ran them."""

    succeeded: int = 0
    dead: int = 0
    parked: int = 0
    scheduled: int = 0
    expired: int = 0
    cancelled: int = 0
    retried: int = 0
    """Failed attempts that are followed by another."""
    interrupted: int = 0

    def count(self, state: State) -> None:
        """One more job that left for this state."""
        if state is State.DEAD:
            self.dead += 1
        elif state is State.PARKED:
            self.parked += 1
        elif state is State.SCHEDULED:
            self.scheduled += 1
        elif state is State.EXPIRED:
            self.expired += 1
        elif state is State.CANCELLED:
            self.cancelled += 1

    @property
    def finished(self) -> int:
        """Jobs that reached a terminal state here."""
        return self.succeeded + self.dead + self.expired + self.cancelled
