"""The metrics page of a broker: names that Kafka's dashboards know, figures that are true, and health."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from logqueue.broker.metrics.meters import BOUNDS, Histogram
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.find_coordinator import FindCoordinatorRequest
from logqueue.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logqueue.storage.errors import StorageError
from logqueue.testing import EmbeddedBroker
from tests.broker.disks import Disk
from tests.broker.wire import Wire, batch, create, fetch_request, produced

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
SECONDS = 20


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path, metrics_port=0) as running:
        yield running


def get(broker: EmbeddedBroker, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{broker.metrics_port}{path}", timeout=SECONDS) as answer:
        body: bytes = answer.read()
    return body


def scraped(broker: EmbeddedBroker) -> Samples:
    families = text_string_to_metric_families(get(broker, "/metrics").decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_records_and_bytes_are_counted_by_topic(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        create(wire, "orders")
        records = batch(b"a", b"b", b"c")
        for _ in range(2):
            assert produced(wire, "orders", records).error_code == 0
        fetched = wire.call(12, fetch_request("orders", 0)).responses[0].partitions[0]
        found = scraped(broker)
    orders = (("topic", "orders"),)
    partition = (("partition", "0"), ("topic", "orders"))
    assert found["kafka_server_brokertopicmetrics_messagesin_total", orders] == 6
    assert found["kafka_server_brokertopicmetrics_bytesin_total", orders] == 2 * len(records)
    assert found["kafka_server_brokertopicmetrics_bytesout_total", orders] == len(fetched.records)
    assert found["kafka_log_log_size", partition] == 2 * len(records)
    assert found["kafka_log_log_logstartoffset", partition] == 0
    assert found["kafka_log_log_logendoffset", partition] == 6
    assert found["logqueue_log_unflushed_records", partition] == 0
    assert found["kafka_server_socketservermetrics_connection_count", ()] == 1
    assert found["kafka_controller_kafkacontroller_globaltopiccount", ()] == 1


def test_requests_are_timed_by_api_answered_late_or_not(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        create(wire, "t")
        for acks in (1, 1, -1, -1, -1):
            assert produced(wire, "t", batch(b"x"), acks=acks).error_code == 0
        wire.call(12, fetch_request("t", 5, max_wait_ms=60))
        found = scraped(broker)
    produce, fetch = (("request", "Produce"),), (("request", "Fetch"),)
    assert found["kafka_network_requestmetrics_requests_total", produce] == 5
    assert found["kafka_network_requestmetrics_requests_total", fetch] == 1
    assert found["kafka_network_requestmetrics_totaltime_seconds_count", produce] == 5
    assert found["kafka_network_requestmetrics_totaltime_seconds_sum", fetch] >= 0.05
    assert 1 <= found["kafka_log_logflushstats_logflush_seconds_count", ()] <= 3


def test_the_lag_of_a_group_is_told(broker: EmbeddedBroker) -> None:
    with Wire(broker.bootstrap) as wire:
        create(wire, "t")
        produced(wire, "t", batch(*[b"x"] * 10))
        wire.call(3, FindCoordinatorRequest(key="g"))
        part = OffsetCommitRequestPartition(partition_index=0, committed_offset=4)
        request = OffsetCommitRequest(group_id="g", topics=[OffsetCommitRequestTopic(name="t", partitions=[part])])
        assert wire.call(8, request).topics[0].partitions[0].error_code == 0
        found = scraped(broker)
    key = (("consumergroup", "g"), ("partition", "0"), ("topic", "t"))
    assert found["kafka_consumergroup_current_offset", key] == 4
    assert found["kafka_consumergroup_lag", key] == 6


def test_health_turns_bad_with_the_disk(tmp_path: Path) -> None:
    disk = Disk()
    broker = EmbeddedBroker(tmp_path, metrics_port=0, environment=disk.environment).start()
    with Wire(broker.bootstrap) as wire:
        create(wire, "t")
        assert get(broker, "/healthz") == b"ok\n"
        disk.is_broken = True
        assert produced(wire, "t", batch(b"x")).error_code == ErrorCode.KAFKA_STORAGE_ERROR
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(broker, "/healthz")
        assert refused.value.code == 503
        assert b"takes no more writes" in refused.value.read()
        refused.value.close()
        assert scraped(broker)["kafka_log_logmanager_offlinelogdirectorycount", ()] == 1
    with pytest.raises(StorageError):
        broker.close()


def test_other_paths_and_methods_are_refused(broker: EmbeddedBroker) -> None:
    with pytest.raises(urllib.error.HTTPError) as missing:
        get(broker, "/")
    assert missing.value.code == 404
    missing.value.close()
    request = urllib.request.Request(f"http://127.0.0.1:{broker.metrics_port}/metrics", data=b"x")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=SECONDS)
    assert refused.value.code == 405
    refused.value.close()


def test_a_taken_port_keeps_the_broker_from_starting(broker: EmbeddedBroker, tmp_path: Path) -> None:
    second = EmbeddedBroker(tmp_path / "second", metrics_port=broker.metrics_port or 0)
    with pytest.raises(Exception, match=r"metrics: port .* is taken by another program"):
        second.start()


def test_without_a_port_nothing_is_measured_and_nothing_listens(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        assert broker.metrics_port is None


def test_a_duration_belongs_to_the_first_bucket_that_is_not_below_it() -> None:
    histogram = Histogram()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, BOUNDS[-1] + 1):
        histogram.observe(seconds)
    assert histogram.counts[:2] == [2, 1]
    assert histogram.counts[-1] == 1
