"""Members with an instance id (KIP-345): they come back to their place, and only one holds it."""

from __future__ import annotations

import pytest

from logqueue.errors import ErrorCode
from tests.group.shell import REBALANCE_MS, SESSION_MS, Shell

JOIN_VERSIONS = [5, 8, 9]


@pytest.fixture
def shell() -> Shell:
    return Shell()


def static_pair(shell: Shell, version: int = 9) -> tuple[str, str, int]:
    """A Stable group of instances one (leader) and two: their member ids, and the generation."""
    tokens = [shell.join(instance=i, version=version) for i in ("one", "two")]
    shell.advance(0)
    one, two = (shell.replies[token].member_id for token in tokens)
    generation = shell.replies[tokens[0]].generation_id
    shell.sync(two, generation, instance="two")
    shell.sync(one, generation, {one: b"1", two: b"2"}, instance="one")
    return one, two, generation


def test_a_static_member_joins_in_one_step_and_its_id_names_the_instance(shell: Shell) -> None:
    token = shell.join(instance="one")
    shell.advance(0)
    assert shell.replies[token].member_id == "one-id1"
    assert shell.describe().members[0].group_instance_id == "one"


@pytest.mark.parametrize("version", JOIN_VERSIONS)
def test_a_follower_comes_back_to_its_assignment_without_a_rebalance(shell: Shell, version: int) -> None:
    one, two, generation = static_pair(shell)
    back = shell.replies[shell.join(instance="two", version=version)]
    assert (back.error_code, back.generation_id, back.leader, back.members) == (0, generation, one, [])
    assert back.member_id not in ("", two)
    assert shell.replies[shell.sync(back.member_id, generation, instance="two")].assignment == b"2"
    assert shell.describe().group_state == "Stable"


def test_a_leader_comes_back_as_leader_that_assigns_nothing_from_version_9_on(shell: Shell) -> None:
    _, two, generation = static_pair(shell)
    back = shell.replies[shell.join(instance="one", version=9)]
    assert (back.leader, back.skip_assignment) == (back.member_id, True)
    assert {m.member_id for m in back.members} == {back.member_id, two}
    assert shell.replies[shell.sync(back.member_id, generation, instance="one")].assignment == b"1"


def test_a_leader_comes_back_as_if_it_were_not_before_version_9(shell: Shell) -> None:
    one, _, _ = static_pair(shell)
    back = shell.replies[shell.join(instance="one", version=8)]
    assert (back.leader, back.members) == (one, [])


def test_the_replaced_member_is_fenced_everywhere(shell: Shell) -> None:
    _, two, generation = static_pair(shell)
    shell.join(instance="two")
    fenced = ErrorCode.FENCED_INSTANCE_ID
    assert shell.error_of(shell.heartbeat(two, generation, instance="two")) is fenced
    assert shell.error_of(shell.sync(two, generation, instance="two")) is fenced
    assert shell.error_of(shell.join(two, instance="two")) is fenced
    commit = shell.commit({("t", 0): 1}, member_id=two, generation=generation, instance="two")
    assert shell.commit_errors(commit) == {("t", 0): fenced}
    assert shell.replies[shell.leave((two, "two"))].members[0].error_code == fenced
    assert shell.error_of(shell.heartbeat(two, generation)) is ErrorCode.UNKNOWN_MEMBER_ID


def test_the_replaced_members_parked_join_and_sync_end(shell: Shell) -> None:
    one, two, generation = static_pair(shell)
    joining = shell.join(one, instance="one")
    shell.join(instance="one")
    assert shell.error_of(joining) is ErrorCode.FENCED_INSTANCE_ID
    other = Shell()
    tokens = [other.join(instance=i) for i in ("one", "two")]
    other.advance(0)
    two, generation = other.replies[tokens[1]].member_id, other.replies[tokens[1]].generation_id
    syncing = other.sync(two, generation, instance="two")
    other.join(instance="two")
    assert other.error_of(syncing) is ErrorCode.FENCED_INSTANCE_ID
    assert other.describe().group_state == "PreparingRebalance"


def test_a_changed_protocol_choice_makes_coming_back_a_rebalance(shell: Shell) -> None:
    static_pair(shell)
    shell.join(instance="two", protocols={"range": b"", "sticky": b""})
    assert shell.describe().group_state == "Stable"  # range is still the common choice
    alone = Shell()
    token = alone.join(instance="one", protocols={"range": b""})
    alone.advance(0)
    member, generation = alone.replies[token].member_id, alone.replies[token].generation_id
    alone.sync(member, generation, instance="one")
    back = alone.join(instance="one", protocols={"sticky": b"", "range": b""})
    assert alone.replies[back].generation_id == generation + 1
    assert alone.replies[back].protocol_name == "sticky"


def test_coming_back_is_answered_when_it_is_durable_and_undone_when_it_is_not(shell: Shell) -> None:
    _, two, generation = static_pair(shell)
    shell.holds_appends = True
    back = shell.join(instance="two")
    assert shell.is_parked(back)
    shell.fail()
    assert shell.error_of(back) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert shell.error_of(shell.heartbeat(two, generation, instance="two")) is ErrorCode.NONE


def test_one_that_came_back_over_a_slow_disk_and_then_vanishes_is_lost_when_its_session_ends(shell: Shell) -> None:
    one, _, generation = static_pair(shell)
    shell.holds_appends = True
    back = shell.join(instance="two")
    for _ in range(3):
        shell.advance(SESSION_MS / 2000)
        shell.heartbeat(one, generation, instance="one")
    shell.holds_appends = False
    shell.settle()
    assert shell.error_of(back) is ErrorCode.NONE
    for _ in range(3):
        shell.heartbeat(one, generation, instance="one")
        shell.advance(SESSION_MS / 2000)
    assert [m.member_id for m in shell.describe().members] == [one]


def test_an_absent_static_member_keeps_its_place_in_a_rebalance(shell: Shell) -> None:
    one, two, generation = static_pair(shell)
    waiting = shell.join(one, instance="one", session_ms=REBALANCE_MS * 3)
    for _ in range(REBALANCE_MS // 5_000):
        shell.heartbeat(two, generation, instance="two")
        shell.advance(5)
    assert {m.member_id for m in shell.replies[waiting].members} == {one, two}


def test_a_static_member_is_lost_when_its_session_ends(shell: Shell) -> None:
    one, two, generation = static_pair(shell)
    for _ in range(3):
        shell.advance(SESSION_MS / 2000)
        shell.heartbeat(one, generation, instance="one")
    assert [m.member_id for m in shell.describe().members] == [one]
    assert shell.error_of(shell.heartbeat(two, generation, instance="two")) is ErrorCode.UNKNOWN_MEMBER_ID


def test_an_operator_removes_a_static_member_by_its_instance_id(shell: Shell) -> None:
    static_pair(shell)
    answer = shell.replies[shell.leave(("", "two"), ("", "three"), ("", None))]
    assert [m.error_code for m in answer.members] == [0, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.UNKNOWN_MEMBER_ID]
    assert [m.group_instance_id for m in shell.describe().members] == ["one"]
