"""Whether a worker gets on with its work: alive but not consuming is the failure that process probes miss. No IO.

A worker is stuck when for `patience_s` nothing was taken, started or ended although the log holds records for it that
it could take, and no job that runs is within its time. Waiting is not being stuck: jobs that are delayed, held by a
pause or a limit, or run for hours are what the worker is there for. An idle worker has no work. A log that does not
answer is told, and is nobody's fault here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is seen of a worker at one moment. `steps` grows with every record taken, job started and job ended."""

    steps: int
    available: int
    """Records behind the last one taken, in partitions that have room and are not paused."""
    within_time: int
    """Running jobs whose time is not up."""
    is_member: bool
    """Whether the group counts this worker in, as far as the group says."""
    log_error: str | None = None
    """Why the log could not be asked."""
    lost_threads: int | None = None
    """How many threads there are, if plain handlers that ran out of time hold all of them."""


class Liveness:
    """Judges one worker from what is seen of it now and again."""

    def __init__(self, *, patience_s: float, now_s: float) -> None:
        self._patience_s = patience_s
        self._steps = -1
        self._good_at_s = now_s
        self.problem: str | None = None
        self.log_error: str | None = None

    def look(self, sight: Sight, now_s: float) -> str | None:
        """Take in what is seen; returns the problem, None when there is none."""
        has_moved = sight.steps != self._steps
        self._steps = sight.steps
        self.log_error = sight.log_error
        trouble = _trouble(sight, has_moved=has_moved)
        if trouble is None:
            self._good_at_s = now_s
            self.problem = None
        elif (seconds := now_s - self._good_at_s) >= self._patience_s:
            self.problem = f"no progress for {seconds:.0f} s: {trouble}"
        return self.problem


def _trouble(sight: Sight, *, has_moved: bool) -> str | None:
    """What would be wrong if it stayed so."""
    if sight.lost_threads is not None:
        return f"plain handlers that ran out of time hold all {sight.lost_threads} threads"
    if has_moved or sight.within_time or sight.log_error is not None:
        return None
    if not sight.is_member:
        return "the group does not count this worker in"
    return f"{sight.available} records wait" if sight.available else None
