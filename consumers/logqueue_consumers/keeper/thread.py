"""Keepers in a thread of their own: a handler that blocks the worker's loop delays no due time of others. Shell."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import structlog

from logqueue_consumers.keeper.keepers import Keepers

log = structlog.get_logger(__name__)

STOP_TIMEOUT_S = 10.0


class KeeperThread:
    """Runs keepers until it is stopped."""

    def __init__(self, make: Callable[[], Keepers]) -> None:
        """`make` is called in the thread, inside its event loop."""
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._keepers: Keepers | None = None
        self._has_loop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="logqueue-keepers", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    async def stop(self) -> None:
        """Leave the group and end, bounded in time; a thread that does not end falls with the process."""
        self._has_loop.wait(1.0)
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(stopping.set)
            except RuntimeError:
                pass  # it has ended meanwhile
        await asyncio.to_thread(self._thread.join, STOP_TIMEOUT_S)
        if self._thread.is_alive():
            log.warning("keepers did not end in time", seconds=STOP_TIMEOUT_S)

    def wake(self) -> None:
        """Something that the machines look at has changed; from any thread."""
        loop, keepers = self._loop, self._keepers
        if loop is not None and keepers is not None:
            try:
                loop.call_soon_threadsafe(keepers.wake)
            except RuntimeError:
                pass  # it has ended

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._has_loop.set()
        keepers = self._keepers = self._make()
        running = asyncio.create_task(keepers.run())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in (running, stopped):
            task.cancel()
        await asyncio.wait((running, stopped))
        if not running.cancelled() and (error := running.exception()) is not None:
            log.error("keepers ended", error=repr(error), exc_info=error)
