"""The connection of blocking code to the log: a thread with a loop. Shell."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from typing import Final

from logqueue.jobs.app import App
from logqueue.jobs.client import JobClient

START_TIMEOUT_S: Final = 10.0


class Line:
    """A connection to the log with a loop and a thread of its own: one process's, over one app's settings."""

    def __init__(self, app: App) -> None:
        self.pid = os.getpid()
        self.settings = app.settings
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="logqueue-celery", daemon=True)
        self.thread.start()

        async def make() -> JobClient:
            return JobClient(app.settings, partitions_of=app.partitions_of, clock=app.clock)

        self.client = asyncio.run_coroutine_threadsafe(make(), self.loop).result(START_TIMEOUT_S)
        atexit.register(self._at_exit)

    def close(self) -> None:
        """End it."""
        atexit.unregister(self._at_exit)
        asyncio.run_coroutine_threadsafe(self.client.close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _at_exit(self) -> None:
        """Programs of Celery's users close nothing."""
        if self.pid == os.getpid():
            self.close()
