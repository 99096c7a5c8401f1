"""One client's excess is its own trouble: limits on connections, on requests that arrive, on what they hold."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.api_versions import ApiVersionsRequest
from logqueue.protocol.messages.metadata import MetadataRequest
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, create_topic, produce_request
from tests.security.authority import Authority

MIB = 1024 * 1024


def is_served(broker: EmbeddedBroker) -> bool:
    with Wire(broker.bootstrap) as wire:
        return wire.call(0, ApiVersionsRequest()).error_code == 0


def is_refused(broker: EmbeddedBroker) -> bool:
    with Wire(broker.bootstrap) as wire:
        try:
            wire.call(0, ApiVersionsRequest())
        except (EOFError, ConnectionError):
            return True
        return False


def ends(wire: Wire, data: bytes) -> bool:
    """Whether the broker ends the connection after these bytes, whatever it says before (a timeout is an error)."""
    try:
        wire.socket.sendall(data)
        wire.socket.shutdown(socket.SHUT_WR)
        while wire.socket.recv(1000):
            pass
    except TimeoutError:
        raise
    except OSError:
        pass
    return True


def test_connections_of_one_address_have_a_bound_and_one_that_ends_makes_room() -> None:
    with EmbeddedBroker(fsync=False, max_connections_per_ip=3) as broker, ExitStack() as stack:
        wires = [stack.enter_context(Wire(broker.bootstrap)) for _ in range(3)]
        for wire in wires:
            wire.call(0, ApiVersionsRequest())
        assert is_refused(broker)
        wires[0].close()
        for _ in range(100):
            if not is_refused(broker):
                return
        raise AssertionError("no room was made")


def test_an_address_of_its_own_limit() -> None:
    with EmbeddedBroker(fsync=False, max_connections_per_ip_overrides=("127.0.0.1:0",)) as broker:
        assert is_refused(broker)


def test_connections_beyond_the_rate_wait_and_are_served_later() -> None:
    with EmbeddedBroker(fsync=False, max_connection_creation_rate=10, quota_window_num=2) as broker:
        started = time.monotonic()
        assert all(is_served(broker) for _ in range(20))
        assert time.monotonic() - started > 0.5


class TestDrips:
    """Requests that never end."""

    @pytest.fixture
    def broker(self) -> Iterator[EmbeddedBroker]:
        with EmbeddedBroker(fsync=False, frame_timeout_ms=1_000, connections_max_idle_ms=60_000) as running:
            yield running

    @pytest.mark.parametrize("start", [b"\0", b"\0\0\1\0abc", struct.pack(">i", 5_000_000) + b"x" * 70_000])
    def test_a_request_that_stops_arriving_ends_its_connection_and_no_other(
        self, broker: EmbeddedBroker, start: bytes
    ) -> None:
        with Wire(broker.bootstrap) as idle, Wire(broker.bootstrap) as slow:
            idle.call(0, ApiVersionsRequest())
            slow.socket.sendall(start)
            assert slow.is_closed_by_broker()
            assert idle.call(0, ApiVersionsRequest()).error_code == 0

    def test_a_request_that_goes_on_arriving_is_served_however_long_it_takes(self, broker: EmbeddedBroker) -> None:
        with Wire(broker.bootstrap) as wire:
            create_topic(wire, "slow")
            data = wire.encode(9, produce_request("slow", batch(b"x" * 900_000), acks=1))
            for start in range(0, len(data), 100_000):
                wire.socket.sendall(data[start : start + 100_000])
                time.sleep(0.2)  # in all twice as long as a request may stand still
            assert wire.receive()[1].responses[0].partition_responses[0].error_code == 0


def test_whoever_does_not_authenticate_in_time_is_shown_the_door(authority: Authority) -> None:
    server = authority.issue("localhost", hosts=("localhost",))
    with EmbeddedBroker(
        fsync=False,
        listeners=("SASL_PLAINTEXT://127.0.0.1:0", "SSL://127.0.0.1:0"),
        ssl_keystore_location=str(server),
        authentication_timeout_ms=200,
    ) as broker:
        for listener in ("SASL_PLAINTEXT", "SSL"):
            with Wire(broker.address_of(listener)) as wire:
                assert wire.is_closed_by_broker()


def test_garbage_on_a_tls_port_hurts_nobody(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    server = authority.issue("localhost", hosts=("localhost",))
    with EmbeddedBroker(
        fsync=False, listeners=("PLAINTEXT://127.0.0.1:0", "SSL://127.0.0.1:0"), ssl_keystore_location=str(server)
    ) as broker:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\x02\x00" + b"\xff" * 600):
            with Wire(broker.address_of("SSL")) as wire:
                assert ends(wire, garbage)
        assert is_served(broker)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_requests_that_are_arriving_hold_no_more_than_their_bytes_and_all_are_served_in_the_end() -> None:
    with EmbeddedBroker(fsync=False, queued_max_request_bytes=MIB) as broker, ExitStack() as stack:
        wires = [stack.enter_context(Wire(broker.bootstrap)) for _ in range(5)]
        create_topic(wires[0], "t")
        for wire in wires:
            data = wire.encode(9, produce_request("t", batch(b"x" * 900_000), acks=1))
            wire.socket.sendall(data[:100_000])
            wire.rest = data[100_000:]  # type: ignore[attr-defined]
        assert is_served(broker), "small requests need no room"
        # The first two were begun while there was room; each that ends lets another begin.
        for wire in wires:
            wire.socket.sendall(wire.rest)  # type: ignore[attr-defined]
            assert wire.receive()[1].responses[0].partition_responses[0].error_code == 0


def test_partitions_of_all_topics_have_a_bound() -> None:
    with EmbeddedBroker(fsync=False, max_partitions=5) as broker, Wire(broker.bootstrap) as wire:
        assert create(wire, "a", partitions=4).error_code == 0
        refused = create(wire, "b", partitions=2)
        assert refused.error_code == ErrorCode.INVALID_PARTITIONS
        assert "logqueue.max.partitions" in refused.error_message
        assert create(wire, "c", partitions=1).error_code == 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"host": "0.0.0.0"}, "without authentication"),
        ({"listeners": ("PLAINTEXT://0.0.0.0:0",)}, "without authentication"),
        ({"listeners": ("SASL_PLAINTEXT://0.0.0.0:0",)}, "without encryption"),
    ],
)
def test_a_public_address_without_protection_is_warned_of(
    options: dict[str, object], word: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), EmbeddedBroker(fsync=False, **options):
        pass
    assert [word in record.getMessage() for record in caplog.records] == [True]


def test_a_safe_listener_is_not_warned_of(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    server = authority.issue("localhost", hosts=("localhost",))
    with (
        EmbeddedBroker(
            fsync=False,
            listeners=("PLAINTEXT://127.0.0.1:0", "SASL_SSL://0.0.0.0:0"),
            ssl_keystore_location=str(server),
        ) as broker,
        Wire(broker.bootstrap) as wire,
    ):
        assert wire.call(9, MetadataRequest(topics=[])).brokers
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
