"""JoinGroup: ids, generations, protocol choice, and who is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from logqueue.errors import ErrorCode
from tests.group.shell import GROUP, REBALANCE_MS, SESSION_MS, Shell, subscription


@pytest.fixture
def shell() -> Shell:
    return Shell()


def test_a_newcomer_is_given_an_id_first_from_version_4_on(shell: Shell) -> None:
    refused = shell.replies[shell.join(version=4)]
    assert refused.error_code == ErrorCode.MEMBER_ID_REQUIRED
    assert refused.member_id == "c-id1"
    again = shell.join("c-id1", version=4)
    shell.advance(0)
    assert shell.replies[again].generation_id == 1


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_newcomer_joins_in_one_step_before_version_4(shell: Shell, version: int) -> None:
    token = shell.join(version=version)
    shell.advance(0)
    answer = shell.replies[token]
    assert (answer.error_code, answer.generation_id, answer.leader) == (0, 1, answer.member_id)


def test_an_id_given_out_and_not_used_expires_with_the_session(shell: Shell) -> None:
    member_id = shell.replies[shell.join()].member_id
    shell.advance(SESSION_MS / 1000 + 1)
    assert shell.error_of(shell.join(member_id)) is ErrorCode.UNKNOWN_MEMBER_ID


def test_an_id_given_out_holds_a_later_rebalance_up_until_it_is_used_or_expires(shell: Shell) -> None:
    (first,), _ = shell.stable_group()
    shell.join(session_ms=6_000)
    waiting = shell.join(first)
    assert shell.is_parked(waiting)
    shell.advance(7)
    assert shell.replies[waiting].generation_id == 2


def test_an_unknown_id_is_refused_and_makes_no_group(shell: Shell) -> None:
    assert shell.error_of(shell.join("nobody")) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.listed() == []


def test_the_empty_group_id_has_no_members(shell: Shell) -> None:
    assert shell.error_of(shell.join(group="")) is ErrorCode.INVALID_GROUP_ID


@pytest.mark.parametrize("session_ms", [0, 5_999, 1_800_001])
def test_a_session_timeout_out_of_bounds_is_refused(shell: Shell, session_ms: int) -> None:
    assert shell.error_of(shell.join(session_ms=session_ms)) is ErrorCode.INVALID_SESSION_TIMEOUT


def test_a_member_without_protocols_or_protocol_type_is_refused_and_leaves_an_empty_group(shell: Shell) -> None:
    assert shell.error_of(shell.join(protocols={})) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert shell.error_of(shell.join(protocol_type="")) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert shell.listed(states=("Empty",)) == ["g"]


@pytest.mark.parametrize(
    ("join", "error"),
    [
        ({"group": "x" * 32_768}, ErrorCode.INVALID_GROUP_ID),
        ({"instance": "x" * 32_768}, ErrorCode.INVALID_REQUEST),
        ({"protocol_type": "x" * 32_768}, ErrorCode.INVALID_REQUEST),
        ({"protocols": {"\u20ac" * 11_000: b""}}, ErrorCode.INVALID_REQUEST),
    ],
)
def test_names_that_no_record_can_hold_are_refused(shell: Shell, join: dict[str, Any], error: ErrorCode) -> None:
    assert shell.error_of(shell.join(version=9, **join)) is error
    assert shell.listed() == []


def test_a_member_that_shares_no_protocol_with_the_group_is_refused(shell: Shell) -> None:
    shell.stable_group()
    assert shell.error_of(shell.join(protocols={"sticky": b""})) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert shell.error_of(shell.join(protocol_type="connect")) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_the_first_generation_waits_the_initial_delay_and_longer_while_members_arrive() -> None:
    shell = Shell(properties={"group.initial.rebalance.delay.ms": "3000"})
    first = shell.join(version=3)
    shell.advance(2)
    second = shell.join(version=3)
    shell.advance(2)  # 4 s: the delay was extended by the second member
    assert shell.is_parked(first)
    shell.advance(2)
    assert shell.replies[first].generation_id == shell.replies[second].generation_id == 1


def test_the_initial_delay_ends_at_the_rebalance_timeout_however_many_arrive() -> None:
    shell = Shell(properties={"group.initial.rebalance.delay.ms": "3000"})
    first = shell.join(version=3, rebalance_ms=9_000)
    for _ in range(9):
        shell.advance(1)
        shell.join(version=3, rebalance_ms=9_000)
    assert not shell.is_parked(first)


def test_only_the_leader_is_told_the_members(shell: Shell) -> None:
    tokens = [shell.join(version=3), shell.join(version=3)]
    shell.advance(0)
    leader, follower = (shell.replies[token] for token in tokens)
    assert {m.member_id for m in leader.members} == {leader.member_id, follower.member_id}
    assert follower.members == []
    assert follower.leader == leader.member_id


def test_the_protocol_is_the_common_one_with_most_votes(shell: Shell) -> None:
    shell.join(version=3, protocols={"a": b"", "b": b"", "c": b""})
    shell.join(version=3, protocols={"b": b"", "a": b""})
    last = shell.join(version=3, protocols={"b": b"", "a": b"", "d": b""})
    shell.advance(0)
    assert shell.replies[last].protocol_name == "b"


def test_the_generation_begins_as_soon_as_all_have_rejoined(shell: Shell) -> None:
    (first, second), _ = shell.stable_group(2)
    waiting = shell.join(first)
    assert shell.is_parked(waiting)
    shell.join(second)
    assert shell.replies[waiting].generation_id == shell.generation()


def test_a_parked_join_is_answered_within_the_rebalance_timeout_and_stragglers_are_out(shell: Shell) -> None:
    (first, second), generation = shell.stable_group(2)
    waiting = shell.join(first)
    for _ in range(REBALANCE_MS // 5_000):
        assert shell.is_parked(waiting)
        shell.heartbeat(second, generation)
        shell.advance(5)
    answer = shell.replies[waiting]
    assert [m.member_id for m in answer.members] == [first]
    assert shell.error_of(shell.heartbeat(second, generation)) is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_straggler_that_led_is_followed_by_one_who_joined(shell: Shell) -> None:
    (leader, follower), _ = shell.stable_group(2)
    waiting = shell.join(follower, protocols={"range": subscription("t", "u")})
    shell.advance(REBALANCE_MS / 1000)
    assert shell.replies[waiting].leader == follower
    assert leader not in {m.member_id for m in shell.replies[waiting].members}


def test_a_silent_member_is_lost_during_a_rebalance_when_its_session_ends(shell: Shell) -> None:
    (first, _), _ = shell.stable_group(2)
    waiting = shell.join(first)
    shell.advance(SESSION_MS / 1000 + 1)
    assert len(shell.replies[waiting].members) == 1


def test_an_unchanged_follower_gets_the_present_generation_without_a_rebalance(shell: Shell) -> None:
    (_, follower), generation = shell.stable_group(2)
    answer = shell.replies[shell.join(follower)]
    assert (answer.generation_id, answer.members) == (generation, [])
    assert shell.describe().group_state == "Stable"


def test_a_follower_with_new_metadata_or_the_leader_starts_a_rebalance(shell: Shell) -> None:
    (leader, follower), _ = shell.stable_group(2)
    shell.join(follower, protocols={"range": subscription("u")})
    assert shell.describe().group_state == "PreparingRebalance"
    shell.join(leader)
    assert shell.describe().group_state == "CompletingRebalance"
    other = Shell()
    (leader, _), _ = other.stable_group(2)
    other.join(leader)
    assert other.describe().group_state == "PreparingRebalance"


def test_a_join_repeated_before_the_sync_gets_the_same_answer(shell: Shell) -> None:
    member_id, token = shell.member()
    shell.advance(0)
    again = shell.join(member_id)
    assert shell.replies[again] == shell.replies[token]


def test_a_join_repeated_while_parked_ends_the_first_one(shell: Shell) -> None:
    (first, second), _ = shell.stable_group(2)
    lost = shell.join(first)
    repeated = shell.join(first)
    assert shell.error_of(lost) is ErrorCode.REBALANCE_IN_PROGRESS
    shell.join(second)
    assert shell.error_of(repeated) is ErrorCode.NONE


def test_a_full_group_refuses_one_more() -> None:
    shell = Shell(properties={"group.max.size": "1"})
    shell.stable_group()
    assert shell.error_of(shell.join(version=3)) is ErrorCode.GROUP_MAX_SIZE_REACHED


def test_version_0_has_no_rebalance_timeout_so_the_session_timeout_bounds_the_wait(shell: Shell) -> None:
    tokens = [shell.join(version=0, rebalance_ms=-1), shell.join(version=0, rebalance_ms=-1)]
    shell.advance(0)
    first = shell.replies[tokens[0]].member_id
    waiting = shell.join(first, version=0, rebalance_ms=-1, protocols={"range": b"new"})
    shell.advance(SESSION_MS / 1000)
    assert not shell.is_parked(waiting)


def test_a_group_whose_last_member_leaves_is_empty_and_says_so_in_the_log(shell: Shell) -> None:
    (only,), _ = shell.stable_group()
    shell.leave((only, None))
    assert shell.describe().group_state == "Empty"
    assert shell.restarted().describe().group_state == "Empty"


def test_cooperative_members_rejoin_twice_without_losing_anyone(shell: Shell) -> None:
    owned = {"cooperative-sticky": subscription("t")}
    ids, _ = shell.stable_group(2, protocols=owned)
    for _ in range(2):  # first give partitions up, then take them
        tokens = [shell.join(m, protocols={"cooperative-sticky": subscription("t", "u")}) for m in ids]
        assert {shell.error_of(token) for token in tokens} == {ErrorCode.NONE}
        generation = shell.generation()
        for member_id in reversed(ids):
            shell.sync(member_id, generation, dict.fromkeys(ids, b"x"))
        assert shell.describe().group_state == "Stable"
        assert shell.listed() == [GROUP]


def test_a_join_without_protocols_does_not_fit_a_rebalance_that_all_members_have_left(shell: Shell) -> None:
    (only,), _ = shell.stable_group()
    shell.join()  # an id given out keeps the rebalance open
    shell.join(only, protocols={"range": subscription("u")})
    shell.leave((only, None))
    assert shell.describe().group_state == "PreparingRebalance"
    assert shell.error_of(shell.join(only, protocols={})) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
