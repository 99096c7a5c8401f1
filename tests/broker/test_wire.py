"""The broker over real sockets, byte by byte: pipelining, partial frames, garbage, limits, long polls."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.api_versions import ApiVersionsRequest
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, create_topic, fetch_request, produce_request, values_of

LONG_WAIT_MS = 60_000  # longer than any test: an answer before that was not the timer's


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(
        fsync=False, socket_request_max_bytes=4_000_000, queued_max_requests=8, max_connections=50
    ) as running:
        yield running


@pytest.fixture
def wire(broker: EmbeddedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as connection:
        yield connection


@pytest.fixture
def topic(wire: Wire, request: pytest.FixtureRequest) -> str:
    name = f"topic-{abs(hash(request.node.nodeid))}"
    create_topic(wire, name)
    return name


def test_pipelined_requests_are_answered_in_their_order(wire: Wire, topic: str) -> None:
    sent = [wire.send(9, produce_request(topic, batch(b"%d" % n), acks=1)) for n in range(7)]
    sent.append(wire.send(12, MetadataRequest(topics=None)))
    answers = [wire.receive() for _ in sent]
    assert [number for number, _ in answers] == sent
    assert [a.responses[0].partition_responses[0].base_offset for _, a in answers[:7]] == list(range(7))


def test_a_parked_fetch_holds_back_the_answers_behind_it_but_not_their_effect(
    broker: EmbeddedBroker, wire: Wire, topic: str
) -> None:
    fetch = wire.send(11, fetch_request(topic, 0, max_wait_ms=LONG_WAIT_MS))
    versions = wire.send(0, ApiVersionsRequest())
    with Wire(broker.bootstrap) as other:
        other.call(9, produce_request(topic, batch(b"wakes"), acks=1))
    number, fetched = wire.receive()
    assert number == fetch
    assert values_of(fetched) == [b"wakes"]
    assert wire.receive()[0] == versions


@pytest.mark.parametrize("version", [0, 3])
def test_a_request_cut_at_every_byte_is_served(broker: EmbeddedBroker, version: int) -> None:
    with Wire(broker.bootstrap) as wire:
        for cut in range(1, 30):
            request = ApiVersionsRequest(client_software_name="wire", client_software_version="1")
            data = wire.encode(version, request)
            wire.socket.sendall(data[:cut])
            wire.socket.sendall(data[cut:])
            assert wire.receive()[1].error_code == 0


def test_a_large_request_arriving_in_pieces_is_stored_whole(wire: Wire, topic: str) -> None:
    payload = bytes(range(256)) * 3000
    data = wire.encode(9, produce_request(topic, batch(payload), acks=1))
    for start in range(0, len(data), 77_777):
        wire.socket.sendall(data[start : start + 77_777])
    assert wire.receive()[1].responses[0].partition_responses[0].error_code == 0
    assert values_of(wire.call(12, fetch_request(topic, 0))) == [payload]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        struct.pack(">i", -5),
        struct.pack(">i", 4_000_001),
        struct.pack(">i", 3) + b"abc",
        struct.pack(">ihhih", 10, 999, 0, 1, -1),
        struct.pack(">ihhih", 10, 3, 99, 1, -1),
        struct.pack(">ihhih", 10, 3, 9, 1, 30_000),
        struct.pack(">ihhih", 10, 0, 2, 1, -1),
    ],
    ids=["http", "tls", "negative", "oversized", "short", "unknown-key", "unknown-version", "lying", "produce-v2"],
)
def test_garbage_ends_its_connection_and_no_other(
    broker: EmbeddedBroker, wire: Wire, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with Wire(broker.bootstrap) as bad:
        bad.socket.sendall(garbage)
        assert bad.is_closed_by_broker()
    assert wire.call(0, ApiVersionsRequest()).error_code == 0
    assert "Traceback" not in caplog.text
    assert [r.levelname for r in caplog.records if r.name.startswith("logqueue")] == ["WARNING"]


def test_a_newer_api_versions_request_is_refused_in_version_0(wire: Wire) -> None:
    body = struct.pack(">hhih", 18, 99, 7, -1) + b"\0"
    wire.socket.sendall(struct.pack(">i", len(body)) + body)
    size, number, error, count = struct.unpack(">iihi", wire.read_exactly(14))
    assert (number, error) == (7, ErrorCode.UNSUPPORTED_VERSION)
    keys = [struct.unpack(">hhh", wire.read_exactly(6)) for _ in range(count)]
    assert any(key == 18 for key, _, _ in keys)
    assert size == 10 + 6 * count


def test_a_long_poll_ends_by_its_own_time(wire: Wire, topic: str) -> None:
    response = wire.call(11, fetch_request(topic, 0, max_wait_ms=20))
    assert values_of(response) == []
    assert response.responses[0].partitions[0].error_code == 0


def test_a_fetch_waits_for_min_bytes(broker: EmbeddedBroker, wire: Wire, topic: str) -> None:
    one = batch(b"x" * 100)
    wire.send(11, fetch_request(topic, 0, max_wait_ms=LONG_WAIT_MS, min_bytes=len(one) * 2))
    with Wire(broker.bootstrap) as other:
        other.call(9, produce_request(topic, one, acks=1))
        wire.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            wire.socket.recv(1)
        wire.socket.setblocking(True)
        other.call(9, produce_request(topic, one, acks=1))
    assert len(values_of(wire.receive()[1])) == 2


def test_a_connection_that_leaves_takes_its_parked_fetch_along(broker: EmbeddedBroker, topic: str, wire: Wire) -> None:
    with Wire(broker.bootstrap) as leaver:
        leaver.send(11, fetch_request(topic, 0, max_wait_ms=LONG_WAIT_MS))
        leaver.send(0, ApiVersionsRequest())
    wire.call(9, produce_request(topic, batch(b"after"), acks=1))
    assert values_of(wire.call(11, fetch_request(topic, 0))) == [b"after"]


def test_more_requests_than_may_wait_are_left_unread_and_served_later(
    broker: EmbeddedBroker, wire: Wire, topic: str
) -> None:
    sent = [wire.send(11, fetch_request(topic, n, max_wait_ms=LONG_WAIT_MS)) for n in range(1)]
    sent += [wire.send(9, produce_request(topic, batch(b"%d" % n), acks=1)) for n in range(40)]
    with Wire(broker.bootstrap) as other:
        other.call(9, produce_request(topic, batch(b"wake"), acks=1))
    assert [wire.receive()[0] for _ in sent] == sent


def test_requests_whose_answers_are_too_large_to_wait_are_served_in_turns(wire: Wire) -> None:
    create(wire, "wide", partitions=500)
    request = MetadataRequest(topics=[MetadataRequestTopic(name="wide")])
    sent = 300  # in one read, with answers of 5 MB
    wire.socket.sendall(b"".join(wire.encode(9, request) for _ in range(sent)))
    assert [len(wire.receive()[1].topics[0].partitions) for _ in range(sent)] == [500] * sent


def test_a_slow_reader_gets_everything_and_holds_up_nobody(broker: EmbeddedBroker, wire: Wire, topic: str) -> None:
    payload = b"p" * 900_000
    wire.call(9, produce_request(topic, batch(payload), acks=1))
    with Wire(broker.bootstrap) as slow:
        for _ in range(24):  # more than both socket buffers hold
            slow.send(11, fetch_request(topic, 0))
        for _ in range(20):  # others go on while it does not read
            assert wire.call(0, ApiVersionsRequest()).error_code == 0
        for _ in range(24):
            assert values_of(slow.receive()[1]) == [payload]


def test_connections_above_the_limit_are_refused() -> None:
    with EmbeddedBroker(fsync=False, max_connections=2) as small:
        with Wire(small.bootstrap) as first, Wire(small.bootstrap) as second:
            for wire in (first, second):
                wire.call(0, ApiVersionsRequest())
            with Wire(small.bootstrap) as third:
                assert third.is_closed_by_broker()
            assert first.call(0, ApiVersionsRequest()).error_code == 0
        with Wire(small.bootstrap) as fourth:
            threading.Event().wait(0)  # nothing to wait for: the two ends were seen before this one was taken
            assert fourth.call(0, ApiVersionsRequest()).error_code == 0


def test_an_idle_connection_is_closed() -> None:
    with EmbeddedBroker(fsync=False, connections_max_idle_ms=1000) as impatient, Wire(impatient.bootstrap) as wire:
        wire.call(0, ApiVersionsRequest())
        assert wire.is_closed_by_broker()


def test_a_stop_answers_parked_fetches() -> None:
    with EmbeddedBroker(fsync=False) as running, Wire(running.bootstrap) as wire:
        create_topic(wire, "t")
        wire.send(11, fetch_request("t", 0, max_wait_ms=LONG_WAIT_MS))
        wire_is_parked = Wire(running.bootstrap)
        wire_is_parked.call(0, ApiVersionsRequest())
        wire_is_parked.close()
        running.stop()
        assert values_of(wire.receive()[1]) == []
        assert wire.is_closed_by_broker()
