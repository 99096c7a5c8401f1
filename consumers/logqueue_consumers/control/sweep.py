"""Which commands about jobs stand for nothing any more. Pure: what is known of the jobs comes in.

A worker withdraws a command when the job's outcome is durable. What is left are commands that came a moment after the
job's end, about jobs that never existed, and those of a worker that died in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from logqueue.jobs.control import CANCEL, RUN_NOW, ControlState

GRACE_MS = 60_000
"""Younger commands are left to the worker."""
UNKNOWN_MS = 24 * 3600 * 1000
"""Commands about jobs that nobody has heard of stand this long."""
MOVED_MS = 30 * 24 * 3600 * 1000
"""What keeps a parked record from running beside its next round stands until a worker obeys, or this long."""
MAX_SWEPT = 10_000
"""In one round."""


class Known(NamedTuple):
    """What the view knows of a job."""

    replay: int
    is_terminal: bool


def stale_keys(state: ControlState, *, now_ms: int, look: Callable[[str], Known | None]) -> list[str]:
    """Keys of the commands to withdraw, at most MAX_SWEPT."""
    stale: list[str] = []
    for key, job_id, replay, at_ms in _commands(state):
        if len(stale) >= MAX_SWEPT:
            break
        grace_ms = MOVED_MS if key == CANCEL + job_id and state.cancels[job_id].is_moved else GRACE_MS
        if at_ms > now_ms - grace_ms:
            continue
        known = look(job_id)
        if known is None:
            if at_ms <= now_ms - UNKNOWN_MS:
                stale.append(key)
        elif known.replay > replay or (known.replay == replay and known.is_terminal):
            stale.append(key)
    return stale


def _commands(state: ControlState) -> Iterator[tuple[str, str, int, int]]:
    for job_id, cancel in state.cancels.items():
        yield CANCEL + job_id, job_id, cancel.replay, cancel.at_ms
    for job_id, command in state.run_nows.items():
        yield RUN_NOW + job_id, job_id, command.replay, command.at_ms
