"""What transactional requests are answered, in every version: the rules of the embedded broker and of Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from logqueue.protocol.messages.describe_transactions import DescribeTransactionsRequest
from logqueue.protocol.messages.list_transactions import ListTransactionsRequest
from logqueue.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from tests.broker.wire import Wire
from tests.conftest import Engine
from tests.transactions.producing import (
    TransactionalProducer,
    create_topics,
    fetch_offset,
    listed,
    patiently,
    read,
    until,
)

OK = ErrorCode.NONE


@pytest.fixture
def wire(engine: Engine) -> Iterator[Wire]:
    with Wire(engine.bootstrap) as connection:
        yield connection


@pytest.fixture
def producer(wire: Wire, prefix: str) -> TransactionalProducer:
    """A producer that has its first epoch."""
    made = TransactionalProducer(wire, prefix)
    assert made.init() is OK
    return made


@pytest.fixture
def topic(wire: Wire, prefix: str) -> str:
    create_topics(wire, prefix)
    return prefix


# InitProducerId


@pytest.mark.parametrize(
    ("timeout_ms", "expected", "code"),
    [
        (0, (-1, -1), ErrorCode.INVALID_TRANSACTION_TIMEOUT),
        (900_001, (-1, -1), ErrorCode.INVALID_TRANSACTION_TIMEOUT),
        (1_000, (5, -1), ErrorCode.INVALID_REQUEST),
        (1_000, (-1, 5), ErrorCode.INVALID_REQUEST),
    ],
)
def test_what_is_no_proper_initialization_is_refused(
    wire: Wire, prefix: str, timeout_ms: int, expected: tuple[int, int], code: ErrorCode
) -> None:
    producer = TransactionalProducer(wire, prefix)
    assert producer.init(timeout_ms=timeout_ms, expected=expected) is code
    assert producer.describe().error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND


def test_an_empty_transactional_id_is_refused(wire: Wire) -> None:
    assert TransactionalProducer(wire, "").init() is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("version", range(6))
def test_every_initialization_without_an_epoch_brings_the_next_one(wire: Wire, prefix: str, version: int) -> None:
    producer = TransactionalProducer(wire, prefix)
    assert producer.init(version=version) is OK
    first = producer.producer_id
    assert producer.epoch == 0
    assert producer.init(version=version) is OK
    assert (producer.producer_id, producer.epoch) == (first, 1)


def test_a_producer_that_offers_its_epoch_gets_the_next_one_and_the_same_again_for_a_retry(
    producer: TransactionalProducer,
) -> None:
    offered = (producer.producer_id, producer.epoch)
    for _ in range(2):
        assert producer.init(expected=offered) is OK
        assert producer.epoch == 1


@pytest.mark.parametrize(("version", "code"), [(3, ErrorCode.INVALID_PRODUCER_EPOCH), (4, ErrorCode.PRODUCER_FENCED)])
def test_a_producer_that_offers_an_epoch_of_others_is_fenced(
    producer: TransactionalProducer, version: int, code: ErrorCode
) -> None:
    old = (producer.producer_id, producer.epoch)
    assert producer.init() is OK
    assert producer.init(expected=old, version=version) is code
    assert producer.init(expected=(producer.producer_id + 1_000_000, producer.epoch), version=version) is code


def test_a_new_transactional_id_takes_a_producer_with_any_id(wire: Wire, prefix: str) -> None:
    producer = TransactionalProducer(wire, prefix)
    assert producer.init(expected=(12345, 7)) is OK
    assert producer.epoch == 0


def test_initialization_aborts_what_is_open_and_asks_to_come_again(
    wire: Wire, producer: TransactionalProducer, topic: str
) -> None:
    assert producer.add(topic) is OK
    assert producer.produce(topic, b"open", version=9) is OK
    assert producer.ask_init().error_code == ErrorCode.CONCURRENT_TRANSACTIONS
    old = producer.epoch
    assert producer.init() is OK
    assert producer.epoch == old + 2
    assert producer.state() == "Empty"
    assert read(wire, topic, committed=True) == []


# AddPartitionsToTxn and AddOffsetsToTxn


@pytest.mark.parametrize("version", range(4))
def test_partitions_are_added_to_the_transaction_of_the_present_epoch_only(
    producer: TransactionalProducer, topic: str, version: int
) -> None:
    fenced = ErrorCode.PRODUCER_FENCED if version >= 2 else ErrorCode.INVALID_PRODUCER_EPOCH
    assert producer.add(topic, version=version, epoch=producer.epoch + 1) is fenced
    assert producer.add(topic, version=version, epoch=producer.epoch - 1) is fenced
    assert producer.state() == "Empty"
    assert producer.add(topic, version=version) is OK
    assert producer.add(topic, 0, 1, version=version) is OK
    described = producer.describe()
    assert [(t.topic, sorted(t.partitions)) for t in described.topics] == [(topic, [0, 1])]
    assert (described.transaction_state, described.producer_epoch) == ("Ongoing", producer.epoch)


def test_nobody_adds_partitions_under_an_unknown_id_or_to_the_producer_id_of_others(
    wire: Wire, producer: TransactionalProducer, topic: str
) -> None:
    stranger = TransactionalProducer(wire, f"{producer.transactional_id}-unknown")
    assert stranger.add(topic) is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    producer.producer_id += 1_000_000
    assert producer.add(topic) is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert producer.add_offsets("g") is ErrorCode.INVALID_PRODUCER_ID_MAPPING


def test_one_partition_that_does_not_exist_keeps_all_others_out(producer: TransactionalProducer, topic: str) -> None:
    assert producer.add_each({topic: [0, 7]}) == {
        (topic, 0): ErrorCode.OPERATION_NOT_ATTEMPTED,
        (topic, 7): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert producer.state() == "Empty"


def test_clients_add_no_internal_topics(producer: TransactionalProducer) -> None:
    assert producer.add_offsets("g") is OK
    assert producer.add("__consumer_offsets") is ErrorCode.TOPIC_AUTHORIZATION_FAILED


@pytest.mark.parametrize("version", range(5))
def test_a_group_is_added_as_its_partition_of_the_offsets_topic(producer: TransactionalProducer, version: int) -> None:
    fenced = ErrorCode.PRODUCER_FENCED if version >= 2 else ErrorCode.INVALID_PRODUCER_EPOCH
    assert producer.add_offsets("g", version=version, epoch=producer.epoch + 1) is fenced
    assert producer.add_offsets("g", version=version) is OK
    assert [t.topic for t in producer.describe().topics] == ["__consumer_offsets"]


@pytest.mark.parametrize("version", [4, 5])
def test_brokers_verify_and_add_for_several_transactions_at_once(
    wire: Wire, producer: TransactionalProducer, topic: str, version: int
) -> None:
    other = TransactionalProducer(wire, f"{producer.transactional_id}-b")
    assert other.init() is OK
    topics = [AddPartitionsToTxnTopic(name=topic, partitions=[0])]

    def call(*, verify_only: bool) -> dict[str, ErrorCode]:
        request = AddPartitionsToTxnRequest(
            transactions=[
                AddPartitionsToTxnTransaction(
                    transactional_id=each.transactional_id,
                    producer_id=each.producer_id,
                    producer_epoch=each.epoch,
                    verify_only=verify_only,
                    topics=topics,
                )
                for each in (producer, other)
            ]
        )
        answer = wire.call(version, request)
        assert answer.error_code == 0
        return {
            r.transactional_id: ErrorCode(r.topic_results[0].results_by_partition[0].partition_error_code)
            for r in answer.results_by_transaction
        }

    assert set(call(verify_only=True).values()) == {ErrorCode.TRANSACTION_ABORTABLE}
    assert call(verify_only=False) == {producer.transactional_id: OK, other.transactional_id: OK}
    assert set(call(verify_only=True).values()) == {OK}
    producer.epoch += 1
    assert call(verify_only=True)[producer.transactional_id] is ErrorCode.PRODUCER_FENCED


# EndTxn, both versions of the protocol


@pytest.mark.parametrize("version", range(5))
def test_with_the_first_protocol_an_end_keeps_the_epoch_and_is_the_same_when_sent_again(
    producer: TransactionalProducer, topic: str, version: int
) -> None:
    fenced = ErrorCode.PRODUCER_FENCED if version >= 2 else ErrorCode.INVALID_PRODUCER_EPOCH
    for commit in (True, False):
        assert producer.add(topic) is OK
        assert producer.end(commit=commit, version=version, epoch=producer.epoch + 1) is fenced
        for _ in range(2):
            assert producer.end(commit=commit, version=version) is OK
            until(lambda commit=commit: producer.state() == ("CompleteCommit" if commit else "CompleteAbort"))  # type: ignore[misc]
        assert producer.end(commit=not commit, version=version) is ErrorCode.INVALID_TXN_STATE
        assert producer.describe().producer_epoch == producer.epoch


@pytest.mark.parametrize("commit", [True, False])
def test_with_the_first_protocol_there_is_nothing_to_end_before_a_transaction(
    producer: TransactionalProducer, commit: bool
) -> None:
    assert producer.end(commit=commit, version=3) is ErrorCode.INVALID_TXN_STATE


@pytest.mark.parametrize("version", [3, 5])
def test_nobody_ends_a_transaction_under_an_unknown_id(
    wire: Wire, producer: TransactionalProducer, version: int
) -> None:
    stranger = TransactionalProducer(wire, f"{producer.transactional_id}-unknown")
    assert stranger.end(version=version) is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    answer = producer.ask_end(commit=True, version=version, producer_id=producer.producer_id + 1_000_000)
    assert answer.error_code == ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert TransactionalProducer(wire, "").end(version=version) is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("commit", [True, False])
def test_with_the_second_protocol_every_end_brings_an_epoch_and_a_retry_the_same_one(
    producer: TransactionalProducer, topic: str, commit: bool
) -> None:
    old = producer.epoch
    assert producer.produce(topic, b"v") is OK
    for _ in range(2):
        answer = producer.ask_end(commit=commit, version=5, epoch=old)
        assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (OK, producer.producer_id, old + 1)
    until(lambda: producer.state() == ("CompleteCommit" if commit else "CompleteAbort"))
    assert producer.end(commit=not commit, epoch=old) is ErrorCode.INVALID_TXN_STATE
    assert producer.end(commit=True, epoch=old + 1) is ErrorCode.INVALID_TXN_STATE
    assert producer.end(commit=False, epoch=old + 2) is ErrorCode.PRODUCER_FENCED
    answer = producer.ask_end(commit=False, version=5, epoch=old + 1)
    assert (answer.error_code, answer.producer_epoch) == (OK, old + 2)


def test_with_the_second_protocol_an_abort_without_a_transaction_brings_an_epoch_too(
    producer: TransactionalProducer,
) -> None:
    assert producer.end(commit=True) is ErrorCode.INVALID_TXN_STATE
    assert producer.end(commit=False, epoch=producer.epoch - 1) is ErrorCode.PRODUCER_FENCED
    assert producer.end(commit=False) is OK
    assert producer.epoch == 1


def test_with_the_second_protocol_an_ongoing_transaction_is_ended_by_its_epoch_only(
    producer: TransactionalProducer, topic: str
) -> None:
    assert producer.produce(topic, b"v") is OK
    for wrong in (producer.epoch - 1, producer.epoch + 1):
        assert producer.end(epoch=wrong) is ErrorCode.PRODUCER_FENCED
    assert producer.end() is OK


# Produce


def refusals(engine: Engine, code: ErrorCode) -> set[ErrorCode]:
    """What may be told a producer whose partition was not added, where its version says `code`.

    Apache Kafka asks its coordinator for all transactions that wait at the moment, and translates the answer for each
    of them as the version of the first demands (AddPartitionsToTxnManager of 4.x): beside other tests' transactions,
    either code may come for either version. Ours answers each by its own version.
    """
    translated = {ErrorCode.INVALID_TXN_STATE, ErrorCode.TRANSACTION_ABORTABLE}
    return translated if engine.name == "apache" and code in translated else {code}


@pytest.mark.parametrize(
    ("version", "code"),
    [
        (3, ErrorCode.INVALID_TXN_STATE),
        (10, ErrorCode.INVALID_TXN_STATE),
        (11, ErrorCode.TRANSACTION_ABORTABLE),
        (12, OK),
    ],
)
def test_a_partition_that_was_not_added_is_added_from_version_12_on_and_refused_before(
    engine: Engine, wire: Wire, producer: TransactionalProducer, topic: str, version: int, code: ErrorCode
) -> None:
    assert producer.add(topic, 1) is OK
    assert producer.produce(topic, b"v", version=version) in refusals(engine, code)
    assert producer.end(version=3) is OK
    until(lambda: producer.state() == "CompleteCommit")
    assert read(wire, topic, committed=True) == ([b"v"] if code is OK else [])


@pytest.mark.parametrize("version", [9, 12])
def test_a_batch_of_a_transaction_needs_the_transactional_id_in_its_request(
    producer: TransactionalProducer, topic: str, version: int
) -> None:
    assert producer.add(topic) is OK
    assert producer.produce(topic, b"v", version=version, names_id=False) is (
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    )


@pytest.mark.parametrize("version", [9, 11, 12])
def test_a_fenced_producer_writes_nothing(
    wire: Wire, producer: TransactionalProducer, topic: str, version: int
) -> None:
    assert producer.add(topic) is OK
    assert producer.produce(topic, b"open", version=version) is OK
    zombie = producer.epoch
    assert producer.init() is OK
    assert producer.produce(topic, b"late", version=version, epoch=zombie, sequence=1) is (
        ErrorCode.INVALID_PRODUCER_EPOCH
    )
    assert producer.produce(topic, b"late", version=version, epoch=zombie, sequence=0, partition=1) is (
        ErrorCode.INVALID_PRODUCER_EPOCH
    )
    assert producer.add(topic, epoch=zombie) is ErrorCode.PRODUCER_FENCED
    assert producer.end(version=3, epoch=zombie) is ErrorCode.PRODUCER_FENCED
    assert read(wire, topic, committed=True) == []


def test_a_batch_under_the_producer_id_of_others_is_refused(producer: TransactionalProducer, topic: str) -> None:
    producer.producer_id += 1_000_000
    for version in (9, 12):
        assert producer.produce(topic, b"v", version=version) is ErrorCode.INVALID_PRODUCER_ID_MAPPING


def test_a_transaction_of_the_second_protocol_begins_with_sequence_0(
    producer: TransactionalProducer, topic: str
) -> None:
    assert producer.produce(topic, b"v", sequence=5) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert producer.produce(topic, b"v", sequence=0) is OK


@pytest.mark.parametrize("version", [9, 12])
def test_only_committed_records_are_read_in_the_order_of_the_log(
    wire: Wire, producer: TransactionalProducer, topic: str, version: int
) -> None:
    end_version = 5 if version == 12 else 3
    for value, commit in ((b"a", True), (b"b", False), (b"c", True)):
        if version < 12:
            assert producer.add(topic) is OK
        assert producer.produce(topic, value, value * 2, version=version) is OK
        assert producer.end(commit=commit, version=end_version) is OK
    until(lambda: producer.state() == "CompleteCommit")
    assert read(wire, topic, committed=True) == [b"a", b"aa", b"c", b"cc"]
    if version < 12:
        assert producer.add(topic) is OK
    assert producer.produce(topic, b"open", version=version) is OK
    assert read(wire, topic, committed=True)[-1] == b"cc"


# Offsets in transactions


@pytest.mark.parametrize("version", range(6))
def test_offsets_count_once_their_transaction_is_committed(
    wire: Wire, producer: TransactionalProducer, topic: str, version: int
) -> None:
    group, end_version = topic, 5 if version >= 5 else 3
    for offset, commit, after in ((3, True, 3), (9, False, 3)):
        if version < 5:
            assert producer.add_offsets(group) is OK
        before = fetch_offset(wire, group, topic)
        assert producer.commit_offset(group, topic, offset, version=version) is OK
        assert fetch_offset(wire, group, topic) == before
        assert fetch_offset(wire, group, topic, stable=True) == (ErrorCode.UNSTABLE_OFFSET_COMMIT, -1)
        assert fetch_offset(wire, group, topic, stable=True, partition=1) == (OK, -1)
        assert producer.end(commit=commit, version=end_version) is OK
        until(lambda: fetch_offset(wire, group, topic, stable=True)[0] == OK)
        assert fetch_offset(wire, group, topic) == (OK, after)


@pytest.mark.parametrize(
    ("version", "code"),
    [(2, ErrorCode.INVALID_TXN_STATE), (3, ErrorCode.INVALID_TXN_STATE), (4, ErrorCode.TRANSACTION_ABORTABLE), (5, OK)],
)
def test_a_group_that_was_not_added_is_added_from_version_5_on_and_refused_before(
    engine: Engine, producer: TransactionalProducer, topic: str, version: int, code: ErrorCode
) -> None:
    assert producer.add(topic) is OK
    assert producer.commit_offset(topic, topic, 1, version=version) in refusals(engine, code)


@pytest.mark.parametrize("version", [3, 5])
def test_offsets_are_committed_by_the_present_epoch_only(
    producer: TransactionalProducer, topic: str, version: int
) -> None:
    assert producer.add_offsets(topic) is OK
    for wrong in (producer.epoch - 1, producer.epoch + 1):
        code = producer.commit_offset(topic, topic, 1, version=version, epoch=wrong)
        assert code is ErrorCode.INVALID_PRODUCER_EPOCH


def test_offsets_are_committed_by_members_of_the_group_only(producer: TransactionalProducer, topic: str) -> None:
    assert producer.add_offsets(topic) is OK
    assert producer.commit_offset(topic, topic, 1, version=3, generation=1, member="m") is ErrorCode.ILLEGAL_GENERATION
    assert producer.commit_offset(topic, topic, 1, version=3) is OK
    assert producer.end(version=3) is OK
    until(lambda: producer.state() == "CompleteCommit")
    assert producer.add_offsets(topic) is OK
    assert producer.commit_offset(topic, topic, 1, version=3, generation=1, member="m") is ErrorCode.UNKNOWN_MEMBER_ID


def test_offsets_of_what_does_not_exist_or_with_too_much_metadata_are_refused_alone(
    producer: TransactionalProducer, topic: str
) -> None:
    assert producer.commit_offset(topic, f"{topic}-none", 1) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert producer.commit_offset(topic, topic, 1, partition=5) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert producer.state() == "Empty"
    assert producer.commit_offset(topic, topic, 1, metadata="x" * 4097) is ErrorCode.OFFSET_METADATA_TOO_LARGE
    assert producer.commit_offset("", topic, 1) is ErrorCode.INVALID_GROUP_ID


def test_the_newest_of_two_commits_in_transactions_counts_whichever_ends_first(wire: Wire, topic: str) -> None:
    first, second = (TransactionalProducer(wire, f"{topic}-{name}") for name in "ab")
    for each, offset in ((first, 10), (second, 20)):
        assert each.init() is OK
        assert each.commit_offset(topic, topic, offset) is OK
    assert second.end() is OK
    assert fetch_offset(wire, topic, topic, stable=True) == (ErrorCode.UNSTABLE_OFFSET_COMMIT, -1)
    assert first.end() is OK
    until(lambda: fetch_offset(wire, topic, topic, stable=True)[0] == OK)
    assert fetch_offset(wire, topic, topic) == (OK, 20)


# What the coordinator tells


def test_ids_are_described_and_those_that_are_not_there_are_told(
    wire: Wire, producer: TransactionalProducer, topic: str
) -> None:
    described = producer.describe()
    assert (described.transaction_state, described.transaction_start_time_ms) == ("Empty", -1)
    assert (described.producer_id, described.producer_epoch) == (producer.producer_id, producer.epoch)
    assert described.transaction_timeout_ms == 60_000
    assert producer.add(topic) is OK
    assert producer.describe().transaction_start_time_ms > 0
    missing, empty = wire.call(0, DescribeTransactionsRequest(transactional_ids=["none", ""])).transaction_states
    assert missing.error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
    assert empty.error_code == ErrorCode.INVALID_REQUEST


def test_ids_are_listed_by_state_producer_duration_and_pattern(wire: Wire, topic: str) -> None:
    idle, busy = (TransactionalProducer(wire, f"{topic}-{name}") for name in ("idle", "busy"))
    for each in (idle, busy):
        assert each.init() is OK
    assert busy.add(topic) is OK
    both = [(f"{topic}-busy", "Ongoing"), (f"{topic}-idle", "Empty")]
    assert listed(wire, topic, version=0) == both
    assert listed(wire, topic, state_filters=["Ongoing"]) == both[:1]
    assert listed(wire, topic, producer_id_filters=[idle.producer_id]) == both[1:]
    assert listed(wire, topic, duration_filter=0, state_filters=["Ongoing"], version=1) == both[:1]
    assert listed(wire, topic, duration_filter=600_000, state_filters=["Ongoing"]) == []
    assert listed(wire, topic, transactional_id_pattern=f"{topic}-i.*") == both[1:]
    assert listed(wire, topic, transactional_id_pattern=f"{topic}-i") == []
    answer = wire.call(0, ListTransactionsRequest(state_filters=["Ongoing", "Nonsense"]))
    assert list(answer.unknown_state_filters) == ["Nonsense"]
    broken = wire.call(2, ListTransactionsRequest(transactional_id_pattern="("))
    assert broken.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION


# WriteTxnMarkers


def write_marker(
    wire: Wire, producer: TransactionalProducer, topic: str, *, epoch: int, partition: int = 0, version: int = 1
) -> ErrorCode:
    marker = WritableTxnMarker(
        producer_id=producer.producer_id,
        producer_epoch=epoch,
        transaction_result=False,
        topics=[WritableTxnMarkerTopic(name=topic, partition_indexes=[partition])],
        coordinator_epoch=100,
    )
    answer = wire.call(version, WriteTxnMarkersRequest(markers=[marker]))
    return ErrorCode(answer.markers[0].topics[0].partitions[0].error_code)


def test_an_administrator_ends_a_hanging_transaction_in_one_partition(
    wire: Wire, producer: TransactionalProducer, topic: str
) -> None:
    assert producer.init() is OK
    assert producer.add(topic) is OK
    assert producer.produce(topic, b"hanging", version=9) is OK
    assert write_marker(wire, producer, topic, epoch=producer.epoch, partition=9) is (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    )
    assert write_marker(wire, producer, topic, epoch=producer.epoch - 1) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert write_marker(wire, producer, topic, epoch=producer.epoch) is OK
    assert read(wire, topic, committed=True) == []
    assert read(wire, topic, committed=False) == [b"hanging"]


# Timeouts


def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced(
    wire: Wire, prefix: str, topic: str
) -> None:
    producer = TransactionalProducer(wire, prefix)
    assert producer.init(timeout_ms=3_000) is OK
    assert producer.add(topic) is OK
    assert producer.produce(topic, b"slow", version=9) is OK
    epoch = producer.epoch
    until(lambda: producer.state() == "CompleteAbort")
    assert producer.describe().producer_epoch == epoch + 1
    assert producer.produce(topic, b"late", version=9) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert producer.end(version=3) is ErrorCode.PRODUCER_FENCED
    assert producer.end(version=5, commit=True, epoch=epoch) is ErrorCode.INVALID_TXN_STATE
    assert patiently(lambda: producer.ask_end(commit=False, version=5, epoch=epoch)).producer_epoch == epoch + 1
    assert read(wire, topic, committed=True) == []
