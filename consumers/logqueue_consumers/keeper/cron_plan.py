"""What becomes of one schedule at a moment: which runs begin, what is skipped, when it is looked at next. Pure.

| `missed` | runs older than a minute that nobody was there for |
|----------|----------------------------------------------------|
| skip     | none                                               |
| latest   | the last one, unless a later run is on time        |
| all      | the last `cap`                                     |

| `overlap` | a run while the one before has not ended |
|-----------|------------------------------------------|
| allow     | begins                                   |
| skip      | is left out                              |
| buffer    | one waits for the end, more are left out |

A run whose end was never told (its records were deleted) holds others up no longer than a week.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from logqueue.jobs.schedules import Schedule, State, basis_of

ON_TIME_MS = 60_000
"""A run that begins this late is not missed yet: it covers the change of owners."""
HOLD_MS = 7 * 86_400_000
MAX_RUNNING = 100
"""Runs of one schedule that are remembered; only run-nows can make more than two at once."""


class Run(NamedTuple):
    """A job to be made."""

    job_id: str
    scheduled_ms: int


class Plan(NamedTuple):
    """The state from now on, and the jobs that begin."""

    state: State
    runs: list[Run]


def wake_of(schedule: Schedule, state: State) -> int | None:
    """When the schedule wants to be looked at; None while nothing is due by itself."""
    return None if state.next is None else state.next + schedule.delay_of(state.next)


def plan(
    schedule: Schedule,
    state: State | None,
    now_ms: int,
    *,
    is_paused: bool,
    ended: Iterable[str] = (),
    run_now: Iterable[str] = (),
) -> Plan:
    """The schedule at `now_ms`. `ended` are ids of jobs that have ended, `run_now` names runs that were asked for."""
    known = state if state is not None else State()
    basis, rhythm = basis_of(schedule, is_paused=is_paused), schedule.recurrence.key
    is_held = schedule.overlap != "allow"
    over = set(ended)
    running = {id_: at for id_, at in known.running.items() if id_ not in over and now_ms - at < HOLD_MS}
    upcoming, buffered = known.next, known.buffered if is_held else None
    if basis != known.basis:
        if is_paused:
            upcoming = buffered = None
        elif rhythm != known.rhythm or upcoming is None:
            upcoming = schedule.recurrence.next_after(now_ms)
    times, upcoming = _due(schedule, upcoming, now_ms)
    runs: list[Run] = [Run(f"{schedule.name}@run-{name}", now_ms) for name in run_now]
    skipped = 0
    if buffered is not None and not running:
        times, buffered = [buffered, *times], None
    for time_ms in times:
        if not is_held or not (running or runs):
            runs.append(Run(schedule.job_id(time_ms), time_ms))
        elif schedule.overlap == "buffer" and buffered is None:
            buffered = time_ms
        else:
            skipped += 1
    if is_held:
        running.update((run.job_id, now_ms) for run in runs)
        running = dict(list(running.items())[-MAX_RUNNING:])
    changed = State(
        basis=basis,
        rhythm=rhythm,
        next=upcoming,
        last=runs[-1].scheduled_ms if runs else known.last,
        last_id=runs[-1].job_id if runs else known.last_id,
        running=running if is_held else {},
        buffered=buffered,
        fired=known.fired + len(runs),
        skipped=known.skipped + skipped,
    )
    return Plan(changed, runs)


def _due(schedule: Schedule, upcoming: int | None, now_ms: int) -> tuple[list[int], int | None]:
    """The times that are to be run now, in order, and the next one that is not due."""
    if upcoming is None or upcoming + schedule.delay_of(upcoming) > now_ms:
        return [], upcoming
    rhythm = schedule.recurrence
    found = rhythm.latest(after=upcoming - 1, until=now_ms, limit=schedule.cap + 1)
    due: list[int] = []
    for time_ms in found:
        if time_ms + schedule.delay_of(time_ms) > now_ms:
            return _wanted(schedule, due, now_ms), time_ms  # jitter: not yet
        due.append(time_ms)
    return _wanted(schedule, due, now_ms), rhythm.next_after(now_ms)


def _wanted(schedule: Schedule, due: list[int], now_ms: int) -> list[int]:
    on_time = [time_ms for time_ms in due if time_ms + schedule.jitter_ms >= now_ms - ON_TIME_MS]
    missed = due[: len(due) - len(on_time)]
    if schedule.missed == "skip" or (schedule.missed == "latest" and on_time):
        missed = []
    elif schedule.missed == "latest":
        missed = missed[-1:]
    return (missed + on_time)[-schedule.cap :]
