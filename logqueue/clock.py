"""The two times a program needs and its timers, injected so that tests can hold them. Imports nothing of ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """It does not come; nothing happens if it came already."""
        ...


class Clock(Protocol):
    """Wall time for what is stored and shown, monotonic time for every wait and deadline."""

    def time_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...

    def call_later(self, delay_s: float, call: Callable[..., object], *args: Any) -> Timer:
        """Call it in the running event loop when `delay_s` of this clock's time have gone by."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic = staticmethod(time.monotonic)

    def call_later(self, delay_s: float, call: Callable[..., object], *args: Any) -> Timer:
        return _call_later(delay_s, call, *args)


class ManualClock:
    """A clock that moves only when told to: both times advance together. Its timers are the event loop's."""

    def __init__(self, *, time_ms: int = 1_700_000_000_000, monotonic: float = 1_000.0) -> None:
        self._time_ms = time_ms
        self._monotonic = monotonic

    def time_ms(self) -> int:
        return self._time_ms

    def monotonic(self) -> float:
        return self._monotonic

    def call_later(self, delay_s: float, call: Callable[..., object], *args: Any) -> Timer:
        return _call_later(delay_s, call, *args)

    def advance(self, seconds: float) -> None:
        """Move both times forward by `seconds` (never back)."""
        assert seconds >= 0, "time does not go back here; build a new clock instead"
        self._monotonic += seconds
        self._time_ms += round(seconds * 1000)


def _call_later(delay_s: float, call: Callable[..., object], *args: Any) -> Timer:
    from asyncio import get_running_loop  # most programs that read a clock have no loop

    return get_running_loop().call_later(delay_s, call, *args)
