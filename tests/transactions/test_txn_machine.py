"""Rules of the transaction coordinator that need a clock, a failing disk, or a moment between two records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.transaction.records import decode, encode
from logqueue.transaction.states import MOVES, TransactionState
from logqueue.transaction.transaction import LAST_CLIENT_EPOCH
from tests.transactions.machine import ID, T0, T1, U0, Marker, Shell

OK = ErrorCode.NONE
CONCURRENT = ErrorCode.CONCURRENT_TRANSACTIONS


@pytest.fixture
def shell() -> Shell:
    return Shell()


def begun(shell: Shell, *partitions: TopicPartition) -> tuple[int, int]:
    """A producer with an open transaction."""
    producer = shell.producer(shell.init())
    assert shell.error(shell.ask(producer, *(partitions or (T0,)))) is OK
    return producer


def in_its_last_epoch(shell: Shell) -> tuple[int, int]:
    """A producer that has used all epochs of its id but one."""
    producer_id, _ = shell.producer(shell.init())
    used_up = replace(shell.stored()[ID], epoch=LAST_CLIENT_EPOCH)
    shell.log.append(encode(used_up, transaction_version=2))
    shell.crash(kept=1)
    return producer_id, LAST_CLIENT_EPOCH


def test_moves_name_every_state_and_lead_out_of_all_but_the_dead_end() -> None:
    assert set(MOVES) == set(TransactionState)
    stuck = {state for state, moves in MOVES.items() if not moves}
    assert stuck == {TransactionState.DEAD, TransactionState.PREPARE_EPOCH_FENCE}


# While a record is being written


def test_nothing_is_answered_before_its_record_is_durable(shell: Shell) -> None:
    shell.is_prompt = False
    token = shell.init()
    assert shell.is_waiting(token)
    assert shell.error(shell.init()) is CONCURRENT
    shell.step()
    producer = shell.producer(token)
    added = shell.add(producer, T0)
    assert shell.is_waiting(added)
    for meanwhile in (shell.add(producer, T1), shell.end(producer), shell.end(producer, version=3), shell.init()):
        assert shell.error(meanwhile) is CONCURRENT
    shell.step()
    assert shell.error(added) is OK


def test_a_produce_does_not_wait_for_the_record_of_its_partitions(shell: Shell) -> None:
    producer = shell.producer(shell.init())
    shell.is_prompt = False
    tokens = [shell.ask(producer, T0), shell.ask(producer, T0, U0), shell.ask(producer, U0)]
    assert {shell.error(t) for t in tokens} == {OK}
    assert not shell.under_way
    assert len(shell.log) == shell.durable + 2  # the last question cost no record


def test_produces_that_ask_meanwhile_wait_in_order(shell: Shell) -> None:
    producer = begun(shell)
    shell.is_prompt = False
    shell.end(producer)
    following = (producer[0], producer[1] + 1)
    tokens = [shell.ask(following, T0), shell.ask(following, T0), shell.ask(following, T1), shell.ask(following, U0)]
    shell.step()
    assert all(shell.is_waiting(t) for t in tokens)
    written = len(shell.log)
    shell.settle_all()
    assert {shell.error(t) for t in tokens} == {OK}
    assert len(shell.log) == written + 4  # Complete, and three for the partitions


def test_behind_an_end_that_kept_the_epoch_a_produce_waits_for_the_record_of_its_partitions(shell: Shell) -> None:
    """A start could carry that end out again, on what the produce has written."""
    producer = begun(shell)
    assert shell.error(shell.end(producer, version=3)) is OK
    shell.is_prompt = False
    asked = shell.ask(producer, T0)
    assert shell.is_waiting(asked)
    shell.settle_all()
    assert shell.error(asked) is OK
    assert shell.error(shell.ask(producer, T1)) is OK


@pytest.mark.parametrize("version", [0, 1])
def test_below_level_2_a_produce_waits_for_the_record_of_its_partitions(version: int) -> None:
    shell = Shell(version=version)
    producer = shell.producer(shell.init())
    shell.is_prompt = False
    assert shell.is_waiting(shell.ask(producer, T0))


def test_an_end_is_answered_after_its_markers(shell: Shell) -> None:
    producer = begun(shell, T0, U0)
    shell.is_prompt = False
    ended = shell.end(producer)
    shell.step()
    assert shell.state() == "PrepareCommit"
    assert shell.is_waiting(ended)
    waits = shell.ask((producer[0], producer[1] + 1), T1)
    assert shell.is_waiting(waits)
    shell.step()
    assert shell.producer(ended) == (producer[0], producer[1] + 1)
    assert shell.markers == {p: [Marker(producer[0], producer[1] + 1, True)] for p in (T0, U0)}
    shell.settle_all()
    assert shell.error(waits) is OK
    assert shell.state() == "Ongoing"


def test_a_record_that_cannot_be_written_changes_nothing(shell: Shell) -> None:
    shell.append_error = ErrorCode.KAFKA_STORAGE_ERROR
    assert shell.error(shell.init()) is ErrorCode.NOT_COORDINATOR
    assert shell.describe().error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
    shell.append_error = OK
    producer = begun(shell)
    shell.append_error = ErrorCode.NOT_ENOUGH_REPLICAS
    assert shell.error(shell.end(producer)) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert shell.error(shell.init()) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert (shell.state(), shell.markers) == ("Ongoing", {})
    shell.append_error = OK
    assert shell.error(shell.end(producer)) is OK


# Markers


def test_markers_that_cannot_be_written_are_tried_again_and_the_client_does_not_wait(shell: Shell) -> None:
    producer = begun(shell, T0, T1)
    shell.unwritable = {T1}
    assert shell.error(shell.end(producer)) is OK
    assert shell.state() == "PrepareCommit"
    following = (producer[0], producer[1] + 1)
    assert shell.error(shell.ask(following, T0)) is CONCURRENT
    shell.advance(5)
    assert shell.state() == "PrepareCommit"
    shell.unwritable = set()
    shell.advance(1)
    assert shell.state() == "CompleteCommit"
    assert shell.markers[T0] == shell.markers[T1] == [Marker(*following, True)]
    assert shell.error(shell.ask(following, T0)) is OK


def test_a_complete_record_that_cannot_be_written_is_tried_again_and_the_client_does_not_wait(shell: Shell) -> None:
    producer = begun(shell)
    shell.is_prompt = False
    ended = shell.end(producer)
    shell.step()
    shell.append_error = ErrorCode.KAFKA_STORAGE_ERROR
    shell.step()
    assert shell.producer(ended) == (producer[0], producer[1] + 1)
    shell.advance(3)
    assert shell.state() == "PrepareCommit"
    shell.append_error = OK
    shell.advance(1)
    assert shell.state() == "CompleteCommit"
    assert len(shell.markers[T0]) == 1


def test_partitions_that_are_gone_need_no_marker(shell: Shell) -> None:
    producer = begun(shell, T0, U0)
    shell.topics.delete("u")
    assert shell.error(shell.end(producer)) is OK
    assert list(shell.markers) == [T0]
    assert shell.state() == "CompleteCommit"


@pytest.mark.parametrize("version", [3, 5])
@pytest.mark.parametrize("commit", [True, False])
def test_a_crash_after_the_decision_does_not_change_it(shell: Shell, version: int, commit: bool) -> None:
    producer = shell.producer(shell.init())
    assert shell.error(shell.add(producer, T0, U0)) is OK
    shell.is_prompt = False
    shell.end(producer, commit=commit, version=version)
    shell.step()
    shell.crash()
    assert shell.error(shell.init()) is CONCURRENT
    shell.settle_all()
    assert shell.state() == ("CompleteCommit" if commit else "CompleteAbort")
    epoch = producer[1] + (version == 5)
    assert shell.markers == {p: [Marker(producer[0], epoch, commit)] for p in (T0, U0)}
    retried = shell.end(producer, commit=commit, version=version)
    assert shell.error(retried) is OK


def test_a_lost_complete_record_means_the_same_markers_again(shell: Shell) -> None:
    producer = begun(shell)
    assert shell.error(shell.end(producer)) is OK
    assert shell.durable == len(shell.log) - 1
    shell.crash()
    assert shell.state() == "CompleteCommit"
    assert shell.markers[T0] == [Marker(producer[0], producer[1] + 1, True)] * 2


# Epochs


def test_an_epoch_that_runs_out_gives_way_to_a_new_producer_id_at_the_end_of_a_transaction(shell: Shell) -> None:
    old = in_its_last_epoch(shell)
    assert shell.error(shell.ask(old, T0)) is OK
    following = shell.producer(shell.end(old))
    assert following == (following[0], 0)
    assert following[0] != old[0]
    assert shell.markers[T0] == [Marker(old[0], LAST_CLIENT_EPOCH + 1, True)]
    assert shell.producer(shell.end(old)) == following  # the answer was lost: asked again
    assert shell.error(shell.ask(old, T0)) is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert shell.error(shell.ask(following, T0)) is OK
    shell.crash()
    assert shell.error(shell.ask(following, T1)) is OK


def test_an_epoch_that_runs_out_gives_way_to_a_new_producer_id_at_initialization(shell: Shell) -> None:
    old = in_its_last_epoch(shell)
    following = shell.producer(shell.init(expected=old))
    assert following[0] != old[0]
    assert following[1] == 0
    assert shell.producer(shell.init(expected=old)) == following
    assert shell.producer(shell.init(expected=following)) == (following[0], 1)


def test_fencing_a_producer_in_its_last_epoch_leaves_room_for_the_next_one(shell: Shell) -> None:
    old = in_its_last_epoch(shell)
    assert shell.error(shell.ask(old, T0)) is OK
    assert shell.error(shell.init()) is CONCURRENT
    assert shell.markers[T0] == [Marker(old[0], LAST_CLIENT_EPOCH + 1, False)]
    following = shell.producer(shell.init())
    assert following[0] != old[0]


@pytest.mark.parametrize(("version", "bumps"), [(0, 2), (1, 2), (2, 2)])
def test_whatever_the_level_an_initialization_over_an_open_transaction_skips_an_epoch(version: int, bumps: int) -> None:
    shell = Shell(version=version)
    producer = begun(shell)
    assert shell.error(shell.init()) is CONCURRENT
    assert shell.producer(shell.init()) == (producer[0], producer[1] + bumps)
    assert shell.markers[T0] == [Marker(producer[0], producer[1] + 1, False)]


# Levels of transaction.version


@pytest.mark.parametrize(("version", "value_version"), [(0, 0), (1, 1), (2, 1)])
def test_records_are_flexible_from_level_1_on_and_both_kinds_are_read(version: int, value_version: int) -> None:
    shell = Shell(version=version)
    producer = begun(shell, T0, T1, U0)
    value = shell.log[-1].value
    assert value is not None
    assert int.from_bytes(value[:2], "big") == value_version
    shell.coordinator.transaction_version = 2
    assert shell.error(shell.end(producer)) is OK
    assert {int.from_bytes(r.value[:2], "big") for r in shell.log[-2:] if r.value} == {1}
    shell.crash()
    assert shell.state() == "CompleteCommit"


def test_records_of_a_later_kind_are_passed_over() -> None:
    assert decode((7).to_bytes(2, "big") + b"whatever", b"x") is None


# Time


def test_a_transaction_is_aborted_once_its_time_is_over(shell: Shell) -> None:
    producer = shell.producer(shell.init(timeout_ms=25_000))
    assert shell.error(shell.ask(producer, T0)) is OK
    shell.advance(20)
    assert shell.state() == "Ongoing"
    shell.advance(10.1)
    assert shell.state() == "CompleteAbort"
    assert shell.markers[T0] == [Marker(producer[0], producer[1] + 1, False)]
    assert shell.error(shell.ask(producer, T0)) is ErrorCode.PRODUCER_FENCED


def test_time_runs_on_over_a_crash(shell: Shell) -> None:
    producer = shell.producer(shell.init(timeout_ms=25_000))
    assert shell.error(shell.ask(producer, T0)) is OK
    shell.advance(20)
    shell.crash(kept=1)
    shell.advance(10.1)
    assert shell.state() == "CompleteAbort"


def test_nothing_wakes_the_broker_for_timeouts_while_no_transaction_is_open(shell: Shell) -> None:
    shell.crash()
    hourly = shell.coordinator.next_deadline()
    producer = begun(shell)
    due = shell.coordinator.next_deadline()
    assert hourly is not None
    assert due is not None
    assert due < hourly
    shell.end(producer)
    shell.advance(11)
    assert shell.coordinator.next_deadline() == hourly


def test_an_id_that_is_not_used_for_long_is_forgotten_with_a_tombstone() -> None:
    shell = Shell(transactional_id_expiration_ms=7_200_000)
    shell.crash()
    busy = shell.producer(shell.init("busy", timeout_ms=900_000))
    producer = shell.producer(shell.init())
    shell.advance(2 * 3600 - 600)
    assert shell.error(shell.ask(busy, T0, transactional_id="busy")) is OK
    shell.advance(600 + 1)
    assert shell.describe().error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
    assert shell.state("busy") == "Ongoing"
    assert any(record.value is None for record in shell.log)
    assert shell.error(shell.ask(producer, T0)) is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    shell.crash()
    assert set(shell.stored()) == {"busy"}
    assert shell.producer(shell.init(ID)) != producer


def test_an_id_that_no_record_can_hold_is_refused(shell: Shell) -> None:
    assert shell.error(shell.init("x" * 32_768)) is ErrorCode.INVALID_REQUEST
    assert shell.error(shell.init("x" * 32_767)) is OK
