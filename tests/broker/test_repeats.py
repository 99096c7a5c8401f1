"""A producer that repeats itself is served by a shortcut: its answers and the log are those of the ordinary way."""

from __future__ import annotations

import shutil
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from logqueue.broker import repeats
from logqueue.broker.metrics.meters import Histogram
from logqueue.broker.repeats import Repeats
from logqueue.protocol.messages.delete_topics import DeleteTopicsRequest
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from logqueue.records.batch import iterate_batches
from logqueue.records.builder import read_records
from logqueue.storage.log import PartitionLog
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, fetch_request, produce_request, produced

TOPICS = ("even", "odder-name")
PARTITIONS = 3
BURSTS = 120
DEPTH = 6
TIMEOUT_SECONDS = 20


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the shortcut served, for each request that it was asked about."""
    told: list[bool] = []
    serve = Repeats.serve

    def watched(self: Repeats, session: object, frame: memoryview) -> bool:
        told.append(serve(self, session, frame))  # type: ignore[arg-type]
        return told[-1]

    monkeypatch.setattr(Repeats, "serve", watched)
    return told


class Forgetful(Repeats):
    """Nothing is ever repeated: the ordinary way."""

    def learn(self, *_: object) -> None:
        pass


def random_batch(random: Random, sequences: dict[int, int]) -> bytes:
    """Mostly what producers send; sometimes what they should not."""
    records = bytearray(batch(*(random.randbytes(random.choice((0, 5, 90, 300))) for _ in range(random.randint(1, 3)))))
    match random.randrange(12):
        case 0:
            records[-1] ^= 1  # the checksum fails
        case 1:
            del records[random.randrange(len(records)) :]
        case 2:
            records[22] |= 0x10  # transactional, and nobody began a transaction
        case 3:
            return batch(b"x" * 2_000)  # above max.message.bytes
        case 4 | 5 | 6:
            producer = random.choice((11, 12))
            sequence = sequences.get(producer, 0) + random.choice((0, 0, 0, -1, 3))
            sequences[producer] = max(sequence, 0) + 1
            return batch(b"in order", producer_id=producer, producer_epoch=0, base_sequence=max(sequence, 0))
    return bytes(records)


def random_burst(random: Random, ids: dict[str, bytes], sequences: dict[int, int]) -> list[tuple[int, ProduceRequest]]:
    """Requests of one producer without waiting for answers; most differ in their batch alone."""
    version, acks = random.choice((8, 9, 10, 12, 13, 13, 13)), random.choice((1, 1, -1, -1, 2))
    name, index = random.choice(TOPICS), random.choice((0, 0, 1, PARTITIONS))
    burst = []
    for _ in range(random.randint(1, DEPTH)):
        indexes = (index,) if random.random() < 0.8 else (1, 0)
        partitions = [
            PartitionProduceData(index=at, records=memoryview(random_batch(random, sequences))) for at in indexes
        ]
        topic = TopicProduceData(name=name, topic_id=ids[name], partition_data=partitions)
        burst.append((version, ProduceRequest(acks=acks, timeout_ms=1_000, topic_data=[topic])))
    return burst


@pytest.mark.parametrize("seed", range(4))
def test_the_shortcut_answers_byte_for_byte_as_the_ordinary_way(
    seed: int, tmp_path: Path, served: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedBroker(tmp_path / "a") as broker, Wire(broker.bootstrap) as wire:
        for name in TOPICS:
            create(wire, name, partitions=PARTITIONS, max_message_bytes="1000")
        wanted = [MetadataRequestTopic(name=name) for name in TOPICS]
        ids = {topic.name: topic.topic_id for topic in wire.call(12, MetadataRequest(topics=wanted)).topics}
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(repeats, "repeats_of", lambda b: Repeats(b) if b.request_meters is None else Forgetful(b))
    random = Random(seed)
    sequences: dict[int, int] = {}
    with (
        EmbeddedBroker(tmp_path / "a") as quick,
        EmbeddedBroker(tmp_path / "b", metrics_port=0) as ordinary,
        Wire(quick.bootstrap) as first,
        Wire(ordinary.bootstrap) as second,
    ):
        for _ in range(BURSTS):
            requests = random_burst(random, ids, sequences)
            for wire in (first, second):
                wire.socket.sendall(b"".join(wire.encode(version, request) for version, request in requests))
            for _ in requests:
                answers = [wire.read_exactly(struct.unpack(">i", wire.read_exactly(4))[0]) for wire in (first, second)]
                assert answers[0] == answers[1]
        for name in TOPICS:
            for partition in range(PARTITIONS):
                logs = [wire.call(11, fetch_request(name, 0, partition=partition)) for wire in (first, second)]
                stored = [bytes(log.responses[0].partitions[0].records or b"") for log in logs]
                assert stored[0] == stored[1]
    assert served.count(True) > BURSTS / 2
    assert served.count(False) > BURSTS


def test_where_requests_are_measured_the_shortcut_serves_too_and_each_is_counted_once(
    tmp_path: Path, served: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[float] = []
    monkeypatch.setattr(Histogram, "observe", lambda self, seconds: counted.append(seconds))
    with EmbeddedBroker(tmp_path, metrics_port=0) as broker, Wire(broker.bootstrap) as wire:
        create(wire, "t")
        for acks in (1, -1):
            assert produced(wire, "t", batch(b"known now"), acks=acks).error_code == 0
        counted.clear()
        for _ in range(2):
            assert produced(wire, "t", batch(b"again"), acks=1).error_code == 0
        assert len(counted) == 2
        assert produced(wire, "t", batch(b"again"), acks=-1).error_code == 0
        assert len(counted) == 4  # the request, and the round of fsyncs it waited for
        assert all(0 < seconds < TIMEOUT_SECONDS for seconds in counted)
    assert served[-3:] == [True] * 3


def test_a_topic_made_anew_is_not_taken_for_the_one_before(tmp_path: Path, served: list[bool]) -> None:
    with EmbeddedBroker(tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create(wire, "t")
        assert [produced(wire, "t", batch(b"old"), acks=1).base_offset for _ in range(3)] == [0, 1, 2]
        wire.call(5, DeleteTopicsRequest(topic_names=["t"], timeout_ms=1_000))
        assert produced(wire, "t", batch(b"to nobody"), acks=1).error_code == 3
        create(wire, "t")
        assert [produced(wire, "t", batch(b"new"), acks=1).base_offset for _ in range(3)] == [0, 1, 2]
    asked = ["old", "old", "delete", "to nobody", "create", "new", "new", "new"]
    assert [what for what, is_short in zip(asked, served, strict=True) if is_short] == ["old", "old", "new", "new"]


def test_answers_keep_their_order_behind_one_that_waits_for_the_disk(tmp_path: Path, served: list[bool]) -> None:
    with EmbeddedBroker(tmp_path) as broker, Wire(broker.bootstrap) as wire:
        create(wire, "t")
        for acks in (1, -1):
            produced(wire, "t", batch(b"known now"), acks=acks)
        numbers = [wire.send(9, produce_request("t", batch(b"n"), acks=acks)) for acks in (1, -1, 1, 1, -1, 1)]
        answers = [wire.receive() for _ in numbers]
        assert [number for number, _ in answers] == numbers
        assert [answer.responses[0].partition_responses[0].base_offset for _, answer in answers] == [2, 3, 4, 5, 6, 7]
    assert served[-6:] == [True] * 6


@contextmanager
def busy(broker: EmbeddedBroker) -> Iterator[None]:
    """The broker's loop does something else meanwhile: what arrives is there all at once when it is back."""
    is_busy, gate = threading.Event(), threading.Event()

    def work() -> None:
        is_busy.set()
        gate.wait(TIMEOUT_SECONDS)

    assert broker._loop is not None
    broker._loop.call_soon_threadsafe(work)
    assert is_busy.wait(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        gate.set()


Asked = tuple[int, int, bytes | None]  # number, partition (-1: of another kind), value (None: to be refused)
Stored = dict[tuple[int, int], bytes]  # by partition and offset


def ask(wire: Wire, random: Random, numbers: Iterator[int]) -> Iterator[Asked]:
    """Some requests of one client without waiting for answers."""
    acks, at = random.choice((1, 1, -1)), random.randrange(PARTITIONS)
    for _ in range(random.randint(0, 4)):
        partition = random.choice((at, at, at, random.randrange(PARTITIONS)))
        value = b"%d " % next(numbers) + bytes(random.choice((10, 300, 5_000)))
        records = bytearray(batch(value))
        is_whole = random.random() < 0.9
        if not is_whole:
            records[-1] ^= 1
        request = produce_request("t", bytes(records), acks=acks, partition=partition)
        yield wire.send(9, request), partition, value if is_whole else None
        if random.random() < 0.1:
            yield wire.send(12, MetadataRequest(topics=[])), -1, None


def take_answers(wire: Wire, asked: list[Asked], stored: Stored) -> None:
    for number, partition, value in asked:
        answered, answer = wire.receive()
        assert answered == number, "in the order of the requests"
        if partition < 0:
            continue
        (told,) = answer.responses[0].partition_responses
        assert (told.error_code == 0) == (value is not None)
        if value is not None:
            assert (partition, told.base_offset) not in stored
            stored[partition, told.base_offset] = value


def values_in(wire: Wire, partition: int) -> Stored:
    log = wire.call(11, fetch_request("t", 0, partition=partition, max_bytes=1 << 24))
    content = bytes(log.responses[0].partitions[0].records or b"")
    return {
        (partition, record.offset): record.value or b""
        for position, header in iterate_batches(content)
        for record in read_records(content, position, header)
    }


@pytest.mark.parametrize("seed", range(4))
def test_batches_that_come_at_once_are_stored_and_answered_each_as_if_alone(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    append = PartitionLog.append_together

    def watched(self: PartitionLog, batches: Sequence[bytearray | memoryview], **more: Any) -> Any:
        together.append(len(batches))
        return append(self, batches, **more)

    monkeypatch.setattr(PartitionLog, "append_together", watched)
    random, numbers = Random(seed), count()
    stored: Stored = {}
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker(tmp_path))
        wires = [stack.enter_context(Wire(broker.bootstrap)) for _ in range(16)]
        create(wires[0], "t", partitions=PARTITIONS)
        for wire in wires:
            first: list[Asked] = [
                (
                    wire.send(9, produce_request("t", batch(b"known"), acks=acks, partition=partition)),
                    partition,
                    b"known",
                )
                for partition in range(PARTITIONS)
                for acks in (1, -1)
            ]
            take_answers(wire, first, stored)
        for _ in range(6):
            with busy(broker):
                asked = {wire: list(ask(wire, random, numbers)) for wire in wires}
            for wire, requests in asked.items():
                take_answers(wire, requests, stored)
        for partition in range(PARTITIONS):
            assert values_in(wires[0], partition) == {at: value for at, value in stored.items() if at[0] == partition}
    assert max(together) >= 3


def test_a_bug_ends_the_connections_that_met_it_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker(tmp_path))
        one, two, other = (stack.enter_context(Wire(broker.bootstrap)) for _ in range(3))
        create(one, "t")
        for wire in (one, two):
            assert produced(wire, "t", batch(b"known"), acks=1).error_code == 0
        with monkeypatch.context() as patched:
            for name in ("append", "append_together"):
                patched.setattr(PartitionLog, name, None)
            with busy(broker):
                for wire in (one, two):
                    wire.send(9, produce_request("t", batch(b"lost"), acks=1))
            assert one.is_closed_by_broker()
            assert two.is_closed_by_broker()
        assert produced(other, "t", batch(b"goes on"), acks=1).base_offset == 2
