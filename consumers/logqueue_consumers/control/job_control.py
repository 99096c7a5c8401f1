"""Operator commands about single jobs, carried out by the worker that has the job: cancel and run-now.

| the job is                      | cancel                                                | run-now                |
|---------------------------------|-------------------------------------------------------|------------------------|
| not read yet                    | ends when it is read, without running                 | runs when it is read   |
| waiting here (lane, time, gate) | ends at once                                          | does not wait for time |
| running, `async` or isolated    | its task is cancelled, again until it ends            | -                      |
| running in a thread             | `ctx.cancelled` says so; its timeout ends the waiting | -                      |
| parked: its type is unknown     | ends at once                                          | -                      |

What a handler returns in spite of a cancel counts. A command is withdrawn when the outcome of its job is durable. Costs
nothing while no command stands: the gate is taken out of the engine then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
from logqueue_schemas.job_status import TERMINAL, State

from logqueue.clock import Clock
from logqueue.jobs.control import CANCEL, RUN_NOW, Cancel, Change, ControlState
from logqueue_consumers.control.cancelled import cancelled
from logqueue_consumers.gates import Finish, Verdict
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.writing.outgoing import Outgoing

if TYPE_CHECKING:
    from logqueue_consumers.control.tail import ControlTail
    from logqueue_consumers.engine import JobEngine

log = structlog.get_logger(__name__)

WAITING = frozenset({State.SCHEDULED, State.RUNNING})


class JobControl:
    """Carries out the commands that a control tail tells of; a gate of the engine while any stands."""

    def __init__(self, engine: JobEngine, tail: ControlTail, *, topic: str, clock: Clock) -> None:
        self._engine = engine
        self._tail = tail
        self._topic = topic
        self._clock = clock
        self._is_on = False
        tail.listeners.append(self._on_changes)
        engine.may_run_early = self._may_run_early
        engine.parked_end = self._parked_end
        engine.durable_hooks.append(self._on_durable)
        self._switch()

    @property
    def _state(self) -> ControlState:
        return self._tail.state

    def check(self, job: Job, now_ms: int) -> Verdict | None:
        """A cancelled job ends without running."""
        cancel = self._state.cancel_of(job.id, job.headers.replay)
        return None if cancel is None else Finish(_ended(job, cancel, now_ms))

    def _parked_end(self, job: Job) -> Outcome | None:
        cancel = self._state.cancel_of(job.id, job.headers.replay)
        return None if cancel is None else _ended(job, cancel, self._clock.time_ms())

    def _may_run_early(self, job: Job) -> bool:
        waits_since_ms = job.started_us // 1000 if job.is_over else job.record.timestamp
        return self._state.run_now_of(job.id, job.headers.replay, waits_since_ms=waits_since_ms) is not None

    def _on_changes(self, changes: Sequence[Change]) -> None:
        kinds = {change.kind for change in changes if change.is_set}
        self._switch()
        if CANCEL in kinds:
            state = self._state
            stopped = self._engine.cancel_running(lambda job: state.cancel_of(job.id, job.headers.replay))
            log.info("jobs cancelled by command", commands=len(changes), running=stopped)
            self._engine.review()
        if RUN_NOW in kinds:
            self._engine.hasten()

    def _switch(self) -> None:
        """Stand in the engine's way only while there is a command."""
        is_on = bool(self._state.cancels or self._state.run_nows)
        if is_on and not self._is_on:
            self._engine.gates.insert(0, self)
        elif self._is_on and not is_on:
            self._engine.gates.remove(self)
        self._is_on = is_on

    def _on_durable(self, outcomes: Sequence[Outcome]) -> None:
        """With the end of a job its commands end; a run-now does with any outcome, since it has been obeyed.

        Not in the outcome's own records: at least once, those are written before it, and a crash in between would
        lose the command and not the job. A command that a crash leaves standing is swept by the API.
        """
        if not self._is_on:
            return
        gone: list[Outgoing] = []
        for outcome in outcomes:
            job = outcome.job
            if outcome.state in TERMINAL and self._state.cancel_of(job.id, job.headers.replay) is not None:
                gone.append(self._tombstone(CANCEL + job.id))
            if outcome.state not in WAITING and job.id in self._state.run_nows:
                gone.append(self._tombstone(RUN_NOW + job.id))
        if gone and not self._engine.outbox.emit(gone):
            log.warning("commands not withdrawn: too many records wait", commands=len(gone))

    def _tombstone(self, key: str) -> Outgoing:
        return Outgoing(self._topic, 0, key.encode(), None, [], self._clock.time_ms())


def _ended(job: Job, cancel: Cancel, now_ms: int) -> Outcome:
    """The end of a job that has not begun; without a status where its next round has one already."""
    outcome = cancelled(job, cancel, now_us=now_ms * 1000)
    outcome.is_silent = cancel.is_moved
    return outcome
