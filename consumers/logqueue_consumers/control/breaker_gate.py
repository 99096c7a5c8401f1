"""Circuit breakers in a worker: a gate that holds jobs back while a dependency is left alone. Shell over `Circuit`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import structlog
from logqueue_schemas.job_status import State

from logqueue.clock import Clock, Timer
from logqueue.jobs.breaker import Breaker, BreakerState, Circuit
from logqueue.jobs.errors import ErrorClass
from logqueue_consumers.gates import Hold, Verdict
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome

if TYPE_CHECKING:
    from logqueue.jobs.definition import JobDefinition
    from logqueue_consumers.engine import JobEngine

log = structlog.get_logger(__name__)

COUNTED = frozenset({ErrorClass.TRANSIENT, ErrorClass.TIMEOUT})
"""Failures that may be the dependency's."""


class BreakerGate:
    """The breakers of this process; a gate and a listener of the engine."""

    def __init__(self, engine: JobEngine, breakers: Iterable[Breaker], clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._circuits = {str(breaker.name): Circuit(breaker) for breaker in breakers}
        self._timers: dict[str, Timer] = {}
        if self._circuits:
            engine.gates.append(self)
            engine.ended_hooks.append(self._on_outcome)

    def states(self) -> Mapping[str, BreakerState]:
        """The state of each breaker now."""
        now_s = self._clock.monotonic()
        return {name: circuit.state(now_s) for name, circuit in self._circuits.items()}

    def check(self, job: Job, now_ms: int) -> Verdict | None:
        """A job of an open breaker waits."""
        circuit = self._circuit_of(job)
        if circuit is None or circuit.may_begin(job, self._clock.monotonic()):
            return None
        return Hold(("breaker", str(circuit.breaker.name)))

    def _on_outcome(self, job: Job, outcome: Outcome) -> None:
        circuit = self._circuit_of(job)
        if circuit is None or outcome.state is State.RUNNING:
            return
        name, now_s = str(circuit.breaker.name), self._clock.monotonic()
        if outcome.state is State.SUCCEEDED:
            if circuit.succeeded(job, now_s):
                log.info("breaker closes", breaker=name)
        elif outcome.failure is not None and outcome.failure.error_class in COUNTED:
            if circuit.failed(job, now_s):
                self._opened(circuit)
                return
        else:
            circuit.gave_up(job)
        if name in self._timers:
            # It was open: a place among those that try may be free, or everybody may go on.
            asyncio.get_running_loop().call_soon(self._recheck, name)

    def _opened(self, circuit: Circuit) -> None:
        breaker, name = circuit.breaker, str(circuit.breaker.name)
        log.warning("breaker opens", breaker=name, open_for_s=breaker.open_for_s)
        if (timer := self._timers.get(name)) is not None:
            timer.cancel()
        self._timers[name] = self._clock.call_later(breaker.open_for_s, self._recheck, name)
        self._engine.review()  # jobs that are ready to start wait instead

    def _recheck(self, name: str) -> None:
        if self._circuits[name].state(self._clock.monotonic()) is BreakerState.CLOSED:
            timer = self._timers.pop(name, None)
            if timer is not None:
                timer.cancel()
        self._engine.recheck(("breaker", name))

    def _circuit_of(self, job: Job) -> Circuit | None:
        breaker = job.definition.breaker if job.definition is not None else None
        return None if breaker is None else self._circuits[str(breaker.name)]


def breakers_of(definitions: Iterable[JobDefinition[..., object]]) -> list[Breaker]:
    """The breakers that jobs name, each once."""
    return list({str(d.breaker.name): d.breaker for d in definitions if d.breaker is not None}.values())
