"""How closely fetches may follow one another: at once while they are few, at an interval under load. No clock, no IO.

A broker answers a fetch with the first record that it has. Where records come one by one, a thousand a second, each
would be a fetch of its own, for broker and consumer, at a cost that does not depend on what it brings.
"""

from __future__ import annotations

INTERVAL_S = 0.003
"""Between two fetches under load: what a record waits at most."""
AT_ONCE = 4
"""Fetches that may follow one another at once after a while with fewer of them."""


class FetchPace:
    """When the next fetch may go (the generic cell rate algorithm: a bucket that holds one number)."""

    __slots__ = ("_due_s",)

    def __init__(self) -> None:
        self._due_s = 0.0  # when the next fetch would go, were they all at the interval

    def pause_s(self, now_s: float) -> float:
        """Seconds until a fetch that is wanted now may go. It counts as gone then."""
        due_s = max(self._due_s, now_s)
        self._due_s = due_s + INTERVAL_S
        return max(0.0, due_s - (AT_ONCE - 1) * INTERVAL_S - now_s)
