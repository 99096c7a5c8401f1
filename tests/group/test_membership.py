"""SyncGroup, Heartbeat and LeaveGroup in every state."""

from __future__ import annotations

import pytest

from logqueue.errors import ErrorCode
from tests.group.shell import REBALANCE_MS, SESSION_MS, Shell, subscription


@pytest.fixture
def shell() -> Shell:
    return Shell()


def joined(shell: Shell, count: int = 2) -> tuple[list[str], int]:
    """A group in CompletingRebalance, the leader first."""
    tokens = [shell.join(version=3) for _ in range(count)]
    shell.advance(0)
    answers = [shell.replies[token] for token in tokens]
    return [answer.member_id for answer in answers], answers[0].generation_id


def test_a_follower_waits_for_the_leaders_sync_and_gets_its_own_assignment(shell: Shell) -> None:
    (leader, follower), generation = joined(shell)
    waiting = shell.sync(follower, generation)
    assert shell.is_parked(waiting)
    led = shell.sync(leader, generation, {leader: b"L", follower: b"F"})
    assert (shell.replies[led].assignment, shell.replies[waiting].assignment) == (b"L", b"F")
    assert (shell.replies[led].protocol_type, shell.replies[led].protocol_name) == ("consumer", "range")


def test_a_member_the_leader_forgot_gets_an_empty_assignment(shell: Shell) -> None:
    (leader, follower), generation = joined(shell)
    waiting = shell.sync(follower, generation)
    shell.sync(leader, generation, {leader: b"L"})
    assert shell.replies[waiting].assignment == b""
    assert shell.error_of(waiting) is ErrorCode.NONE


def test_nobody_is_told_an_assignment_before_it_is_durable(shell: Shell) -> None:
    (leader, follower), generation = joined(shell)
    waiting = shell.sync(follower, generation)
    shell.holds_appends = True
    led = shell.sync(leader, generation, {leader: b"L"})
    assert shell.is_parked(waiting)
    assert shell.is_parked(led)
    assert shell.describe().group_state == "CompletingRebalance"
    shell.settle()
    assert not shell.is_parked(led)


def test_an_assignment_that_could_not_be_written_is_an_error_for_all_and_a_new_rebalance(shell: Shell) -> None:
    (leader, follower), generation = joined(shell)
    waiting = shell.sync(follower, generation)
    shell.holds_appends = True
    led = shell.sync(leader, generation, {leader: b"L"})
    shell.fail(ErrorCode.KAFKA_STORAGE_ERROR)
    assert shell.error_of(led) is shell.error_of(waiting) is ErrorCode.NOT_COORDINATOR
    assert shell.describe().group_state == "PreparingRebalance"


def test_an_assignment_that_is_overtaken_by_a_rebalance_is_dropped(shell: Shell) -> None:
    (leader, follower), generation = joined(shell)
    shell.holds_appends = True
    led = shell.sync(leader, generation, {leader: b"L"})
    shell.join(follower, protocols={"range": subscription("u")}, version=3)
    assert shell.error_of(led) is ErrorCode.REBALANCE_IN_PROGRESS
    shell.settle()
    assert shell.describe().group_state == "PreparingRebalance"


def test_a_sync_in_a_stable_group_gets_the_present_assignment(shell: Shell) -> None:
    (leader, follower), generation = shell.stable_group(2)
    assert shell.replies[shell.sync(follower, generation)].assignment == follower.encode()
    assert shell.replies[shell.sync(leader, generation)].assignment == leader.encode()


def test_a_sync_repeated_while_parked_ends_the_first_one(shell: Shell) -> None:
    (leader, follower), generation = joined(shell)
    lost, repeated = shell.sync(follower, generation), shell.sync(follower, generation)
    assert shell.error_of(lost) is ErrorCode.REBALANCE_IN_PROGRESS
    shell.sync(leader, generation)
    assert shell.error_of(repeated) is ErrorCode.NONE


def test_syncs_and_heartbeats_are_refused_for_wrong_groups_members_and_generations(shell: Shell) -> None:
    (leader, _), generation = joined(shell)
    assert shell.error_of(shell.sync("nobody", generation)) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.error_of(shell.sync(leader, generation - 1)) is ErrorCode.ILLEGAL_GENERATION
    assert shell.error_of(shell.heartbeat("nobody", generation)) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.error_of(shell.heartbeat(leader, generation + 1)) is ErrorCode.ILLEGAL_GENERATION
    assert shell.error_of(shell.heartbeat(leader, generation, group="other")) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.error_of(shell.heartbeat(leader, generation, group="")) is ErrorCode.INVALID_GROUP_ID


@pytest.mark.parametrize(
    ("protocol_type", "protocol_name"),
    [("connect", "range"), ("consumer", "sticky"), (None, "range"), ("consumer", None)],
)
def test_a_sync_names_the_groups_protocol_from_version_5_on(
    shell: Shell, protocol_type: str | None, protocol_name: str | None
) -> None:
    (leader, _), generation = joined(shell)
    refused = shell.sync(leader, generation, version=5, protocol_type=protocol_type, protocol_name=protocol_name)
    assert shell.error_of(refused) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    accepted = shell.sync(leader, generation, version=5, protocol_type="consumer", protocol_name="range")
    assert shell.error_of(accepted) is ErrorCode.NONE


def test_a_sync_during_a_rebalance_calls_to_join_again(shell: Shell) -> None:
    (leader, follower), generation = shell.stable_group(2)
    shell.join(leader)
    assert shell.error_of(shell.sync(follower, generation)) is ErrorCode.REBALANCE_IN_PROGRESS


def test_members_that_do_not_sync_within_the_rebalance_timeout_are_out(shell: Shell) -> None:
    (leader, follower), generation = joined(shell)
    shell.sync(leader, generation, {leader: b"L"})
    for _ in range(REBALANCE_MS // 5_000):
        shell.heartbeat(leader, generation)
        shell.heartbeat(follower, generation)
        shell.advance(5)
    assert shell.error_of(shell.heartbeat(follower, generation)) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.error_of(shell.heartbeat(leader, generation)) is ErrorCode.REBALANCE_IN_PROGRESS


def test_followers_are_not_kept_waiting_by_a_leader_that_never_syncs(shell: Shell) -> None:
    (leader, follower), generation = joined(shell)
    waiting = shell.sync(follower, generation)
    for _ in range(REBALANCE_MS // 5_000):
        shell.heartbeat(leader, generation)
        shell.advance(5)
    assert shell.error_of(waiting) is ErrorCode.REBALANCE_IN_PROGRESS


def test_heartbeats_keep_a_member_and_silence_loses_it(shell: Shell) -> None:
    (only,), generation = shell.stable_group()
    for _ in range(5):
        shell.advance(SESSION_MS / 1000 - 1)
        assert shell.error_of(shell.heartbeat(only, generation)) is ErrorCode.NONE
    shell.advance(SESSION_MS / 1000 + 1)
    assert shell.error_of(shell.heartbeat(only, generation)) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.describe().group_state == "Empty"


def test_heartbeats_announce_a_rebalance(shell: Shell) -> None:
    (leader, follower), generation = shell.stable_group(2)
    shell.join(leader)
    assert shell.error_of(shell.heartbeat(follower, generation)) is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_session_does_not_end_while_the_members_sync_is_parked(shell: Shell) -> None:
    (leader, follower), generation = joined(shell)
    waiting = shell.sync(follower, generation)
    for _ in range(5):
        shell.advance(SESSION_MS / 1000 - 1)
        shell.heartbeat(leader, generation)
    assert shell.is_parked(waiting)
    shell.sync(leader, generation, {follower: b"F"})
    assert shell.replies[waiting].assignment == b"F"


def test_a_member_that_leaves_starts_a_rebalance_of_the_others(shell: Shell) -> None:
    (leader, follower), generation = shell.stable_group(2)
    left = shell.leave((follower, None))
    assert [m.error_code for m in shell.replies[left].members] == [0]
    assert shell.error_of(shell.heartbeat(leader, generation)) is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_member_that_leaves_while_it_joins_or_syncs_is_told(shell: Shell) -> None:
    (leader, follower), generation = joined(shell)
    syncing = shell.sync(follower, generation)
    shell.leave((follower, None))
    assert shell.error_of(syncing) is ErrorCode.UNKNOWN_MEMBER_ID
    other = Shell()
    (leader, follower), _ = other.stable_group(2)
    joining = other.join(leader)
    other.leave((leader, None))
    assert other.error_of(joining) is ErrorCode.UNKNOWN_MEMBER_ID


def test_leaving_is_answered_one_by_one_from_version_3_on_and_as_a_whole_before(shell: Shell) -> None:
    (first, second), _ = shell.stable_group(2)
    answer = shell.replies[shell.leave((first, None), ("nobody", None))]
    assert [m.error_code for m in answer.members] == [0, ErrorCode.UNKNOWN_MEMBER_ID]
    assert shell.error_of(shell.leave((second, None), version=1)) is ErrorCode.NONE
    assert shell.error_of(shell.leave((second, None), version=1)) is ErrorCode.UNKNOWN_MEMBER_ID


def test_leaving_an_unknown_group_names_every_member_as_unknown(shell: Shell) -> None:
    answer = shell.replies[shell.leave(("a", None), ("b", None))]
    assert [m.error_code for m in answer.members] == [ErrorCode.UNKNOWN_MEMBER_ID] * 2
    assert answer.error_code == 0


def test_an_id_given_out_can_be_given_back(shell: Shell) -> None:
    (first,), _ = shell.stable_group()
    pending = shell.replies[shell.join()].member_id
    waiting = shell.join(first)
    shell.leave((pending, None))
    assert shell.error_of(waiting) is ErrorCode.NONE


def test_the_last_one_to_leave_is_answered_when_the_empty_group_is_durable(shell: Shell) -> None:
    (only,), _ = shell.stable_group()
    shell.holds_appends = True
    left = shell.leave((only, None))
    assert shell.is_parked(left)
    shell.settle()
    assert not shell.is_parked(left)


def test_a_group_whose_last_member_left_is_empty_whatever_ids_were_given_out(shell: Shell) -> None:
    (only,), _ = shell.stable_group()
    shell.join()  # is told its id, and never comes back with it
    shell.leave((only, None))
    assert shell.describe().group_state == "Empty"
