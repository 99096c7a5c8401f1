"""EmbeddedBroker and the pytest fixture, as users have them in their own tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from logqueue.broker.network.listener import CannotListen
from logqueue.config import InvalidConfig
from logqueue.errors import LogqueueError
from logqueue.protocol.messages.metadata import MetadataRequest
from logqueue.storage.errors import DataFolderError
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create_topic, fetch_request, produce_request, values_of


def test_a_temporary_folder_goes_with_the_broker() -> None:
    with EmbeddedBroker() as broker:
        folder = broker.data_dir
        assert folder.is_dir()
    assert not folder.exists()


def test_a_given_folder_stays(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        assert broker.data_dir == tmp_path
    assert (tmp_path / "meta.properties").exists()


def test_a_restart_keeps_address_and_records() -> None:
    with EmbeddedBroker() as broker:
        address = broker.bootstrap
        with Wire(address) as wire:
            create_topic(wire, "t")
            wire.call(9, produce_request("t", batch(b"kept")))
        broker.restart()
        assert broker.bootstrap == address
        with Wire(address) as wire:
            assert values_of(wire.call(11, fetch_request("t", 0))) == [b"kept"]


def test_settings_are_the_fields_of_the_configuration() -> None:
    with EmbeddedBroker(num_partitions=5) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        assert len(wire.call(9, MetadataRequest(topics=None)).topics[0].partitions) == 5


def test_stopping_twice_and_starting_twice_do_nothing() -> None:
    broker = EmbeddedBroker()
    broker.stop()
    try:
        assert broker.start() is broker.start()
        broker.stop()
        broker.stop()
        assert not broker.is_running
    finally:
        broker.close()


def test_the_address_is_not_known_before_the_start() -> None:
    with pytest.raises(LogqueueError, match="has not been started"):
        _ = EmbeddedBroker().bootstrap


def test_what_keeps_it_from_starting_is_raised(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as first:
        with pytest.raises(DataFolderError, match="in use"):
            EmbeddedBroker(tmp_path).start()
        with pytest.raises(CannotListen, match=f"port {first.port} on 127.0.0.1 is taken"):
            EmbeddedBroker(port=first.port).start()


@pytest.mark.parametrize("was_clean", [True, False])
def test_a_start_that_fails_after_a_crash_leaves_no_sign_of_a_clean_stop(tmp_path: Path, was_clean: bool) -> None:
    with EmbeddedBroker(tmp_path / "data") as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        wire.call(9, produce_request("t", batch(b"kept")))
    marker = tmp_path / "data" / ".kafka_cleanshutdown"
    if not was_clean:
        marker.unlink()
    with EmbeddedBroker(tmp_path / "other") as other, pytest.raises(CannotListen):
        EmbeddedBroker(tmp_path / "data", port=other.port).start()
    assert marker.exists() == was_clean
    with EmbeddedBroker(tmp_path / "data") as broker, Wire(broker.bootstrap) as wire:
        assert values_of(wire.call(11, fetch_request("t", 0))) == [b"kept"]


def test_the_fixture_serves_synchronous_tests(logqueue_broker: EmbeddedBroker) -> None:
    with Wire(logqueue_broker.bootstrap) as wire:
        create_topic(wire, "t")
        assert wire.call(9, produce_request("t", batch(b"x"))).responses[0].partition_responses[0].base_offset == 0


def test_the_fixture_is_fresh_for_every_test(logqueue_broker: EmbeddedBroker) -> None:
    with Wire(logqueue_broker.bootstrap) as wire:
        assert wire.call(9, MetadataRequest(topics=None)).topics == []


def test_the_fixture_serves_asynchronous_tests(logqueue_broker: EmbeddedBroker) -> None:
    async def round_trip() -> bytes | None:
        producer = AIOKafkaProducer(bootstrap_servers=logqueue_broker.bootstrap)
        await producer.start()
        await producer.send_and_wait("t", b"hello")
        await producer.stop()
        consumer = AIOKafkaConsumer("t", bootstrap_servers=logqueue_broker.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        record = await consumer.getone()
        await consumer.stop()
        value: bytes | None = record.value
        return value

    assert asyncio.run(round_trip()) == b"hello"


def test_the_plugin_loads_nothing_that_is_not_asked_for() -> None:
    probe = "import sys, logqueue.testing.plugin; print(sorted(m for m in sys.modules if m.startswith('logqueue')))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(["logqueue", "logqueue.testing", "logqueue.testing.plugin", "logqueue.version"])


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises((TypeError, InvalidConfig)):
        EmbeddedBroker(no_such_setting=1)
