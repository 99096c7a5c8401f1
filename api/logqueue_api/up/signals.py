"""The signals that ask `up` to stop, as events of its loop."""

from __future__ import annotations

import asyncio
import signal

from logqueue.clock import Clock

SECOND_SIGNAL_SECONDS = 0.3  # nearer to the first one it is the same key press, told twice (make, a wrapper)


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into orders: the first asks for a stop, the second for a hard one."""

    def __init__(self, clock: Clock) -> None:
        self.stop = asyncio.Event()
        self.stop_now = asyncio.Event()
        self.first: signal.Signals | None = None
        self._clock = clock
        self._first_at = 0.0
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._take, number)

    def _take(self, number: signal.Signals) -> None:
        now = self._clock.monotonic()
        if self.first is None:
            self.first, self._first_at = number, now
            self.stop.set()
        elif now - self._first_at >= SECOND_SIGNAL_SECONDS:
            self.stop_now.set()
