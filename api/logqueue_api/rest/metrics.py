"""Figures of the API and of the view in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from logqueue_consumers.view.job import STATE_NAMES, State
from logqueue_consumers.view.reader import QueueSummary
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_OPENNESS = {"open": 1, "half-open": 0.5}


@dataclass(frozen=True, slots=True)
class GroupLoad:
    """Jobs of a queue that a group has not finished: commits and their offset maps tell."""

    group: str
    queue: str
    incomplete: int


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
        # By method, route and status: looking them up costs five times what they do themselves.
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._submitted = Counter("logqueue_jobs_submitted", "Jobs put on the log over HTTP.", registry=self._registry)
        self._lag = Gauge("logqueue_view_lag_records", "Records the view does not hold yet.", registry=self._registry)
        self._caught_up = Gauge("logqueue_view_caught_up", "1 once the view was at the end.", registry=self._registry)
        self._restarts = Gauge("logqueue_view_restarts", "Times the fold was started again.", registry=self._registry)

    def request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        series = self._series.get((method, route, status))
        if series is None:
            series = self._requests.labels(method, route, str(status)), self._seconds.labels(route)
            self._series[method, route, status] = series
        requests, times = series
        requests.inc()
        times.observe(seconds)

    def submitted(self, jobs: int) -> None:
        """Count jobs that are on the log."""
        self._submitted.inc(jobs)

    def view(self, *, lag: int, is_caught_up: bool, restarts: int) -> None:
        """Note how the fold is doing."""
        self._lag.set(lag)
        self._caught_up.set(is_caught_up)
        self._restarts.set(restarts)

    def render(
        self,
        queues: Sequence[QueueSummary],
        *,
        now_ms: int,
        groups: Sequence[GroupLoad] = (),
        workers: Mapping[tuple[str, str], int] | None = None,
        conditions: Mapping[tuple[str, str], int] | None = None,
        breakers: Mapping[tuple[str, str], str] | None = None,
    ) -> bytes:
        """The text that Prometheus reads.

        `workers` by group and state, `conditions` by queue and lost or stuck, `breakers` (states) by worker and name.
        """
        self._queues.breakers = breakers or {}
        self._queues.queues, self._queues.now_ms = queues, now_ms
        self._queues.groups, self._queues.workers, self._queues.conditions = groups, workers or {}, conditions or {}
        return generate_latest(self._registry)


class _QueueCollector(Collector):
    """Jobs by queue and state, as the view counted them when it was asked."""

    def __init__(self) -> None:
        self.queues: Sequence[QueueSummary] = ()
        self.groups: Sequence[GroupLoad] = ()
        self.workers: Mapping[tuple[str, str], int] = {}
        self.conditions: Mapping[tuple[str, str], int] = {}
        self.breakers: Mapping[tuple[str, str], str] = {}
        self.now_ms = 0

    def collect(self) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("logqueue_jobs", "Jobs by state.", labels=("queue", "state"))
        age = GaugeMetricFamily("logqueue_oldest_queued_seconds", "Age of the oldest queued job.", labels=("queue",))
        for summary in self.queues:
            for state, count in summary.counts.items():
                jobs.add_metric((summary.queue, STATE_NAMES[state]), count)
            oldest = summary.oldest_ms.get(State.QUEUED)
            age.add_metric((summary.queue,), 0 if oldest is None else max(self.now_ms - oldest, 0) / 1000)
        return (jobs, age, *self._groups(), *self._workers())

    def _groups(self) -> Iterable[Metric]:
        """What autoscalers scale by: lag would mislead, since jobs finish out of order."""
        labels = ("group", "queue")
        incomplete = GaugeMetricFamily("logqueue_group_incomplete", "Jobs a group has not finished.", labels=labels)
        age = GaugeMetricFamily("logqueue_group_oldest_queued_seconds", "Age of its oldest queued job.", labels=labels)
        oldest = {summary.queue: summary.oldest_ms.get(State.QUEUED) for summary in self.queues}
        for load in self.groups:
            incomplete.add_metric((load.group, load.queue), load.incomplete)
            since = oldest.get(load.queue) if load.incomplete else None
            seconds = 0 if since is None else max(self.now_ms - since, 0) / 1000
            age.add_metric((load.group, load.queue), seconds)
        return (incomplete, age)

    def _workers(self) -> Iterable[Metric]:
        workers = GaugeMetricFamily("logqueue_workers", "Worker processes.", labels=("group", "state"))
        for labels, count in self.workers.items():
            workers.add_metric(labels, count)
        wrong = GaugeMetricFamily(
            "logqueue_jobs_in_trouble", "Running jobs, lost or stuck.", labels=("queue", "condition")
        )
        for labels, count in self.conditions.items():
            wrong.add_metric(labels, count)
        open_ = GaugeMetricFamily(
            "logqueue_breaker_open", "1 while open, 0.5 half-open, 0 closed.", labels=("worker", "breaker")
        )
        for labels, state in self.breakers.items():
            open_.add_metric(labels, _OPENNESS.get(state, 0))
        return (workers, wrong, open_)
