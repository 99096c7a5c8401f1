"""A bounded pool of daemon threads for plain `def` handlers. Knows no jobs.

Python cannot stop a thread. These are daemons, so a handler that never returns does not keep a stopping worker alive
(the interpreter would join the threads of `concurrent.futures` at exit).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from typing import Any

_Call = tuple[asyncio.Future[Any], Context, Callable[[], Any]]


class ThreadPool:
    """At most `limit` threads, started when they are first needed."""

    def __init__(self, limit: int) -> None:
        assert limit > 0, "a pool needs a thread"
        self.limit = limit
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._pending = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.abandoned_count = 0
        """Threads whose call goes on though nobody waits for it any more."""
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, context: Context, function: Callable[[], Any]) -> Any:
        """Call the function in a thread and in this context. Cancelling stops the waiting, not the thread."""
        self._loop = loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._pending += 1
        if self._pending > len(self._threads) and len(self._threads) < self.limit:
            thread = threading.Thread(target=self._work, name=f"job-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._calls.put((future, context, function))
        try:
            return await future
        except asyncio.CancelledError:
            self.abandoned_count += 1
            raise

    @property
    def is_full(self) -> bool:
        """Whether the next call would have to wait for a thread."""
        return self._pending >= self.limit or bool(self._waiters)

    async def wait_for_one(self) -> None:
        """Wait in line until a thread is free; the call has to follow at once."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._wake_next()  # it was our turn
            raise

    @property
    def busy_count(self) -> int:
        """Calls that run or wait for a thread, those included whose waiting was cancelled."""
        return self._pending

    def stop(self) -> None:
        """Let idle threads end; busy ones end with their call."""
        for _ in self._threads:
            self._calls.put(None)
        self._threads.clear()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, context, function = call
            if future.cancelled():
                self._report(None, future)
                continue
            try:
                result = context.run(function)
            except BaseException as error:  # SystemExit of a handler ends its job, not the thread
                # PEP 479: a future refuses StopIteration, which a coroutine would turn into this too.
                raised = RuntimeError(f"handler raised {error!r}") if isinstance(error, StopIteration) else error
                self._report(partial(_fail, future, raised), future)
                del error, raised
            else:
                self._report(partial(_succeed, future, result), future)
                del result
            del call, future, context, function

    def _report(self, settle: Callable[[], object] | None, future: asyncio.Future[Any]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._settle, settle, future)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _settle(self, settle: Callable[[], object] | None, future: asyncio.Future[Any]) -> None:
        self._pending -= 1
        if future.cancelled():
            self.abandoned_count -= 1
        elif settle is not None:
            settle()
        if self._waiters:
            self._wake_next()

    def _wake_next(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


def _succeed(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
