"""Offsets of open transactions: what waits, what overtakes it, what removing them means. The group machine alone."""

from __future__ import annotations

from functools import partial

import pytest

from logqueue.errors import ErrorCode
from logqueue.group.offsets.committed import Offsets
from logqueue.group.records import CommittedOffset
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from tests.group.shell import GROUP, Shell

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
OK = ErrorCode.NONE
A, B = (0, 100), (0, 200)  # two producers' transactions in partition 0 of the offsets topic


def offset(value: int) -> CommittedOffset:
    return CommittedOffset(offset=value, leader_epoch=-1, metadata="", commit_time_ms=0)


@pytest.fixture
def offsets() -> Offsets:
    return Offsets()


@pytest.fixture
def shell() -> Shell:
    return Shell()


def commit(
    shell: Shell,
    value: int,
    *,
    producer_id: int = 100,
    verified: ErrorCode = OK,
    generation: int = -1,
    member: str = "",
) -> ErrorCode:
    position = TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=value)
    request = TxnOffsetCommitRequest(
        transactional_id="tx",
        group_id=GROUP,
        producer_id=producer_id,
        producer_epoch=0,
        generation_id=generation,
        member_id=member,
        topics=[TxnOffsetCommitRequestTopic(name="t", partitions=[position])],
    )
    method = partial(shell.coordinator.commit_offsets_in_transaction, verified=verified)
    return shell.commit_errors(shell.send(method, request, 3))["t", 0]


def end(shell: Shell, *, producer_id: int = 100, commit: bool = True) -> None:
    shell.coordinator.on_marker(shell.coordinator.partition_for(GROUP), producer_id, commit=commit)


# The order of commits


def test_what_a_transaction_commits_counts_from_its_marker_on(offsets: Offsets) -> None:
    offsets.hold(A, GROUP, T0, offset(5))
    assert (offsets.get(GROUP, T0), offsets.is_pending(GROUP, T0), offsets.is_pending(GROUP, T1)) == (None, True, False)
    offsets.decide(A, commit=True)
    assert offsets.get(GROUP, T0) == offset(5)
    assert not offsets.has_pending(GROUP)


def test_what_a_transaction_aborts_was_never_there(offsets: Offsets) -> None:
    offsets.apply(GROUP, T0, offset(1))
    offsets.hold(A, GROUP, T0, offset(5))
    offsets.decide(A, commit=False)
    assert offsets.get(GROUP, T0) == offset(1)
    assert not offsets.has_pending(GROUP)


def test_a_later_plain_commit_overtakes_an_open_transaction(offsets: Offsets) -> None:
    offsets.hold(A, GROUP, T0, offset(5))
    offsets.apply(GROUP, T0, offset(9))
    assert offsets.is_pending(GROUP, T0)
    offsets.decide(A, commit=True)
    assert offsets.get(GROUP, T0) == offset(9)


def test_an_earlier_plain_commit_is_overtaken(offsets: Offsets) -> None:
    offsets.apply(GROUP, T0, offset(9))
    offsets.hold(A, GROUP, T0, offset(5))
    offsets.decide(A, commit=True)
    assert offsets.get(GROUP, T0) == offset(5)


@pytest.mark.parametrize("order", [(A, B), (B, A)])
def test_of_two_transactions_the_later_commit_counts_whichever_ends_first(
    offsets: Offsets, order: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    offsets.hold(A, GROUP, T0, offset(5))
    offsets.hold(B, GROUP, T0, offset(6))
    for key in order:
        offsets.decide(key, commit=True)
    assert offsets.get(GROUP, T0) == offset(6)


def test_a_marker_speaks_for_its_own_partition_only(offsets: Offsets) -> None:
    offsets.hold((0, 100), "g", T0, offset(5))
    offsets.hold((1, 100), "h", T0, offset(6))
    offsets.decide((0, 100), commit=True)
    assert offsets.get("g", T0) == offset(5)
    assert offsets.is_pending("h", T0)


def test_a_tombstone_removes_what_transactions_hold_as_well(offsets: Offsets) -> None:
    offsets.hold(A, GROUP, T0, offset(5))
    offsets.hold(B, GROUP, T0, offset(6))
    offsets.hold(B, GROUP, T1, offset(7))
    assert offsets.positions_of(GROUP) == [T0, T1]
    offsets.apply(GROUP, T0, None)
    offsets.decide(A, commit=True)
    offsets.decide(B, commit=True)
    assert dict(offsets.of_group(GROUP)) == {T1: offset(7)}
    assert not offsets.has_pending(GROUP)


# The coordinator


def test_the_transaction_coordinator_has_the_first_word(shell: Shell) -> None:
    assert commit(shell, 5, verified=ErrorCode.INVALID_PRODUCER_EPOCH) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert shell.log == []


def test_a_commit_in_a_transaction_makes_a_group_and_is_fetched_after_its_marker(shell: Shell) -> None:
    assert commit(shell, 5) is OK
    assert shell.listed() == [GROUP]
    assert shell.offsets() == {}
    end(shell)
    assert shell.offsets() == {("t", 0): 5}


def test_members_commit_with_their_generation_also_while_the_group_rebalances(shell: Shell) -> None:
    (member,), generation = shell.stable_group()
    assert commit(shell, 1, generation=generation, member=member) is OK
    assert commit(shell, 1, generation=generation + 1, member=member) is ErrorCode.ILLEGAL_GENERATION
    assert commit(shell, 1, generation=generation, member="stranger") is ErrorCode.UNKNOWN_MEMBER_ID
    assert commit(shell, 1) is OK  # an old producer names neither
    shell.join(member)
    assert commit(shell, 2, generation=shell.generation(), member=member) is OK


def test_offset_delete_and_delete_groups_reach_what_is_pending(shell: Shell) -> None:
    assert commit(shell, 5) is OK
    shell.delete_offsets(("t", 0))
    end(shell)
    assert shell.offsets() == {}
    assert commit(shell, 6) is OK
    assert shell.replies[shell.delete_groups(GROUP)].results[0].error_code == OK
    end(shell)
    assert shell.offsets() == {}
    assert shell.listed() == []


def test_offsets_of_a_deleted_topic_go_though_their_transaction_is_open(shell: Shell) -> None:
    assert commit(shell, 5) is OK
    shell.carry_out(shell.coordinator.on_topics_deleted(["t"], now=shell.now))
    end(shell)
    assert shell.offsets() == {}


def test_nothing_expires_that_an_open_transaction_is_about_to_replace() -> None:
    shell = Shell(properties={"offsets.retention.minutes": "1"})
    shell.carry_out(shell.coordinator.on_loaded(now=shell.now))
    shell.commit({("t", 0): 1, ("t", 1): 1})
    assert commit(shell, 5) is OK
    shell.advance(1300)
    assert shell.offsets() == {("t", 0): 1}
    end(shell, commit=False)
    shell.advance(1300)
    assert shell.listed() == []
