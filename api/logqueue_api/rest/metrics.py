"""Figures of the API and of the view in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from logqueue_consumers.view.job import STATE_NAMES, State
from logqueue_consumers.view.reader import QueueSummary
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


class ApiMetrics:
    """One registry for each API, so that two in one process (as in tests) stay apart."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._queues = _QueueCollector()
        self._registry.register(self._queues)
        labels = ("method", "route", "status")
        self._requests = Counter("logqueue_http_requests", "HTTP requests.", labels, registry=self._registry)
        self._seconds = Histogram(
            "logqueue_http_request_seconds", "Time to answer.", ("route",), buckets=_BUCKETS, registry=self._registry
        )
        self._submitted = Counter("logqueue_jobs_submitted", "Jobs put on the log over HTTP.", registry=self._registry)
        self._lag = Gauge("logqueue_view_lag_records", "Records the view does not hold yet.", registry=self._registry)
        self._caught_up = Gauge("logqueue_view_caught_up", "1 once the view was at the end.", registry=self._registry)
        self._restarts = Gauge("logqueue_view_restarts", "Times the fold was started again.", registry=self._registry)

    def request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def submitted(self, jobs: int) -> None:
        """Count jobs that are on the log."""
        self._submitted.inc(jobs)

    def view(self, *, lag: int, is_caught_up: bool, restarts: int) -> None:
        """Note how the fold is doing."""
        self._lag.set(lag)
        self._caught_up.set(is_caught_up)
        self._restarts.set(restarts)

    def render(self, queues: Sequence[QueueSummary], *, now_ms: int) -> bytes:
        """The text that Prometheus reads."""
        self._queues.queues, self._queues.now_ms = queues, now_ms
        return generate_latest(self._registry)


class _QueueCollector(Collector):
    """Jobs by queue and state, as the view counted them when it was asked."""

    def __init__(self) -> None:
        self.queues: Sequence[QueueSummary] = ()
        self.now_ms = 0

    def collect(self) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("logqueue_jobs", "Jobs by state.", labels=("queue", "state"))
        age = GaugeMetricFamily("logqueue_oldest_queued_seconds", "Age of the oldest queued job.", labels=("queue",))
        for summary in self.queues:
            for state, count in summary.counts.items():
                jobs.add_metric((summary.queue, STATE_NAMES[state]), count)
            oldest = summary.oldest_ms.get(State.QUEUED)
            age.add_metric((summary.queue,), 0 if oldest is None else max(self.now_ms - oldest, 0) / 1000)
        return (jobs, age)
