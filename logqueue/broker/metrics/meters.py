"""Meters: how often, and how long. Counting is a few additions; everything else is left to whoever reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from logqueue.protocol.api import ApiKey

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.network.session import Slot

# Upper bounds in seconds: from a request served in memory to a parked fetch.
BOUNDS = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0
)  # fmt: skip

Handler = Callable[["Broker", Any, "Slot"], Any]


class Histogram:
    """Durations by bucket. Any thread may read it; one writes."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class RequestMeters:
    """The time each API's requests take, from the parsed request to the answer, waiting for the disk included."""

    def __init__(self) -> None:
        self.by_api: dict[str, Histogram] = {}

    def of(self, key: int) -> Histogram:
        """The durations of one API's requests."""
        return self.by_api.setdefault(_name(key), Histogram())

    def measured(self, key: int, handler: Handler) -> Handler:
        """The handler, with its requests counted."""
        histogram = self.of(key)
        counts = histogram.counts

        def handle(broker: Broker, request: Any, slot: Slot) -> Any:
            started = perf_counter()
            response = handler(broker, request, slot)
            if response is None and slot.segments is None:
                slot.late = Late(histogram, started)
                return None
            took = perf_counter() - started
            counts[bisect_left(BOUNDS, took)] += 1
            histogram.seconds += took
            return response

        return handle


class Late:
    """A request whose answer comes later."""

    __slots__ = ("_histogram", "_started")

    def __init__(self, histogram: Histogram, started: float) -> None:
        self._histogram = histogram
        self._started = started

    def done(self) -> None:
        """The answer is there."""
        self._histogram.observe(perf_counter() - self._started)


def _name(key: int) -> str:
    """Kafka's name of an API in its metrics: `Produce`, `OffsetCommit`."""
    return "".join(word.capitalize() for word in ApiKey(key).name.split("_"))
