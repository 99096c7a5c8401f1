"""Isolated jobs of a worker: what is sent of a job to a process, and the pool, made for the first such job. Shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from logqueue.jobs.context import JobContext
from logqueue_consumers.processes.app_path import AppPath
from logqueue_consumers.processes.frames import Call
from logqueue_consumers.processes.pool import ProcessPool

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue.jobs.definition import JobDefinition

FACTS = tuple(name for name in JobContext.__struct_fields__ if name != "_services")


class IsolatedJobs:
    """Runs jobs of one App in its pool of processes."""

    def __init__(self, app: App, *, limit: int, grace_s: float) -> None:
        self._pool = ProcessPool(AppPath.of(app), settings=app.settings, limit=limit, grace_s=grace_s)

    async def run(
        self,
        definition: JobDefinition[..., Any],
        ctx: JobContext | None,
        arguments: msgspec.Struct,
        *,
        on_start: Callable[[], None],
    ) -> msgspec.Raw | None:
        """The result of one job as JSON; see ProcessPool.run for what it raises and what cancelling does."""
        facts = None if ctx is None else {name: getattr(ctx, name) for name in FACTS}
        call = Call(definition.type, definition.codec.encode_json(arguments), facts)
        services = None if ctx is None else ctx._services
        can_hear = definition.is_async or definition.takes_context
        result = await self._pool.run(call, services, can_hear=can_hear, on_start=on_start)
        return None if result is None else msgspec.Raw(result)

    async def stop(self) -> None:
        """End the processes."""
        await self._pool.stop()
