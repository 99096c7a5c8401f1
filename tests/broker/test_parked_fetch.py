"""A fetch of several partitions that waits: woken by some of them, it tells what is true of each."""

from __future__ import annotations

from typing import Any

import pytest

from logqueue.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, produced

FOREVER_MS = 60_000
SOON_MS = 300


def waiting(topic: str, offsets: list[int], *, isolation: int, min_bytes: int = 1, wait_ms: int) -> FetchRequest:
    wanted = [
        FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1_000_000)
        for partition, offset in enumerate(offsets)
    ]
    return FetchRequest(
        max_wait_ms=wait_ms,
        min_bytes=min_bytes,
        max_bytes=1_000_000,
        isolation_level=isolation,
        topics=[FetchTopic(topic=topic, partitions=wanted)],
    )


def told(answer: Any) -> list[tuple[int, int, bool]]:
    """Partition, high watermark and whether there are records, of each partition in the answer."""
    return [(p.partition_index, p.high_watermark, bool(p.records)) for p in answer.responses[0].partitions]


@pytest.fixture(params=[0, 1], ids=["all", "committed"])
def isolation(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_the_partition_that_has_grown_is_shown_and_the_others_as_they_are(
    broker: EmbeddedBroker, wire: Wire, topic: str, isolation: int
) -> None:
    create(wire, f"{topic}-several", partitions=3)
    produced(wire, f"{topic}-several", batch(b"old"), partition=0)
    with Wire(broker.bootstrap) as reader:
        reader.send(11, waiting(f"{topic}-several", [1, 0, 0], isolation=isolation, wait_ms=FOREVER_MS))
        produced(wire, f"{topic}-several", batch(b"new"), partition=2)
        assert told(reader.receive()[1]) == [(0, 1, False), (1, 0, False), (2, 1, True)]


def test_growth_adds_up_over_partitions(broker: EmbeddedBroker, wire: Wire, topic: str, isolation: int) -> None:
    create(wire, f"{topic}-several", partitions=3)
    size = len(batch(b"some"))
    request = waiting(f"{topic}-several", [0, 0, 0], isolation=isolation, min_bytes=size + 1, wait_ms=FOREVER_MS)
    with Wire(broker.bootstrap) as reader:
        reader.send(11, request)
        produced(wire, f"{topic}-several", batch(b"some"), partition=0)
        produced(wire, f"{topic}-several", batch(b"more"), partition=1)
        assert told(reader.receive()[1]) == [(0, 1, True), (1, 1, True), (2, 0, False)]


def test_what_was_found_before_the_wait_is_given_with_what_came(
    broker: EmbeddedBroker, wire: Wire, topic: str, isolation: int
) -> None:
    create(wire, f"{topic}-several", partitions=2)
    produced(wire, f"{topic}-several", batch(b"some"), partition=0)
    size = len(batch(b"some"))
    request = waiting(f"{topic}-several", [0, 0], isolation=isolation, min_bytes=size + 1, wait_ms=FOREVER_MS)
    with Wire(broker.bootstrap) as reader:
        reader.send(11, request)
        produced(wire, f"{topic}-several", batch(b"more"), partition=1)
        assert told(reader.receive()[1]) == [(0, 1, True), (1, 1, True)]


def test_what_came_is_given_when_the_time_is_over_though_it_is_too_little(
    broker: EmbeddedBroker, wire: Wire, topic: str, isolation: int
) -> None:
    create(wire, f"{topic}-several", partitions=2)
    request = waiting(f"{topic}-several", [0, 0], isolation=isolation, min_bytes=100_000, wait_ms=SOON_MS)
    with Wire(broker.bootstrap) as reader:
        reader.send(11, request)
        produced(wire, f"{topic}-several", batch(b"some"), partition=1)
        assert told(reader.receive()[1]) == [(0, 0, False), (1, 1, True)]
