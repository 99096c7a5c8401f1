"""OffsetCommit and OffsetFetch: what is accepted in which state, and what is seen when."""

from __future__ import annotations

import pytest

from logqueue.errors import ErrorCode
from tests.group.shell import SESSION_MS, Shell


@pytest.fixture
def shell() -> Shell:
    return Shell()


def test_a_tool_commits_without_membership_and_makes_a_simple_group(shell: Shell) -> None:
    token = shell.commit({("t", 0): 7, ("u", 3): 9})
    assert set(shell.commit_errors(token).values()) == {ErrorCode.NONE}
    assert shell.offsets() == {("t", 0): 7, ("u", 3): 9}
    assert (shell.describe().group_state, shell.describe().protocol_type) == ("Empty", "")


def test_a_commit_is_answered_and_seen_only_when_it_is_durable(shell: Shell) -> None:
    shell.commit({("t", 0): 1})
    shell.holds_appends = True
    token = shell.commit({("t", 0): 2})
    assert shell.is_parked(token)
    assert shell.offsets() == {("t", 0): 1}
    shell.settle()
    assert shell.commit_errors(token) == {("t", 0): ErrorCode.NONE}
    assert shell.offsets() == {("t", 0): 2}


def test_a_commit_whose_append_failed_was_never_there(shell: Shell) -> None:
    shell.holds_appends = True
    token = shell.commit({("t", 0): 2})
    shell.fail(ErrorCode.NOT_ENOUGH_REPLICAS)
    assert shell.commit_errors(token) == {("t", 0): ErrorCode.COORDINATOR_NOT_AVAILABLE}
    assert shell.offsets() == {}
    assert shell.listed() == []


def test_a_stable_fetch_waits_for_the_commits_before_it(shell: Shell) -> None:
    shell.holds_appends = True
    shell.commit({("t", 0): 5})
    stable = shell.fetch(("t", 0), require_stable=True)
    assert shell.is_parked(stable)
    shell.settle()
    assert shell.replies[stable].groups[0].topics[0].partitions[0].committed_offset == 5


def test_an_unknown_group_or_partition_stands_at_minus_one_without_error(shell: Shell) -> None:
    shell.commit({("t", 0): 1}, group="known")
    for group in ("known", "unknown"):
        partition = shell.replies[shell.fetch(("t", 1), group=group)].groups[0].topics[0].partitions[0]
        assert (partition.committed_offset, partition.metadata, partition.error_code) == (-1, "", 0)
    assert shell.replies[shell.fetch(group="unknown")].groups[0].error_code == 0


@pytest.mark.parametrize("version", range(1, 11))
def test_every_version_of_fetch_gives_the_offset_its_metadata_and_its_epoch(shell: Shell, version: int) -> None:
    shell.commit({("t", 0): 3}, metadata="m")
    reply = shell.replies[shell.fetch(("t", 0), version=version)]
    topics = reply.topics if version < 8 else reply.groups[0].topics
    assert (topics[0].partitions[0].committed_offset, topics[0].partitions[0].metadata) == (3, "m")


@pytest.mark.parametrize("version", [2, 7, 8, 10])
def test_all_offsets_are_fetched_by_naming_none(shell: Shell, version: int) -> None:
    shell.commit({("t", 0): 3, ("t", 1): 4, ("u", 0): 5})
    reply = shell.replies[shell.fetch(version=version)]
    topics = reply.topics if version < 8 else reply.groups[0].topics
    assert sorted(p.committed_offset for topic in topics for p in topic.partitions) == [3, 4, 5]


def test_topics_are_named_by_id_from_version_10_on(shell: Shell) -> None:
    errors = shell.commit_errors(shell.commit({("t", 0): 3, ("missing", 0): 4}, version=10))
    assert errors == {("t", 0): ErrorCode.NONE, ("missing", 0): ErrorCode.UNKNOWN_TOPIC_ID}
    answer = shell.replies[shell.fetch(("t", 0), ("missing", 0), version=10)].groups[0]
    assert [topic.topic_id for topic in answer.topics] == [b"\1" * 16, b"\xff" * 16]
    found = [topic.partitions[0] for topic in answer.topics]
    assert [(p.committed_offset, p.error_code) for p in found] == [(3, 0), (-1, ErrorCode.UNKNOWN_TOPIC_ID)]


def test_partitions_that_do_not_exist_fail_alone(shell: Shell) -> None:
    errors = shell.commit_errors(shell.commit({("t", 0): 1, ("t", 4): 1, ("missing", 0): 1}))
    assert errors == {
        ("t", 0): ErrorCode.NONE,
        ("t", 4): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ("missing", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }


@pytest.mark.parametrize(
    ("metadata", "is_accepted"), [("x" * 4096, True), ("x" * 4097, False), ("\U0001f600" * 2049, False)]
)
def test_metadata_is_limited_in_utf_16_units(shell: Shell, metadata: str, is_accepted: bool) -> None:
    errors = shell.commit_errors(shell.commit({("t", 0): 1}, metadata=metadata))
    assert errors[("t", 0)] is (ErrorCode.NONE if is_accepted else ErrorCode.OFFSET_METADATA_TOO_LARGE)
    assert bool(shell.offsets()) is is_accepted


def test_a_caller_that_may_not_commit_is_told_so_whatever_its_metadata(shell: Shell) -> None:
    shell.stable_group()
    token = shell.commit({("t", 0): 1}, metadata="x" * 5000)
    assert shell.commit_errors(token) == {("t", 0): ErrorCode.UNKNOWN_MEMBER_ID}


def test_a_group_id_that_no_record_can_hold_is_refused(shell: Shell) -> None:
    token = shell.commit({("t", 0): 1}, group="x" * 32_768)
    assert shell.commit_errors(token) == {("t", 0): ErrorCode.INVALID_GROUP_ID}


def test_metadata_that_no_record_can_hold_is_refused_whatever_the_limit() -> None:
    shell = Shell(properties={"offset.metadata.max.bytes": "100000"})
    token = shell.commit({("t", 0): 1}, metadata="x" * 40_000)
    assert shell.commit_errors(token) == {("t", 0): ErrorCode.OFFSET_METADATA_TOO_LARGE}


def test_null_metadata_reads_back_empty(shell: Shell) -> None:
    shell.commit({("t", 0): 1}, metadata=None)
    assert shell.replies[shell.fetch(("t", 0))].groups[0].topics[0].partitions[0].metadata == ""


@pytest.mark.parametrize(("version", "error"), [(8, ErrorCode.ILLEGAL_GENERATION), (9, ErrorCode.GROUP_ID_NOT_FOUND)])
def test_a_generation_of_an_unknown_group_is_refused(shell: Shell, version: int, error: ErrorCode) -> None:
    token = shell.commit({("t", 0): 1}, member_id="m", generation=3, version=version)
    assert shell.commit_errors(token) == {("t", 0): error}


def test_members_commit_while_stable_with_their_own_generation_only(shell: Shell) -> None:
    (only,), generation = shell.stable_group()
    commit = shell.commit({("t", 0): 1}, member_id=only, generation=generation)
    assert shell.commit_errors(commit) == {("t", 0): ErrorCode.NONE}
    refusals = {
        ErrorCode.ILLEGAL_GENERATION: shell.commit({("t", 0): 2}, member_id=only, generation=generation - 1),
        ErrorCode.UNKNOWN_MEMBER_ID: shell.commit({("t", 0): 2}, member_id="nobody", generation=generation),
    }
    for error, token in refusals.items():
        assert shell.commit_errors(token) == {("t", 0): error}
    outsider = shell.commit({("t", 0): 2})
    assert shell.commit_errors(outsider) == {("t", 0): ErrorCode.UNKNOWN_MEMBER_ID}
    assert shell.offsets() == {("t", 0): 1}


def test_members_commit_with_the_old_generation_while_a_rebalance_gathers_and_not_while_it_completes(
    shell: Shell,
) -> None:
    (leader, follower), generation = shell.stable_group(2)
    shell.join(leader)
    gathering = shell.commit({("t", 0): 1}, member_id=follower, generation=generation)
    assert shell.commit_errors(gathering) == {("t", 0): ErrorCode.NONE}
    shell.join(follower)
    completing = shell.commit({("t", 0): 2}, member_id=follower, generation=generation + 1)
    assert shell.commit_errors(completing) == {("t", 0): ErrorCode.REBALANCE_IN_PROGRESS}


def test_a_commit_is_a_sign_of_life(shell: Shell) -> None:
    (only,), generation = shell.stable_group()
    for offset in range(4):
        shell.advance(SESSION_MS / 1000 - 1)
        shell.commit({("t", 0): offset}, member_id=only, generation=generation)
    assert shell.error_of(shell.heartbeat(only, generation)) is ErrorCode.NONE


def test_offsets_can_be_reset_by_a_tool_once_the_group_is_empty(shell: Shell) -> None:
    (only,), generation = shell.stable_group()
    shell.commit({("t", 0): 8}, member_id=only, generation=generation)
    shell.leave((only, None))
    shell.commit({("t", 0): 2})
    assert shell.offsets() == {("t", 0): 2}


def test_the_empty_group_id_can_hold_offsets(shell: Shell) -> None:
    shell.commit({("t", 0): 2}, group="")
    assert shell.offsets(group="") == {("t", 0): 2}


def test_commits_of_one_group_keep_their_order_when_one_of_them_fails(shell: Shell) -> None:
    shell.holds_appends = True
    tokens = [shell.commit({("t", 0): offset}) for offset in (1, 2, 3)]
    shell.fail()
    shell.settle()
    assert [shell.commit_errors(t)[("t", 0)] is ErrorCode.NONE for t in tokens] == [False, True, True]
    assert shell.offsets() == {("t", 0): 3}
