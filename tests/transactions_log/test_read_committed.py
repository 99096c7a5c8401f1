"""What readers of committed records are told, by the embedded broker and by Apache Kafka (KIP-98, KIP-664)."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from logqueue.protocol.messages.fetch import FetchRequest
from logqueue.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from logqueue.records.batch import iterate_batches
from logqueue.records.builder import read_records
from tests.broker.wire import SENT_AT_MS, Wire, batch, fetch_request, produce_request
from tests.conftest import Engine
from tests.transactions.producing import TransactionalProducer, create_topics, read, until

OK = ErrorCode.NONE
COMMITTED, UNCOMMITTED = 1, 0
LATEST, EARLIEST, MAX_TIMESTAMP = -1, -2, -3
HOUR_MS = 3_600_000


@pytest.fixture
def wire(engine: Engine) -> Iterator[Wire]:
    with Wire(engine.bootstrap) as connection:
        yield connection


@pytest.fixture
def second_wire(engine: Engine) -> Iterator[Wire]:
    with Wire(engine.bootstrap) as connection:
        yield connection


@pytest.fixture
def topic(wire: Wire, prefix: str) -> str:
    create_topics(wire, prefix, partitions=1)
    return prefix


@pytest.fixture
def producer(wire: Wire, prefix: str) -> TransactionalProducer:
    return begun(wire, f"{prefix}-a")


@pytest.fixture
def other(wire: Wire, prefix: str) -> TransactionalProducer:
    return begun(wire, f"{prefix}-b")


def begun(wire: Wire, name: str) -> TransactionalProducer:
    made = TransactionalProducer(wire, name)
    assert made.init() is OK
    return made


def plain(wire: Wire, topic: str, *values: bytes) -> None:
    answer = wire.call(11, produce_request(topic, batch(*values))).responses[0].partition_responses[0]
    assert answer.error_code == 0


def fetching(topic: str, offset: int, *, isolation: int = COMMITTED, **options: Any) -> FetchRequest:
    request = fetch_request(topic, offset, **options)
    request.isolation_level = isolation
    return request


def fetched(wire: Wire, topic: str, offset: int = 0, **options: Any) -> tuple[Any, list[bytes | None]]:
    """The partition of the answer, and the values of the records in it, but not those of markers."""
    answer = wire.call(11, fetching(topic, offset, **options))
    part = answer.responses[0].partitions[0]
    assert part.error_code == 0
    records = part.records or b""
    batches = [(position, header) for position, header in iterate_batches(records) if not header.is_control]
    return part, [record.value for position, header in batches for record in read_records(records, position, header)]


def offsets_of(wire: Wire, topic: str, timestamp: int, *, isolation: int) -> tuple[int, int]:
    wanted = ListOffsetsTopic(name=topic, partitions=[ListOffsetsPartition(partition_index=0, timestamp=timestamp)])
    answer = (
        wire.call(7, ListOffsetsRequest(replica_id=-1, isolation_level=isolation, topics=[wanted]))
        .topics[0]
        .partitions[0]
    )
    assert answer.error_code == 0
    return answer.timestamp, answer.offset


def settled(wire: Wire, topic: str, end: int) -> None:
    """Wait until everything up to an offset is decided: markers are written after the end is answered."""
    until(lambda: fetched(wire, topic)[0].last_stable_offset == end)


def test_records_of_an_open_transaction_and_all_behind_them_are_hidden_from_readers_of_committed_records(
    wire: Wire, topic: str, producer: TransactionalProducer
) -> None:
    plain(wire, topic, b"before")
    assert producer.produce(topic, b"open") is OK
    plain(wire, topic, b"behind")
    part, values = fetched(wire, topic)
    assert (part.last_stable_offset, part.high_watermark, part.aborted_transactions) == (1, 3, [])
    assert values == [b"before"]
    part, values = fetched(wire, topic, isolation=UNCOMMITTED)
    assert (part.last_stable_offset, part.high_watermark, part.aborted_transactions) == (1, 3, None)
    assert values == [b"before", b"open", b"behind"]
    part, values = fetched(wire, topic, 2)
    assert (part.last_stable_offset, values) == (1, [])
    assert producer.end() is OK
    settled(wire, topic, 4)
    assert fetched(wire, topic)[1] == [b"before", b"open", b"behind"]


def test_aborted_transactions_are_listed_for_the_offsets_that_were_read(
    wire: Wire, topic: str, producer: TransactionalProducer, other: TransactionalProducer
) -> None:
    assert producer.produce(topic, b"gone") is OK
    assert other.produce(topic, b"kept") is OK
    assert producer.end(commit=False) is OK
    settled(wire, topic, 1)  # its marker stands before the other's
    assert other.end(commit=True) is OK
    settled(wire, topic, 4)
    part, _ = fetched(wire, topic)
    assert [(a.producer_id, a.first_offset) for a in part.aborted_transactions] == [(producer.producer_id, 0)]
    assert fetched(wire, topic, 3)[0].aborted_transactions == []
    assert fetched(wire, topic, isolation=UNCOMMITTED)[0].aborted_transactions is None
    assert read(wire, topic, committed=True) == [b"kept"]
    assert read(wire, topic, committed=False) == [b"gone", b"kept"]


def test_a_waiting_fetch_of_committed_records_is_answered_by_the_marker_not_by_the_records(
    wire: Wire, second_wire: Wire, topic: str, producer: TransactionalProducer
) -> None:
    plain(wire, topic, b"before")
    second_wire.send(11, fetching(topic, 1, max_wait_ms=15_000))
    assert producer.produce(topic, b"open") is OK
    assert producer.produce(topic, b"open too") is OK
    assert select.select([second_wire.socket], [], [], 0.3)[0] == []
    assert producer.end() is OK
    part = second_wire.receive()[1].responses[0].partitions[0]
    assert part.last_stable_offset == 4
    assert part.records


def test_a_waiting_fetch_counts_only_bytes_that_became_stable(
    wire: Wire, second_wire: Wire, topic: str, producer: TransactionalProducer
) -> None:
    assert producer.produce(topic, b"v" * 500) is OK
    second_wire.send(11, fetching(topic, 0, max_wait_ms=15_000, min_bytes=700))
    assert producer.end() is OK
    settled(wire, topic, 2)
    assert select.select([second_wire.socket], [], [], 0.1)[0] == []
    plain(wire, topic, b"w" * 200)
    assert second_wire.receive()[1].responses[0].partitions[0].last_stable_offset == 3


def test_a_waiting_fetch_is_answered_when_its_records_end_with_their_segment(
    wire: Wire, second_wire: Wire, prefix: str, producer: TransactionalProducer
) -> None:
    # The marker is so much younger than the records that it begins a segment of its own.
    create_topics(wire, prefix, partitions=1, **{"segment.ms": str(HOUR_MS)})
    assert producer.produce(prefix, b"v" * 500) is OK
    second_wire.send(11, fetching(prefix, 0, max_wait_ms=15_000, min_bytes=100_000))
    assert producer.end() is OK
    assert second_wire.receive()[1].responses[0].partitions[0].last_stable_offset == 2
    assert fetched(wire, prefix, max_wait_ms=15_000, min_bytes=100_000)[1] == [b"v" * 500]


def test_offsets_by_time_and_the_end_stop_at_the_last_stable_offset(
    wire: Wire, topic: str, producer: TransactionalProducer
) -> None:
    plain(wire, topic, b"before")
    assert producer.produce(topic, b"open") is OK
    assert offsets_of(wire, topic, LATEST, isolation=COMMITTED) == (-1, 1)
    assert offsets_of(wire, topic, LATEST, isolation=UNCOMMITTED) == (-1, 2)
    assert offsets_of(wire, topic, EARLIEST, isolation=COMMITTED) == (-1, 0)
    assert offsets_of(wire, topic, SENT_AT_MS, isolation=COMMITTED) == (SENT_AT_MS, 0)
    assert offsets_of(wire, topic, SENT_AT_MS + 1, isolation=COMMITTED) == (-1, -1)
    assert offsets_of(wire, topic, MAX_TIMESTAMP, isolation=COMMITTED) == (SENT_AT_MS, 0)


def test_a_time_that_only_an_open_transaction_has_is_not_found_by_readers_of_committed_records(
    wire: Wire, topic: str, producer: TransactionalProducer
) -> None:
    assert producer.produce(topic, b"open") is OK
    assert offsets_of(wire, topic, SENT_AT_MS, isolation=COMMITTED) == (-1, -1)
    assert offsets_of(wire, topic, MAX_TIMESTAMP, isolation=COMMITTED) == (-1, -1)
    assert offsets_of(wire, topic, SENT_AT_MS, isolation=UNCOMMITTED) == (SENT_AT_MS, 0)


def test_producers_are_described_with_the_transaction_they_have_open(
    wire: Wire, topic: str, producer: TransactionalProducer, other: TransactionalProducer
) -> None:
    def described() -> dict[int, Any]:
        request = DescribeProducersRequest(topics=[TopicRequest(name=topic, partition_indexes=[0])])
        part = wire.call(0, request).topics[0].partitions[0]
        assert (part.error_code, part.partition_index) == (0, 0)
        return {each.producer_id: each for each in part.active_producers}

    assert described() == {}
    first = producer.producer_id
    assert producer.produce(topic, b"1", b"2", b"3") is OK
    assert other.produce(topic, b"4") is OK
    assert other.end(version=3) is OK
    settled(wire, topic, 0)
    until(lambda: described()[other.producer_id].current_txn_start_offset == -1)
    known = described()
    assert set(known) == {first, other.producer_id}
    open_one, ended = known[first], known[other.producer_id]
    assert (open_one.producer_epoch, open_one.last_sequence, open_one.current_txn_start_offset) == (0, 2, 0)
    assert (open_one.last_timestamp, open_one.coordinator_epoch) == (SENT_AT_MS, -1)
    assert (ended.producer_epoch, ended.last_sequence, ended.coordinator_epoch) == (0, 0, 0)
    assert ended.last_timestamp > SENT_AT_MS


def test_producers_of_a_partition_that_is_not_there_are_not_described(wire: Wire, topic: str) -> None:
    request = DescribeProducersRequest(
        topics=[
            TopicRequest(name=topic, partition_indexes=[7]),
            TopicRequest(name=f"{topic}-none", partition_indexes=[0]),
        ]
    )
    answers = [part for each in wire.call(0, request).topics for part in each.partitions]
    assert [part.error_code for part in answers] == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION] * 2
