"""Bulk changes that take a while: started by a request, looked at by others. In memory of this API process.

An operation that ends with its process is simply asked for again: every step of it may be repeated. That it began and
how it ended is in `jobs.audit`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from logqueue.clock import Clock
from logqueue_api.rest.problems import Problem, as_problem, unavailable
from logqueue_api.rest.wire import time_text

MAX_KEPT: Final = 200
MAX_RUNNING: Final = 4

_log = structlog.get_logger("logqueue.api")


@dataclass(slots=True)
class Operation:
    """A bulk change and how far it has come. `counts` are told as they are."""

    id: str
    what: str
    by: str
    dry_run: bool
    started_ms: int
    counts: dict[str, int] = field(default_factory=dict)
    own: list[str] = field(default_factory=list)  # ids under which conflicts run as jobs of their own
    state: str = "running"  # running, done, stopped, failed
    detail: str | None = None
    finished_ms: int | None = None
    problem: Problem | None = None

    def add(self, name: str, number: int = 1) -> None:
        """Count."""
        self.counts[name] = self.counts.get(name, 0) + number

    def stop(self, why: str) -> None:
        """It ends before everything was done, on purpose."""
        self.state, self.detail = "stopped", why

    def document(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "id": self.id,
            "operation": self.what,
            "state": self.state,
            "by": self.by,
            "dry_run": self.dry_run,
            "counts": self.counts,
            "own": self.own,
            "detail": self.detail,
            "started_at": time_text(self.started_ms * 1000),
            "finished_at": None if self.finished_ms is None else time_text(self.finished_ms * 1000),
        }


class Operations:
    """The operations of this process: those that run, and the last that ended."""

    def __init__(self, clock: Clock, *, bootstrap: str) -> None:
        self._clock = clock
        self._bootstrap = bootstrap
        self._known: OrderedDict[str, Operation] = OrderedDict()
        self._tasks: dict[asyncio.Task[None], Operation] = {}

    def find(self, id_: str) -> Operation | None:
        """An operation of this process, or None."""
        return self._known.get(id_)

    def start(
        self, what: str, *, by: str, dry_run: bool, work: Callable[[Operation], Awaitable[None]]
    ) -> tuple[Operation, asyncio.Task[None]]:
        """Begin; 503 while MAX_RUNNING run already."""
        if len(self._tasks) >= MAX_RUNNING:
            raise unavailable(f"{len(self._tasks)} operations run already; try again when one has ended")
        operation = Operation(uuid.uuid4().hex, what, by, dry_run, self._clock.time_ms())
        self._known[operation.id] = operation
        while len(self._known) > MAX_KEPT:
            self._known.popitem(last=False)
        task = asyncio.create_task(self._run(operation, work), name=f"operation {operation.id}")
        self._tasks[task] = operation
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        return operation, task

    async def close(self) -> None:
        """Cut short what runs."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, operation: Operation, work: Callable[[Operation], Awaitable[None]]) -> None:
        try:
            await work(operation)
            if operation.state == "running":
                operation.state = "done"
        except asyncio.CancelledError:
            operation.stop("the API process ended")
            raise
        except Exception as error:
            problem = as_problem(error, bootstrap=self._bootstrap)
            if problem is None:
                _log.error("an operation failed", operation=operation.what, exc_info=error)
            operation.state, operation.problem = "failed", problem
            operation.detail = problem.detail if problem is not None else "the API failed; its log has the reason"
        finally:
            operation.finished_ms = self._clock.time_ms()
