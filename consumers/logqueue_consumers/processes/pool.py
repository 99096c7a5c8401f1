"""A bounded pool of child processes for isolated jobs: a process is started when it is first needed, and kept.

| what happens                     | what becomes of the process                                                       |
|----------------------------------|-----------------------------------------------------------------------------------|
| the handler returns or raises    | kept for the next job                                                             |
| the worker cannot serve it       | the job has failed; the process is killed: it runs that job still                 |
| the process dies                 | the job has crashed; another process is started when it is needed                 |
| time is up, or it is interrupted | an async job is cancelled, a plain one that takes ctx is asked to end; after half |
|                                  | the grace an exception is raised in it, after the whole grace its process is      |
|                                  | killed. A plain job without ctx hears nothing: it begins with the exception       |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from logqueue.jobs.settings import Settings
from logqueue_consumers.processes import frames
from logqueue_consumers.processes.app_path import AppPath
from logqueue_consumers.processes.process import ChildProcess

if TYPE_CHECKING:
    from logqueue.jobs.context import ContextServices

log = structlog.get_logger(__name__)


class ProcessPool:
    """At most `limit` children of one App. All methods belong to one event loop."""

    def __init__(self, app: AppPath, *, settings: Settings, limit: int, grace_s: float) -> None:
        assert limit > 0, "a pool needs a process"
        self._app = app
        self._settings = settings
        self._grace_s = grace_s
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[ChildProcess] = []
        self._busy: set[ChildProcess] = set()

    async def run(
        self,
        call: frames.Call,
        services: ContextServices | None,
        *,
        can_hear: bool,
        on_start: Callable[[], None],
    ) -> bytes | None:
        """Run one job in a process; `on_start` is called when it has one. Returns the JSON of its result.

        `can_hear` says whether its handler notices that it is asked to end.

        Raises what the handler raised, ProcessDied, ProcessNotStarted. Cancelling ends the job within the grace; a job
        that ends well within it has ended well.
        """
        async with self._slots:
            child = self._idle.pop() if self._idle else await ChildProcess.start(self._app, self._settings)
            self._busy.add(child)
            on_start()
            running = asyncio.ensure_future(child.run(call, services))
            try:
                try:
                    await asyncio.wait((running,))
                except asyncio.CancelledError:
                    if not await self._wind_up(child, running, can_hear=can_hear):
                        raise
                return running.result()
            finally:
                self._busy.discard(child)
                if child.is_free and child.is_alive:
                    self._idle.append(child)
                else:
                    running.cancel()
                    await child.end()

    @property
    def pids(self) -> list[int]:
        """The processes there are."""
        return [child.pid for child in (*self._idle, *self._busy)]

    async def stop(self) -> None:
        """End all processes."""
        children = [*self._idle, *self._busy]
        self._idle.clear()
        await asyncio.gather(*(child.end() for child in children))

    async def _wind_up(self, child: ChildProcess, running: asyncio.Future[bytes | None], *, can_hear: bool) -> bool:
        """End a job that is cancelled; true when it ended well after all. A second cancellation kills at once."""
        try:
            for is_hard in (False, True) if can_hear else (True,):
                child.ask_to_stop(is_hard=is_hard)
                await asyncio.wait((running,), timeout=self._grace_s / 2)
                if running.done():
                    break
        except asyncio.CancelledError:
            pass  # the same request again: nothing is waited for any more
        if not running.done():
            log.warning("an isolated job does not end when it is asked to: its process is killed", pid=child.pid)
            return False
        return running.exception() is None
