"""A world with one clock and one order of events, both made from a seed. Knows no broker.

Nothing in it waits: time goes from event to event. It offers what the broker asks of an event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from queue import Queue
from random import Random
from typing import Any, cast

from logqueue.clock import ManualClock

THREAD_SECONDS = 30.0
"""Real time that a thread of the broker may take to report."""


class Event:
    """Something that happens at a time, unless it is cancelled."""

    __slots__ = ("_call", "is_cancelled")

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def __call__(self) -> None:
        if not self.is_cancelled:
            self._call()


class World:
    """The clock, the dice and the agenda."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = ManualClock()
        self._agenda: list[tuple[float, int, Event]] = []
        self._order = count()

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def at(self, when: float, call: Callable[[], None]) -> Event:
        event = Event(call)
        heappush(self._agenda, (max(when, self.now), next(self._order), event))
        return event

    def after(self, seconds: float, call: Callable[[], None]) -> Event:
        return self.at(self.now + seconds, call)

    def run(self, until: float) -> None:
        """Let happen whatever is due before `until`."""
        while self._agenda and self._agenda[0][0] <= until:
            when, _, event = heappop(self._agenda)
            self.clock.advance(max(when - self.now, 0.0))
            event()
        self.clock.advance(max(until - self.now, 0.0))


class Loop:
    """The part of an event loop that a broker uses, on the world's clock. It dies with its broker."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_dead = False
        self._reported: Queue[Callable[[], None]] = Queue()
        self.has_report = False

    @property
    def as_loop(self) -> asyncio.AbstractEventLoop:
        return cast(asyncio.AbstractEventLoop, self)

    def time(self) -> float:
        return self._world.now

    def call_at(self, when: float, call: Callable[..., None], *args: Any) -> Event:
        return self._world.at(when, lambda: self._alive(call, *args))

    def call_later(self, seconds: float, call: Callable[..., None], *args: Any) -> Event:
        return self.call_at(self._world.now + seconds, call, *args)

    def call_soon(self, call: Callable[..., None], *args: Any) -> Event:
        return self.call_at(self._world.now, call, *args)

    def call_soon_threadsafe(self, call: Callable[..., None], *args: Any) -> None:
        self._reported.put(lambda: call(*args))

    def hear_thread(self, delay: float) -> None:
        """Wait for what a thread has to report, and let the loop hear of it `delay` seconds later."""
        report = self._reported.get(timeout=THREAD_SECONDS)
        self.has_report = True

        def hear() -> None:
            self.has_report = False
            report()

        self._world.after(delay, lambda: self._alive(hear))

    def die(self) -> None:
        self._is_dead = True

    def _alive(self, call: Callable[..., None], *args: Any) -> None:
        if not self._is_dead:
            call(*args)
