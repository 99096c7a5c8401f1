"""Live queue counts from `GET /v1/queues`, and the rate at which jobs end. The rate is sans-IO."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

STATES = (
    "queued",
    "scheduled",
    "blocked",
    "running",
    "retrying",
    "parked",
    "succeeded",
    "dead",
    "cancelled",
    "expired",
)
ENDED_STATES = ("succeeded", "dead", "cancelled", "expired")
RATE_WINDOW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Jobs of a queue by state; `rate` is ended jobs per second over the last RATE_WINDOW_SECONDS.

    `oldest_seconds` is the age of its oldest queued job; None where none is queued.
    """

    queue: str
    counts: Mapping[str, int]
    rate: float = 0.0
    oldest_seconds: float | None = None

    @property
    def ended(self) -> int:
        return sum(self.counts.get(state, 0) for state in ENDED_STATES)


class Rates:
    """Remembers enough of the past to know how fast each queue goes."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def take(self, document: Any, *, now: float) -> list[QueueCounts]:
        """The queues of an answer, with rates; an answer of another shape holds none."""
        items = document.get("items") if isinstance(document, dict) else None
        found = []
        for item in items if isinstance(items, list) else []:
            counts = {state: int(count) for state, count in (item.get("counts") or {}).items()}
            age = item.get("oldest_queued_age_s")
            plain = QueueCounts(str(item.get("queue")), counts, oldest_seconds=None if age is None else float(age))
            found.append(replace(plain, rate=self._rate(plain, now)))
        return found

    def _rate(self, queue: QueueCounts, now: float) -> float:
        seen = self._seen.setdefault(queue.queue, deque())
        seen.append((now, queue.ended))
        while len(seen) > 2 and now - seen[1][0] >= RATE_WINDOW_SECONDS:
            seen.popleft()
        (then, before), (_, present) = seen[0], seen[-1]
        return max(present - before, 0) / (now - then) if now > then else 0.0
