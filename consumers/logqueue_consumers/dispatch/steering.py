"""Puts a dispatcher between a worker's engine and its runners when something asks for it, and keeps it up to date.

A worker whose queues have no priorities, limits, weights or unordered tenants to be fair to does without, until an
operator commands something: then the ready jobs move over, and the running ones count from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from logqueue_consumers.dispatch.dispatcher import Dispatcher
from logqueue_consumers.dispatch.kill_switch import KillSwitches
from logqueue_consumers.dispatch.placing import Commands, Placing

if TYPE_CHECKING:
    from logqueue.clock import Clock
    from logqueue.jobs.app import App
    from logqueue.jobs.control import Change
    from logqueue_consumers.control.tail import ControlTail
    from logqueue_consumers.engine import JobEngine
    from logqueue_consumers.limits import WorkerLimits

log = structlog.get_logger(__name__)

_KINDS = frozenset({"pause/", "limit/", "weight/"})
_KILLS = frozenset({"kill/"})


class Steering:
    """What operators and declarations say about the order of a worker's jobs, applied to its engine."""

    def __init__(
        self,
        engine: JobEngine,
        app: App,
        control: ControlTail,
        *,
        partitions: Mapping[str, int],
        limits: WorkerLimits,
        clock: Clock,
    ) -> None:
        """`partitions` are the counts of the job topics of the queues that the worker runs."""
        self._engine = engine
        self._control = control
        self._clock = clock
        self._app = app
        self._queues = tuple(partitions)
        self._placing = Placing(app.queues, engine.shards, partitions, clock.monotonic())
        self._dispatcher = Dispatcher(self._placing, concurrency=limits.concurrency, clock=clock, wake=engine.wake)
        self._kills = KillSwitches()
        self._is_used = False
        if any(needs_dispatcher(app, queue) for queue in partitions):
            self._use()
        self._apply_commands()
        self._apply_kills()
        control.listeners.append(self._on_changes)

    def _on_changes(self, changes: Sequence[Change]) -> None:
        kinds = {change.kind for change in changes}
        if kinds & _KINDS:
            self._apply_commands()
        if kinds & _KILLS:
            self._apply_kills()

    def _apply_commands(self) -> None:
        commands = Commands.of(self._control.state)
        if commands == self._placing.commands:
            return
        self._placing.commands = commands
        log.info("limits, weights and pauses changed", paused=len(commands.paused), limits=len(commands.limits))
        if self._is_used:
            self._dispatcher.replace(self._clock.monotonic())
        else:
            self._use()
        self._look_for_bounds()
        self._engine.pause_queues(frozenset(name for kind, name, *_ in commands.paused if kind == "queue"))
        self._engine.records.commands_changed()
        self._engine.wake()

    def _apply_kills(self) -> None:
        """Kill switches are a gate: none where none is thrown, so that they cost nothing."""
        had_any = bool(self._kills)
        self._kills.set(self._control.state)
        if bool(self._kills) != had_any:
            (self._engine.gates.remove if had_any else self._engine.gates.append)(self._kills)
        if self._kills:
            self._engine.review()

    def _use(self) -> None:
        self._is_used = True
        self._engine.use(self._dispatcher)
        self._look_for_bounds()

    def _look_for_bounds(self) -> None:
        """Where nothing can block a job, nobody has to ask."""
        has_bounds = self._placing.has_bounds(self._app, self._queues)
        self._engine.records.is_blocked = self._dispatcher.is_blocked if has_bounds else None


def needs_dispatcher(app: App, queue: str) -> bool:
    """Whether the declarations of a queue ask for more than the order of arrival."""
    declared = app.queues[queue]
    return bool(
        declared.priorities
        or declared.limits
        or declared.weights
        or (declared.fair and declared.order == "none")
        or any(definition.limits for definition in app.jobs.values() if definition.queue == queue)
    )
