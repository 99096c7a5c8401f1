"""Transactional ids that nobody has used for long are forgotten: their records become tombstones (KIP-98)."""

from __future__ import annotations

from logqueue.coordination.effects import Now
from logqueue.coordination.timers import Timers
from logqueue.errors import ErrorCode
from logqueue.transaction.ledger import Ledger
from logqueue.transaction.states import EXPIRABLE


class Expiry:
    """Looks for expired ids at an interval. A tombstone that cannot be written is tried again next time."""

    def __init__(self, ledger: Ledger, timers: Timers, *, after_ms: int, interval_ms: int) -> None:
        self._ledger = ledger
        self._timers = timers
        self._after_ms = after_ms
        self._interval_seconds = interval_ms / 1000

    def schedule(self, now: Now) -> None:
        """Look after the next interval, and so on."""
        self._timers.set(("expiry",), now.monotonic + self._interval_seconds, self._expire)

    def _expire(self, now: Now) -> None:
        self.schedule(now)
        for entry in list(self._ledger.entries.values()):
            durable = entry.durable
            if (
                entry.pending is None
                and durable.state in EXPIRABLE
                and durable.updated_ms <= now.time_ms - self._after_ms
            ):
                self._ledger.append(entry, durable.dead(), _whatever)


def _whatever(error: ErrorCode, now: Now) -> None:
    """Nobody waits for the outcome."""
