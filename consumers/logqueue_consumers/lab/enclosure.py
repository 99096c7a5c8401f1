"""A process within a process: everything that a coroutine starts in an event loop, so that it can be ended at once.

`kill` does what `kill -9` does, as far as one process can to a part of itself: connections are cut without a word and
without what is still in their buffers, tasks are cancelled, and whatever they try on their way out fails, because no
connection opens again. Threads cannot be ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any
from weakref import WeakSet

KILL_PATIENCE_S = 5.0
"""How long killed tasks may take to end."""
CLEANUP_S = 1.0
"""How long they may clean up before they are cancelled again."""
ROUND_S = 0.05

_inside: ContextVar[Enclosure | None] = ContextVar("logqueue_enclosure", default=None)


def is_alive() -> bool:
    """Whether whoever asks runs in no enclosure, or in one that was not killed."""
    inside = _inside.get()
    return inside is None or inside.is_alive


class Enclosure:
    """Tasks and connections that belong together. The loop must be watched: see `EnclosedLoop`."""

    def __init__(self) -> None:
        self.is_alive = True
        self.is_cut = asyncio.Event()
        """Nothing that it says is heard any more."""
        self._writes_left: int | None = None
        self.roots: list[asyncio.Task[Any]] = []
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.transports: WeakSet[Any] = WeakSet()
        self.protocols: WeakSet[Any] = WeakSet()

    def add(self, transport: Any, protocol: Any) -> None:
        """A connection was opened; one that comes too late is cut at once."""
        self.transports.add(transport)
        self.protocols.add(protocol)
        write = transport.write

        def counted_write(data: Any) -> None:
            if self._is_heard():
                write(data)

        transport.write = counted_write
        if not self.is_alive:
            transport.abort()
            _drop_received(protocol)

    def cut_after(self, writes: int) -> None:
        """Let so many more writes (requests, as clients make them) be heard, and nothing else; `kill` comes next."""
        self._writes_left = writes

    def _is_heard(self) -> bool:
        if self._writes_left is None:
            return True
        if self._writes_left > 0:
            self._writes_left -= 1
            return True
        self.is_cut.set()
        return False

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it inside, with all that it starts."""
        context = copy_context()
        context.run(_inside.set, self)
        task = asyncio.get_running_loop().create_task(work, context=context)
        self.roots.append(task)
        return task

    async def kill(self) -> None:
        """End everything at once."""
        self.is_alive = False
        for transport in list(self.transports):
            transport.abort()
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        for task in self.roots:  # these cancel what they have started, each thing once, so that it can clean up
            task.cancel()
        while (rest := self._running()) and (passed_s := loop.time() - begin_s) < KILL_PATIENCE_S:
            if passed_s > CLEANUP_S or all(task.done() for task in self.roots):
                for task in rest:
                    task.cancel()
            await asyncio.wait(rest, timeout=ROUND_S)
        for protocol in list(self.protocols):
            _drop_received(protocol)
        for task in list(self.tasks):
            if task.done() and not task.cancelled():
                task.exception()  # asyncio prints what nobody asks for

    def _running(self) -> set[asyncio.Task[Any]]:
        return {task for task in self.tasks if not task.done()}


def _drop_received(protocol: Any) -> None:
    """Nobody reads what came last: with it in its buffer a stream counts as open, and whoever made it complains."""
    reader = getattr(protocol, "_stream_reader", None)
    if isinstance(reader, asyncio.StreamReader):
        reader.feed_eof()
        reader._buffer.clear()  # type: ignore[attr-defined]


class EnclosedLoop:
    """While it is entered, the running loop notes which enclosure its tasks and connections belong to."""

    def __init__(self) -> None:
        self._loop: Any = None
        self._factory: Callable[..., Any] | None = None

    def __enter__(self) -> EnclosedLoop:
        loop: Any = asyncio.get_running_loop()
        self._loop, self._factory = loop, loop.get_task_factory()
        loop.set_task_factory(self._new_task)
        connect = loop.create_connection

        async def create_connection(*args: Any, **options: Any) -> Any:
            inside = _inside.get()
            if inside is None:
                return await connect(*args, **options)
            if not inside.is_alive:
                raise ConnectionAbortedError("the process is dead")
            transport, protocol = await connect(*args, **options)
            inside.add(transport, protocol)
            return transport, protocol

        loop.create_connection = create_connection
        return self

    def __exit__(self, *error: object) -> None:
        loop = self._loop
        loop.set_task_factory(self._factory)
        del loop.create_connection  # the class's own comes to light again

    def _new_task(self, loop: Any, work: Coroutine[Any, Any, Any], **options: Any) -> Any:
        task = (
            asyncio.Task(work, loop=loop, **options) if self._factory is None else self._factory(loop, work, **options)
        )
        context = options.get("context")
        inside = _inside.get() if context is None else context.get(_inside)
        if inside is not None:
            inside.tasks.add(task)
        return task
