"""Readiness of many sockets behind one descriptor of the event loop. Knows nothing of requests.

asyncio makes a handle, a context run and a dictionary walk out of every readable socket. Here the loop watches a single
epoll descriptor; its callback asks for all ready sockets at once and calls their objects directly.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from logqueue.broker.network import limits

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
_ENDED = select.EPOLLHUP | select.EPOLLERR


class Pollable(Protocol):
    """A socket's owner (Listener, Connection, TlsConnection); neither method may raise."""

    def on_readable(self) -> None: ...

    def on_writable(self) -> None: ...


class Poller:
    """Level-triggered readiness for descriptors of one loop.

    `after_batch` runs after some events that came together: the place to send what they made ready, on any connection.
    `after_turn` runs once all is dispatched that was ready, or `TURN_SECONDS` are over, with the number of events.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, after_batch: Callable[[], None], after_turn: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._owners: dict[int, Pollable] = {}
        self._after_batch = after_batch
        self._after_turn = after_turn
        self._events = 0
        self._heavy_events = 0
        loop.add_reader(self._epoll.fileno(), self.serve_ready)

    def register(self, fd: int, owner: Pollable, events: int = READABLE) -> None:
        self._owners[fd] = owner
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Stop watching; to be called before the descriptor is closed. Events already taken are dropped."""
        if self._owners.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_soon(self, act: Callable[[], None]) -> None:
        """Run `act` in the next turn like an event: what a connection buffers itself, epoll cannot know of."""
        self._loop.call_soon(self.run, act)

    def run(self, act: Callable[[], None]) -> None:
        """Run `act` as a turn of its own: what it makes ready is sent, what waits for the end of a turn begins."""
        act()
        self._after_batch()
        self._after_turn(1)

    def light_events(self) -> int:
        """Events so far, without the heavy ones."""
        return self._events - self._heavy_events

    def note_heavy(self) -> None:
        """The event that is being dispatched moved so much that nobody waits for it within a millisecond."""
        self._heavy_events += 1

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._owners.clear()

    def serve_ready(self) -> None:
        """Dispatch what is ready, and what becomes ready meanwhile."""
        # A turn of asyncio costs as much as serving a request, and a round of fsyncs more: batches share them.
        until = monotonic() + limits.TURN_SECONDS
        before = self._events
        while ready := self._epoll.poll(0, limits.EVENTS_PER_BATCH):
            self._events += len(ready)
            self._dispatch(ready)
            # Here, not after every event: a peer that sleeps is woken by its first answer and finds the others.
            self._after_batch()
            if monotonic() >= until:
                break
        self._after_turn(self._events - before)

    def _dispatch(self, ready: list[tuple[int, int]]) -> None:
        owners = self._owners
        for fd, events in ready:
            owner = owners.get(fd)
            if owner is None:
                continue  # closed by an earlier event of this batch
            if events & WRITABLE:
                owner.on_writable()
            if events & (READABLE | _ENDED):
                owner.on_readable()
