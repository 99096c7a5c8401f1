"""What a start makes of transactions that logs have open, when the power has taken records of the coordinator."""

from __future__ import annotations

from dataclasses import replace

import pytest

from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.transaction.records import encode
from logqueue.transaction.transaction import LAST_CLIENT_EPOCH
from tests.transactions.machine import ID, T0, T1, U0, Marker, Shell

OK = ErrorCode.NONE


@pytest.fixture
def shell() -> Shell:
    return Shell()


def begun(shell: Shell, *partitions: TopicPartition) -> tuple[int, int]:
    producer = shell.producer(shell.init())
    assert shell.error(shell.ask(producer, *partitions)) is OK
    return producer


def partitions_of(shell: Shell) -> set[TopicPartition]:
    return {
        TopicPartition(topic.topic, partition) for topic in shell.describe().topics for partition in topic.partitions
    }


@pytest.mark.parametrize("commit", [True, False])
def test_a_transaction_whose_record_is_lost_is_begun_again_and_ends_whole(shell: Shell, commit: bool) -> None:
    producer = begun(shell, T0, U0)
    shell.crash()
    assert shell.state() == "Ongoing"
    assert partitions_of(shell) == {T0, U0}
    assert shell.error(shell.ask(producer, T1)) is OK
    assert shell.producer(shell.end(producer, commit=commit)) == (producer[0], producer[1] + 1)
    assert shell.markers == {p: [Marker(producer[0], producer[1] + 1, commit)] for p in (T0, T1, U0)}


def test_a_transaction_that_has_lost_a_partition_gets_it_back(shell: Shell) -> None:
    producer = begun(shell, T0)
    assert shell.error(shell.ask(producer, U0)) is OK
    shell.crash(kept=1)
    assert partitions_of(shell) == {T0, U0}
    shell.end(producer)
    assert shell.markers.keys() == {T0, U0}


def test_a_transaction_that_nobody_ends_after_a_start_is_ended_by_its_timeout(shell: Shell) -> None:
    producer = begun(shell, T0)
    shell.crash()
    shell.advance(75)
    assert shell.state() == "CompleteAbort"
    assert shell.markers[T0] == [Marker(producer[0], producer[1] + 1, False)]
    assert shell.error(shell.end(producer)) is ErrorCode.INVALID_TXN_STATE, "nobody is told that it is committed"


def test_a_transaction_behind_one_whose_complete_record_is_lost_keeps_clear_of_its_markers(shell: Shell) -> None:
    producer = begun(shell, T0, T1)
    following = shell.producer(shell.end(producer))
    assert shell.error(shell.ask(following, T0, U0)) is OK
    shell.crash()
    assert shell.state() == "Ongoing"
    assert partitions_of(shell) == {T0, U0}
    first, second = Marker(producer[0], following[1], True), Marker(producer[0], following[1] + 1, False)
    assert shell.markers == {T0: [first], T1: [first]}, "nothing is written for the one that is over"
    shell.end(following, commit=False)
    assert shell.markers == {T0: [first, second], T1: [first], U0: [second]}


def test_a_marker_that_is_lost_is_written_again_as_it_was_decided(shell: Shell) -> None:
    producer = begun(shell, T0, U0)
    shell.is_prompt = False
    shell.end(producer)
    shell.step()
    shell.crash()
    shell.settle_all()
    assert shell.state() == "CompleteCommit"
    assert shell.markers == {p: [Marker(producer[0], producer[1] + 1, True)] for p in (T0, U0)}


def test_a_transaction_is_found_again_by_the_producer_id_that_came_with_the_end_before(shell: Shell) -> None:
    producer_id, _ = shell.producer(shell.init())
    shell.log.append(encode(replace(shell.stored()[ID], epoch=LAST_CLIENT_EPOCH), transaction_version=2))
    shell.crash(kept=1)
    old = (producer_id, LAST_CLIENT_EPOCH)
    assert shell.error(shell.ask(old, T0)) is OK
    following = shell.producer(shell.end(old))
    assert following[0] != producer_id
    assert shell.error(shell.ask(following, T0)) is OK
    shell.crash()
    assert shell.state() == "Ongoing"
    shell.end(following)
    assert shell.markers[T0][-1] == Marker(following[0], 1, True)


@pytest.mark.parametrize("age", ["an id that is not known", "an epoch that is over"])
def test_what_no_transactional_id_can_end_is_aborted_as_often_as_it_takes(shell: Shell, age: str) -> None:
    producer = shell.producer(shell.init())
    shell.producer(shell.init())
    hanging = producer if age == "an epoch that is over" else (4711, 5)
    shell.parts[T0] = {hanging[0]: hanging[1]}
    shell.unwritable = {T0}
    shell.crash()
    assert shell.markers == {}
    shell.unwritable = set()
    shell.advance(1)
    assert shell.markers == {T0: [Marker(hanging[0], hanging[1] + 1, False)]}
    assert shell.state() == "Empty"


def test_a_start_tells_if_it_cannot_write_what_it_found(shell: Shell) -> None:
    begun(shell, T0)
    shell.append_error = ErrorCode.KAFKA_STORAGE_ERROR
    shell.crash()
    assert shell.error(shell.start_error) is not OK


def test_a_start_writes_nothing_of_transactions_that_the_coordinator_knows(shell: Shell) -> None:
    begun(shell, T0, U0)
    written = len(shell.log)
    shell.crash(kept=1)
    assert len(shell.log) == written
    assert shell.markers == {}
