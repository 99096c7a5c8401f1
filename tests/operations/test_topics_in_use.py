"""Topics that are deleted, emptied and changed while they are read and written; a stop that ends in its bound."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from logqueue.broker.network import limits
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from logqueue.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, fetch_request, produce_request, produced
from tests.engines.guard import killed_after

SECONDS = 30
GONE = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.NONE)


def deleted(wire: Wire, name: str, version: int = 6) -> int:
    request = DeleteTopicsRequest(topics=[DeleteTopicState(name=name)], topic_names=[name], timeout_ms=1000)
    code: int = wire.call(version, request).responses[0].error_code
    return code


@pytest.mark.parametrize("acks", [1, -1])
def test_a_topic_is_deleted_while_others_write_and_read_it(tmp_path: Path, acks: int) -> None:
    answers: list[int] = []
    with EmbeddedBroker(tmp_path) as broker, Wire(broker.bootstrap) as admin:
        create(admin, "t")

        def write() -> None:
            with Wire(broker.bootstrap) as wire:
                answers.extend(produced(wire, "t", batch(b"x" * 1000), acks=acks).error_code for _ in range(300))

        def read() -> None:
            with Wire(broker.bootstrap) as wire:
                for _ in range(100):
                    part = wire.call(12, fetch_request("t", 0, max_wait_ms=5)).responses[0].partitions[0]
                    answers.append(0 if part.error_code == ErrorCode.OFFSET_OUT_OF_RANGE else part.error_code)

        threads = [threading.Thread(target=work) for work in (write, write, read)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            assert deleted(admin, "t") == 0
            create(admin, "t")
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        assert produced(admin, "t", batch(b"last")).error_code == 0
    assert set(answers) <= set(GONE)
    assert len(answers) == 700


def test_topics_are_not_deleted_where_that_is_disabled(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path, delete_topic_enable=False) as broker, Wire(broker.bootstrap) as wire:
        create(wire, "t")
        assert deleted(wire, "t") == ErrorCode.TOPIC_DELETION_DISABLED
        assert deleted(wire, "t", version=2) == ErrorCode.INVALID_REQUEST
        assert produced(wire, "t", batch(b"x")).error_code == 0


def test_topics_do_not_appear_by_themselves_where_that_is_disabled(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path, auto_create_topics_enable=False) as broker, Wire(broker.bootstrap) as wire:
        request = MetadataRequest(topics=[MetadataRequestTopic(name="t")], allow_auto_topic_creation=True)
        assert wire.call(9, request).topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_more_replicas_by_default_than_there_are_brokers_refuse_topics_that_name_none(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path, default_replication_factor=3) as broker, Wire(broker.bootstrap) as wire:
        unnamed = CreateTopicsRequest(topics=[CreatableTopic(name="a", num_partitions=1, replication_factor=-1)])
        assert wire.call(7, unnamed).topics[0].error_code == ErrorCode.INVALID_REPLICATION_FACTOR
        request = MetadataRequest(topics=[MetadataRequestTopic(name="b")], allow_auto_topic_creation=True)
        assert wire.call(9, request).topics[0].error_code == ErrorCode.INVALID_REPLICATION_FACTOR
        assert create(wire, "c").error_code == 0


def test_a_stop_ends_in_its_bound_whatever_clients_do(tmp_path: Path) -> None:
    """Fetches are parked, a reader takes nothing of the megabytes that it asked for, a producer goes on."""
    command = [sys.executable, "-m", "logqueue.broker", "--data-dir", str(tmp_path), "--kafka-port", "0"]
    with killed_after(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) as broker:
        assert broker.stdout is not None
        bootstrap = broker.stdout.readline().rsplit(" ", 1)[1].strip()
        with Wire(bootstrap) as parked, Wire(bootstrap) as slow, Wire(bootstrap) as busy:
            create(busy, "t")
            create(busy, "empty")
            for _ in range(20):
                produced(busy, "t", batch(b"x" * 900_000), acks=1)
            parked.send(12, fetch_request("empty", 0, max_wait_ms=60_000))
            for _ in range(50):
                slow.send(12, fetch_request("t", 0))
            for _ in range(50):
                busy.send(9, produce_request("t", batch(b"x" * 1000), acks=-1))
            started = time.monotonic()
            broker.send_signal(signal.SIGTERM)
            assert broker.wait(SECONDS) == 0
            assert time.monotonic() - started < limits.STOP_DRAIN_SECONDS + 5
    assert (tmp_path / ".kafka_cleanshutdown").exists()
