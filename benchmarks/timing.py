"""Times a call of this process again and again: how often a second it can be made."""

from __future__ import annotations

import time
from collections.abc import Callable

BLOCK_SECONDS = 0.02
"""How long the calls take between two looks at the clock, about: its cost stays out of the figure."""


def calls_per_second(call: Callable[[], object], seconds: float) -> float:
    """Calls a second in the fastest block within `seconds`: other programs and collections make blocks slower only."""
    call()
    block = _calls_in_a_block(call)
    fastest = float("inf")
    until = time.perf_counter() + seconds
    while True:
        began = time.perf_counter()
        for _ in range(block):
            call()
        now = time.perf_counter()
        fastest = min(fastest, now - began)
        if now >= until:
            return block / fastest


def _calls_in_a_block(call: Callable[[], object]) -> int:
    count = 1
    while True:
        began = time.perf_counter()
        for _ in range(count):
            call()
        if time.perf_counter() - began >= BLOCK_SECONDS / 2:
            return count
        count *= 2
