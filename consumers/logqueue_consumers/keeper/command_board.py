"""Operator commands that stand, for keepers: the worker's loop hangs them up, the keepers' thread reads them.

Commands live in `jobs.control` until they are withdrawn, so nothing is lost here: whoever takes a partition over finds
on its own board what stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from logqueue.jobs.control import Cancel, RunNow


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """What stands, by job id. Each concerns one replay of a job."""

    cancels: Mapping[str, Cancel] = field(default_factory=dict)
    run_nows: Mapping[str, RunNow] = field(default_factory=dict)

    def cancel_of(self, job_id: str, replay: int) -> Cancel | None:
        """The command to cancel this replay of the job."""
        found = self.cancels.get(job_id)
        return found if found is not None and found.replay >= replay else None

    def runs_now(self, job_id: str, replay: int, since_ms: int) -> bool:
        """Whether it is not to wait any longer, as it does since then."""
        found = self.run_nows.get(job_id)
        return found is not None and found.replay == replay and since_ms <= found.at_ms


class CommandBoard:
    """The commands that stand now. Replaced as a whole, so reading needs no lock."""

    def __init__(self) -> None:
        self.commands = Commands()
        self.version = 0
        self.on_change: Callable[[], None] | None = None
        """Called in the writer's thread when something was hung up."""

    @property
    def stands(self) -> bool:
        """Whether any command stands."""
        return bool(self.commands.cancels or self.commands.run_nows)

    def hang(self, *, cancels: Mapping[str, Cancel], run_nows: Mapping[str, RunNow]) -> None:
        """These stand from now on, and no others."""
        self.commands = Commands(cancels=dict(cancels), run_nows=dict(run_nows))
        self.version += 1
        if self.on_change is not None:
            self.on_change()
