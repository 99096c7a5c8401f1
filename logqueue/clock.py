"""The two times a program needs, injected so that tests can hold them still. Imports nothing of ours."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is stored and shown, monotonic time for every wait and deadline."""

    def time_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to: both times advance together."""

    def __init__(self, *, time_ms: int = 1_700_000_000_000, monotonic: float = 1_000.0) -> None:
        self._time_ms = time_ms
        self._monotonic = monotonic

    def time_ms(self) -> int:
        return self._time_ms

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both times forward by `seconds` (never back)."""
        assert seconds >= 0, "time does not go back here; build a new clock instead"
        self._monotonic += seconds
        self._time_ms += round(seconds * 1000)
