"""Work that takes long, in threads with an event loop of their own: it must delay nobody's lookup."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, Final, TypeVar

from logqueue_api.rest.operations import MAX_RUNNING
from logqueue_api.rest.problems import unavailable

T = TypeVar("T")

MAX_SCANS: Final = 2
WAIT_SECONDS: Final = 10.0
"""How long a request waits for others that read whole topics."""

# Not asyncio's own, in which others would wait for these.
_THREADS: Final = ThreadPoolExecutor(MAX_RUNNING + MAX_SCANS, thread_name_prefix="logqueue-aside")


class Scans:
    """Requests that read a whole topic: so many at a time, the others wait."""

    def __init__(self, *, most: int = MAX_SCANS, wait_seconds: float = WAIT_SECONDS) -> None:
        self._places = asyncio.Semaphore(most)
        self._wait_seconds = wait_seconds

    async def run(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Read `aside`. A Problem (503) where others have every place for too long."""
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise unavailable("other requests that read whole topics are under way; try again later") from None
        try:
            return await aside(ask)
        finally:
            self._places.release()


async def aside(ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `ask` answers, from a thread; a cancellation reaches it there."""
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []
    is_cancelled = Event()

    def run() -> T:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            task = loop.create_task(ask())
            running.append((loop, task))
            if is_cancelled.is_set():
                task.cancel()
            return loop.run_until_complete(task)

    future = _THREADS.submit(run)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        is_cancelled.set()
        for loop, task in running:
            _cancel(loop, task)
        raise


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    try:
        loop.call_soon_threadsafe(task.cancel)
    except RuntimeError:
        pass  # it has ended meanwhile, and its loop is closed
