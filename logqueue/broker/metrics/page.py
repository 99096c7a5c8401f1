"""The metrics page: a snapshot in Prometheus' text format, under the names that Kafka's JMX exporter made known.

prometheus-client is imported with this file, which is imported when the page is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from logqueue.broker.metrics.meters import BOUNDS
from logqueue.broker.metrics.snapshot import Durations, Snapshot
from logqueue.version import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(snapshot: Snapshot) -> bytes:
    """The page. Any thread."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        yield from _topics(self._snapshot)
        yield from _partitions(self._snapshot)
        yield from _requests(self._snapshot)
        yield from _groups(self._snapshot)
        yield from _server(self._snapshot)


def _topics(snapshot: Snapshot) -> Iterator[Metric]:
    topic = ["topic"]
    messages = _counter("kafka_server_brokertopicmetrics_messagesin", "Records appended.", topic)
    bytes_in = _counter("kafka_server_brokertopicmetrics_bytesin", "Bytes of record batches appended.", topic)
    bytes_out = _counter("kafka_server_brokertopicmetrics_bytesout", "Bytes of record batches fetched.", topic)
    for each in snapshot.topics:
        messages.add_metric([each.topic], each.messages_in)
        bytes_in.add_metric([each.topic], each.bytes_in)
        bytes_out.add_metric([each.topic], each.bytes_out)
    yield from (messages, bytes_in, bytes_out)


def _partitions(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ["topic", "partition"]
    size = _gauge("kafka_log_log_size", "Bytes of all segments.", labels)
    segments = _gauge("kafka_log_log_numlogsegments", "Segments.", labels)
    start = _gauge("kafka_log_log_logstartoffset", "First offset that can be read.", labels)
    end = _gauge("kafka_log_log_logendoffset", "Next offset to be given.", labels)
    unflushed = _gauge("logqueue_log_unflushed_records", "Records that no fsync has covered.", labels)
    for each in snapshot.partitions:
        key = [each.topic, str(each.partition)]
        size.add_metric(key, each.size)
        segments.add_metric(key, each.segments)
        start.add_metric(key, each.start)
        end.add_metric(key, each.end)
        unflushed.add_metric(key, each.unflushed)
    yield from (size, segments, start, end, unflushed)


def _requests(snapshot: Snapshot) -> Iterator[Metric]:
    count = _counter("kafka_network_requestmetrics_requests", "Requests answered, by API.", ["request"])
    times = HistogramMetricFamily(
        "kafka_network_requestmetrics_totaltime_seconds",
        "Time from the parsed request to its answer, waiting for the disk or for records included.",
        labels=["request"],
    )
    for name, durations in snapshot.requests.items():
        count.add_metric([name], sum(durations.counts))
        times.add_metric([name], _buckets(durations), durations.seconds)
    yield count
    yield times


def _groups(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ["consumergroup", "topic", "partition"]
    offset = _gauge("kafka_consumergroup_current_offset", "Committed offset of a group.", labels)
    lag = _gauge("kafka_consumergroup_lag", "Offsets between a group and the end of a partition.", labels)
    for each in snapshot.lags:
        key = [each.group, each.topic, str(each.partition)]
        offset.add_metric(key, each.offset)
        lag.add_metric(key, each.lag)
    yield from (offset, lag)


def _server(snapshot: Snapshot) -> Iterator[Metric]:
    yield InfoMetricFamily("logqueue", "The program.", {"version": __version__})
    flush = HistogramMetricFamily("kafka_log_logflushstats_logflush_seconds", "Time of a round of fsyncs.", labels=[])
    flush.add_metric([], _buckets(snapshot.fsync), snapshot.fsync.seconds)
    yield flush
    partitions = len(snapshot.partitions)
    for name, text, value in (
        ("logqueue_fsync_waiting_requests", "Requests that wait for an fsync.", snapshot.waiting_for_fsync),
        ("kafka_server_socketservermetrics_connection_count", "Connections of clients.", snapshot.connections),
        ("kafka_server_delayedfetchmetrics_waiting", "Fetches that wait for records.", snapshot.parked_fetches),
        ("kafka_server_replicamanager_partitioncount", "Partitions.", partitions),
        ("kafka_server_replicamanager_leadercount", "Partitions led here.", partitions),
        ("kafka_server_replicamanager_underreplicatedpartitions", "Never any: one node.", 0),
        ("kafka_controller_kafkacontroller_activecontrollercount", "Always 1: one node.", 1),
        ("kafka_controller_kafkacontroller_globaltopiccount", "Topics.", len(snapshot.topics)),
        ("kafka_controller_kafkacontroller_globalpartitioncount", "Partitions.", partitions),
        (
            "kafka_controller_kafkacontroller_offlinepartitionscount",
            "Partitions that take no writes, since the disk failed.",
            partitions if snapshot.has_failed else 0,
        ),
        ("kafka_log_logmanager_offlinelogdirectorycount", "Data folders that failed.", int(snapshot.has_failed)),
        (
            "kafka_log_logcleanermanager_uncleanable_partitions_count",
            "Partitions that are not compacted, since they are damaged.",
            len(snapshot.uncleanable),
        ),
        (
            "kafka_log_logcleanermanager_uncleanable_bytes",
            "Bytes of these partitions.",
            sum(each.size for each in snapshot.partitions if (each.topic, each.partition) in snapshot.uncleanable),
        ),
        ("logqueue_disk_total_bytes", "Size of the file system with the data folder.", snapshot.disk_total),
        ("logqueue_disk_free_bytes", "Free bytes of it.", snapshot.disk_free),
    ):
        yield GaugeMetricFamily(name, text, value)
    yield CounterMetricFamily("kafka_server_throttled_requests", "Answers held back by quotas.", snapshot.throttled)
    yield CounterMetricFamily(
        "kafka_server_throttle_time_seconds", "Time by which quotas held answers back.", snapshot.throttled_ms / 1000
    )


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
    return list(zip(bounds, accumulate(durations.counts), strict=True))


def _counter(name: str, text: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=labels)


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=labels)
