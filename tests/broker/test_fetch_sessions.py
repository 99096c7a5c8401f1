"""Fetch sessions (KIP-227): what a client is told when it names its partitions once, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from logqueue.broker.fetching.sessions import FetchSession
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from logqueue.protocol.messages.delete_topics import DeleteTopicsRequest
from logqueue.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import Wire, batch, create, produced, served
from tests.conftest import Engine
from tests.transactions.producing import TransactionalProducer

if TYPE_CHECKING:
    from logqueue.broker.partitions.partition import Partition
    from logqueue.broker.partitions.topics import Topics

FOREVER_MS = 15_000
SOON_MS = 200
PLENTY = 1_000_000


@pytest.fixture
def wire(engine: Engine) -> Iterator[Wire]:
    with Wire(engine.bootstrap) as connection:
        yield connection


@pytest.fixture
def topic(wire: Wire, prefix: str) -> str:
    """A topic of three partitions."""
    create(wire, prefix, partitions=3)
    served(wire, prefix)
    return prefix


class Reader:
    """A client with a session: `ask` says what is new and keeps count of epochs."""

    def __init__(self, wire: Wire, topic: str, *, version: int = 11) -> None:
        self.wire = wire
        self.topic = topic
        self.version = version
        self.id = 0
        self.epoch = 0
        self.topic_id = b""
        if version >= 13:
            asking = MetadataRequest(topics=[MetadataRequestTopic(name=topic)])
            self.topic_id = wire.call(12, asking).topics[0].topic_id

    def request(
        self,
        wanted: dict[int, int],
        *,
        forget: list[int] | None = None,
        wait_ms: int = 0,
        min_bytes: int = 1,
        isolation: int = 0,
    ) -> FetchRequest:
        parts = [
            FetchPartition(partition=number, fetch_offset=offset, partition_max_bytes=PLENTY)
            for number, offset in wanted.items()
        ]
        name = {"topic": self.topic, "topic_id": self.topic_id}
        return FetchRequest(
            max_wait_ms=wait_ms,
            min_bytes=min_bytes,
            max_bytes=PLENTY,
            isolation_level=isolation,
            session_id=self.id,
            session_epoch=self.epoch,
            topics=[FetchTopic(partitions=parts, **name)] if parts else [],
            forgotten_topics_data=[ForgottenTopic(partitions=forget, **name)] if forget else [],
        )

    def ask(self, wanted: dict[int, int] | None = None, **options: Any) -> Any:
        """The answer, as it is."""
        return self.took(self.wire.call(self.version, self.request(wanted or {}, **options)))

    def send(self, wanted: dict[int, int] | None = None, **options: Any) -> None:
        self.wire.send(self.version, self.request(wanted or {}, **options))

    def took(self, answer: Any) -> Any:
        if not answer.error_code:
            self.id = answer.session_id
            self.epoch += 1
        return answer


def told(answer: Any) -> list[tuple[int, int, bool]]:
    """Partition, high watermark and whether there are records, in the order of the answer."""
    assert answer.error_code == 0
    return [(p.partition_index, p.high_watermark, bool(p.records)) for t in answer.responses for p in t.partitions]


@pytest.mark.parametrize("version", [7, 11, 12, 13, 17])
def test_the_first_answer_names_all_and_the_next_what_is_new(wire: Wire, topic: str, version: int) -> None:
    reader = Reader(wire, topic, version=version)
    assert told(reader.ask({0: 0, 1: 0, 2: 0})) == [(0, 0, False), (1, 0, False), (2, 0, False)]
    assert reader.id > 0
    assert told(reader.ask()) == []
    produced(wire, topic, batch(b"x"), partition=1)
    assert told(reader.ask()) == [(1, 1, True)]
    assert told(reader.ask({1: 1})) == []


def test_records_that_are_not_passed_are_given_again(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    produced(wire, topic, batch(b"x"), partition=2)
    for _ in range(3):
        assert (2, 1, True) in told(reader.ask({0: 0, 2: 0} if not reader.epoch else {}))


def test_what_gave_records_comes_last_the_next_time(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    reader.ask({0: 0, 1: 0, 2: 0})
    produced(wire, topic, batch(b"x"), partition=0)
    assert told(reader.ask()) == [(0, 1, True)]
    for partition in (1, 2):
        produced(wire, topic, batch(b"x"), partition=partition)
    assert told(reader.ask()) == [(1, 1, True), (2, 1, True), (0, 1, True)]


def test_a_log_that_starts_elsewhere_is_told(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    for _ in range(2):
        produced(wire, topic, batch(b"x"))
    reader.ask({0: 2, 1: 0})
    assert told(reader.ask()) == []
    partition = DeleteRecordsPartition(partition_index=0, offset=1)
    cut = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=[partition])], timeout_ms=5_000)
    assert wire.call(2, cut).topics[0].partitions[0].error_code == 0
    answer = reader.ask()
    assert told(answer) == [(0, 2, False)]
    assert answer.responses[0].partitions[0].log_start_offset == 1
    assert told(reader.ask()) == []


def test_what_is_forgotten_is_not_told_and_can_be_added_again(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    reader.ask({0: 0, 1: 0})
    assert told(reader.ask(forget=[0])) == []
    produced(wire, topic, batch(b"x"))
    assert told(reader.ask()) == []
    assert told(reader.ask({0: 0})) == [(0, 1, True)]


def test_a_session_without_partitions_is_over(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    reader.ask({0: 0})
    number = reader.id
    assert told(reader.ask(forget=[0])) == []
    assert reader.id == 0
    reader.id = number
    assert reader.ask().error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_an_error_is_told_until_it_is_over(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    reader.ask({0: 0, 1: 5})
    for _ in range(2):
        answer = reader.ask(wait_ms=FOREVER_MS)
        assert [(p.partition_index, p.error_code) for p in answer.responses[0].partitions] == [
            (1, ErrorCode.OFFSET_OUT_OF_RANGE)
        ]
    assert told(reader.ask({1: 0})) == [(1, 0, False)]
    assert told(reader.ask()) == []


def test_epochs_have_to_follow_one_another(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    reader.ask({0: 0})
    reader.epoch = 2
    refused = reader.ask()
    assert (refused.error_code, refused.session_id) == (ErrorCode.INVALID_FETCH_SESSION_EPOCH, 0)
    reader.epoch = 1
    assert told(reader.ask()) == []


@pytest.mark.parametrize(("first", "then"), [(12, 13), (13, 12)])
def test_a_session_names_topics_in_one_way(wire: Wire, topic: str, first: int, then: int) -> None:
    reader = Reader(wire, topic, version=max(first, then))
    reader.version = first
    reader.ask({0: 0})
    reader.version = then
    assert reader.ask({0: 0}).error_code == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


@pytest.mark.parametrize("epoch", [-1, 0])
def test_a_full_fetch_ends_the_session_that_it_names(wire: Wire, topic: str, epoch: int) -> None:
    reader = Reader(wire, topic)
    reader.ask({0: 0})
    old, following = reader.id, reader.epoch
    reader.epoch = epoch
    answer = reader.ask({1: 0})
    assert told(answer) == [(1, 0, False)]
    assert (answer.session_id == 0) == (epoch == -1)
    assert answer.session_id != old
    reader.id, reader.epoch = old, following
    assert reader.ask().error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_session_that_nobody_opened_is_not_found(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    reader.id, reader.epoch = 5, 1
    assert reader.ask({0: 0}).error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_fetch_that_waits_is_told_of_what_comes(engine: Engine, wire: Wire, topic: str) -> None:
    with Wire(engine.bootstrap) as connection:
        reader = Reader(connection, topic)
        reader.ask({0: 0, 1: 0, 2: 0})
        for offset in range(3):
            reader.send({1: offset} if offset else {}, wait_ms=FOREVER_MS)
            produced(wire, topic, batch(b"x"), partition=1)
            assert told(reader.took(connection.receive()[1])) == [(1, offset + 1, True)]


def test_a_fetch_that_waits_in_vain_is_told_nothing(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    reader.ask({0: 0})
    assert told(reader.ask(wait_ms=SOON_MS)) == []
    assert told(reader.ask(wait_ms=SOON_MS)) == []


def test_too_little_is_waited_with_until_there_is_enough(engine: Engine, wire: Wire, topic: str) -> None:
    size = len(batch(b"some"))
    with Wire(engine.bootstrap) as connection:
        reader = Reader(connection, topic)
        reader.ask({0: 0, 1: 0})
        produced(wire, topic, batch(b"some"))
        reader.send(wait_ms=FOREVER_MS, min_bytes=size + 1)
        produced(wire, topic, batch(b"more"), partition=1)
        assert told(reader.took(connection.receive()[1])) == [(0, 1, True), (1, 1, True)]


def test_a_session_goes_on_over_another_connection(engine: Engine, wire: Wire, topic: str) -> None:
    with Wire(engine.bootstrap) as connection:
        reader = Reader(connection, topic)
        reader.ask({0: 0, 1: 0})
    produced(wire, topic, batch(b"x"), partition=1)
    reader.wire = wire
    assert told(reader.ask()) == [(1, 1, True)]


def test_a_fetch_that_waits_is_refused_when_its_session_has_gone_on(engine: Engine, wire: Wire, topic: str) -> None:
    with Wire(engine.bootstrap) as connection:
        reader = Reader(connection, topic)
        reader.ask({0: 0, 1: 0})
        reader.send(wait_ms=SOON_MS)
        reader.epoch += 1
        reader.wire = wire
        while (answer := reader.ask()).error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH:
            pass  # the other connection was not read yet
        assert told(answer) == []
        refused = connection.receive()[1]
        assert (refused.error_code, refused.session_id) == (ErrorCode.INVALID_FETCH_SESSION_EPOCH, reader.id)


def test_requests_of_one_connection_are_answered_one_after_the_other(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    reader.ask({0: 0})
    for _ in range(3):
        reader.send(wait_ms=SOON_MS)
        reader.epoch += 1
    assert [told(wire.receive()[1]) for _ in range(3)] == [[], [], []]


@pytest.mark.parametrize("commits", [True, False], ids=["committed", "aborted"])
def test_a_reader_of_committed_records_is_woken_by_the_end_of_a_transaction(
    engine: Engine, wire: Wire, topic: str, commits: bool
) -> None:
    producer = TransactionalProducer(wire, topic)
    assert producer.init() == 0
    with Wire(engine.bootstrap) as connection:
        reader = Reader(connection, topic)
        reader.ask({0: 0, 1: 0}, isolation=1)
        reader.send(wait_ms=FOREVER_MS, isolation=1)
        for _ in range(3):
            assert producer.produce(topic, b"x", partition=1) == 0
        assert producer.end(commit=commits) == 0
        answer = reader.took(connection.receive()[1])
        assert told(answer) == [(1, 4, True)]
        data = answer.responses[0].partitions[0]
        assert data.last_stable_offset == 4
        assert len(data.aborted_transactions) == (0 if commits else 1)
        assert told(reader.ask({1: 4}, isolation=1)) == []


def test_records_behind_an_open_transaction_are_there_for_who_reads_everything(wire: Wire, topic: str) -> None:
    producer = TransactionalProducer(wire, topic)
    assert producer.init() == 0
    reader = Reader(wire, topic)
    reader.ask({0: 0}, isolation=1)
    assert producer.produce(topic, b"x") == 0
    assert told(reader.ask(isolation=1)) == [(0, 1, False)]  # the high watermark has moved
    assert told(reader.ask(isolation=1)) == []
    assert told(reader.ask(isolation=0)) == [(0, 1, True)]
    assert producer.end() == 0


def test_a_topic_that_goes_and_comes_back_is_told_both_times(wire: Wire, topic: str) -> None:
    reader = Reader(wire, topic)
    reader.ask({0: 0})
    assert wire.call(5, DeleteTopicsRequest(topic_names=[topic], timeout_ms=5_000)).responses[0].error_code == 0
    while not (answer := reader.ask()).responses:
        pass  # Kafka answers before it is gone everywhere
    assert answer.responses[0].partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    while create(wire, topic).error_code:
        pass
    served(wire, topic)
    produced(wire, topic, batch(b"x"))
    assert told(reader.ask()) == [(0, 1, True)]


def test_a_fetch_that_waits_is_answered_when_the_broker_stops() -> None:
    with EmbeddedBroker(fsync=False) as broker, Wire(broker.bootstrap) as wire:
        create(wire, "t")
        reader = Reader(wire, "t")
        reader.ask({0: 0})
        reader.send(wait_ms=FOREVER_MS)
        with Wire(broker.bootstrap) as other:
            other.call(9, MetadataRequest(topics=[]))
        broker.stop()
        assert told(wire.receive()[1]) == []


def test_without_slots_every_fetch_is_a_full_one() -> None:
    settings = {"max_incremental_fetch_session_cache_slots": 0}
    with EmbeddedBroker(fsync=False, **settings) as broker, Wire(broker.bootstrap) as wire:
        create(wire, "t")
        reader = Reader(wire, "t")
        assert told(reader.ask({0: 0})) == [(0, 0, False)]
        assert reader.id == 0


class Grown:
    """A partition as a session sees it."""

    def __init__(self) -> None:
        self.parked: dict[FetchSession, None] = {}


def test_a_session_that_nobody_waits_for_is_told_once_of_what_grows() -> None:
    partitions = [Grown(), Grown()]
    topics = SimpleNamespace(version=1, by_name={"t": SimpleNamespace(name="t", partitions=partitions)})
    parts = [FetchPartition(partition=number) for number in (0, 1)]
    request = FetchRequest(topics=[FetchTopic(topic="t", partitions=parts)])
    session = FetchSession(cast("Topics", topics), request, 11)
    assert len(session.due) == 2
    session.due.clear()  # as an answer leaves it that finds nothing: both logs wake the session
    for partition in partitions:
        partition.parked[session] = None
    session.on_growth(cast("Partition", partitions[1]), 10)
    assert [bool(partition.parked) for partition in partitions] == [True, False]
    assert [known.index for known in session.due_in_order()] == [1]
    session.close()
    assert not partitions[0].parked
