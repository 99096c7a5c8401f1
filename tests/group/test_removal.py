"""DeleteGroups, OffsetDelete, retention (KIP-211) and deleted topics."""

from __future__ import annotations

import pytest

from logqueue.errors import ErrorCode
from tests.group.shell import GROUP, SESSION_MS, Shell

HOUR = 3600.0
CHECK = 600.0


@pytest.fixture
def shell() -> Shell:
    return Shell(properties={"offsets.retention.minutes": "60", "offsets.retention.check.interval.ms": "600000"})


def results(shell: Shell, token: int) -> dict[str, ErrorCode]:
    return {result.group_id: ErrorCode(result.error_code) for result in shell.replies[token].results}


def test_a_deleted_group_is_gone_with_its_offsets_and_stays_gone_after_a_restart(shell: Shell) -> None:
    shell.commit({("t", 0): 1})
    assert results(shell, shell.delete_groups(GROUP)) == {GROUP: ErrorCode.NONE}
    for observed in (shell, shell.restarted()):
        assert observed.listed() == []
        assert observed.offsets() == {}


def test_each_group_of_a_deletion_has_its_own_answer(shell: Shell) -> None:
    shell.stable_group()
    shell.commit({("t", 0): 1}, group="simple")
    answer = results(shell, shell.delete_groups("simple", GROUP, "missing"))
    assert answer == {
        "simple": ErrorCode.NONE,
        GROUP: ErrorCode.NON_EMPTY_GROUP,
        "missing": ErrorCode.GROUP_ID_NOT_FOUND,
    }


def test_a_group_that_is_named_twice_is_deleted_once(shell: Shell) -> None:
    shell.commit({("t", 0): 1})
    answer = shell.replies[shell.delete_groups(GROUP, "missing", GROUP)].results
    assert [(each.group_id, each.error_code) for each in answer] == [
        (GROUP, ErrorCode.NONE),
        ("missing", ErrorCode.GROUP_ID_NOT_FOUND),
    ]


def test_a_group_whose_deletion_fails_is_empty_again(shell: Shell) -> None:
    shell.commit({("t", 0): 1})
    shell.holds_appends = True
    token = shell.delete_groups(GROUP)
    assert shell.describe().group_state == "Dead"
    assert shell.error_of(shell.join()) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    refused = shell.commit({("t", 0): 2})
    assert shell.commit_errors(refused) == {("t", 0): ErrorCode.COORDINATOR_NOT_AVAILABLE}
    shell.fail()
    assert results(shell, token) == {GROUP: ErrorCode.COORDINATOR_NOT_AVAILABLE}
    assert shell.offsets() == {("t", 0): 1}


def test_a_deletion_takes_the_commits_that_were_under_way_before_it(shell: Shell) -> None:
    shell.commit({("t", 0): 1})
    shell.holds_appends = True
    shell.commit({("t", 1): 1})
    token = shell.delete_groups(GROUP)
    shell.settle()
    assert results(shell, token) == {GROUP: ErrorCode.NONE}
    assert shell.offsets() == {}
    assert shell.restarted().offsets() == {}


def test_offsets_of_topics_that_nobody_reads_can_be_deleted(shell: Shell) -> None:
    (only,), generation = shell.stable_group()  # reads t
    shell.commit({("t", 0): 1, ("u", 0): 1}, member_id=only, generation=generation)
    answer = shell.replies[shell.delete_offsets(("t", 0), ("u", 0), ("u", 1), ("missing", 0))]
    assert [topic.partitions[0].error_code for topic in answer.topics] == [
        ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC,
        ErrorCode.NONE,
        ErrorCode.NONE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    assert shell.offsets() == {("t", 0): 1}
    assert shell.restarted().offsets() == {("t", 0): 1}


def test_offsets_of_an_unknown_group_or_of_a_live_group_of_another_kind_cannot_be_deleted(shell: Shell) -> None:
    assert shell.error_of(shell.delete_offsets(("t", 0))) is ErrorCode.GROUP_ID_NOT_FOUND
    shell.stable_group(protocol_type="connect", protocols={"v0": b""})
    assert shell.error_of(shell.delete_offsets(("t", 0))) is ErrorCode.NON_EMPTY_GROUP


def test_a_deleted_topic_takes_its_offsets_along_those_under_way_included(shell: Shell) -> None:
    shell.commit({("t", 0): 1, ("u", 0): 2})
    shell.holds_appends = True
    shell.commit({("t", 1): 3}, group="other")
    shell.carry_out(shell.coordinator.on_topics_deleted({"t"}, now=shell.now))
    shell.settle()
    for observed in (shell, shell.restarted()):
        assert (observed.offsets(), observed.offsets("other")) == ({("u", 0): 2}, {})


def test_a_commit_for_a_topic_that_is_created_again_stays_however_busy_the_group_is(shell: Shell) -> None:
    shell.commit({("t", 0): 500})
    shell.holds_appends = True
    shell.commit({("t", 1): 501, ("u", 0): 1})
    shell.topics.delete("t")
    shell.carry_out(shell.coordinator.on_topics_deleted({"t"}, now=shell.now))
    shell.topics.create("t", 4)
    token = shell.commit({("t", 0): 7})
    shell.holds_appends = False
    shell.settle()
    assert shell.commit_errors(token) == {("t", 0): ErrorCode.NONE}
    for observed in (shell, shell.restarted()):
        assert observed.offsets() == {("t", 0): 7, ("u", 0): 1}


def test_a_deleted_topic_writes_nothing_for_groups_that_have_no_offset_of_it(shell: Shell) -> None:
    shell.commit({("u", 0): 1})
    shell.holds_appends = True
    shell.commit({("u", 1): 1}, group="other")
    written = list(shell.held)
    shell.carry_out(shell.coordinator.on_topics_deleted({"t"}, now=shell.now))
    assert shell.held == written


def test_a_simple_groups_offset_expires_its_retention_after_the_commit(shell: Shell) -> None:
    shell.commit({("t", 0): 1})
    shell.advance(HOUR / 2)
    shell.commit({("t", 1): 1})
    shell.advance(HOUR / 2 + CHECK)
    assert shell.offsets() == {("t", 1): 1}
    shell.advance(HOUR / 2)
    assert shell.listed() == []


def test_an_emptied_groups_offsets_expire_its_retention_after_it_became_empty(shell: Shell) -> None:
    (only,), generation = shell.stable_group(session_ms=1_800_000)
    shell.commit({("t", 0): 1}, member_id=only, generation=generation)
    for _ in range(4):
        shell.advance(HOUR / 2 - 1)
        shell.heartbeat(only, generation)
    shell.leave((only, None))
    shell.advance(HOUR - CHECK)
    assert shell.offsets() == {("t", 0): 1}
    shell.advance(3 * CHECK)
    assert shell.offsets() == {}
    assert shell.listed() == []


def test_a_live_group_loses_only_offsets_of_topics_it_no_longer_reads(shell: Shell) -> None:
    (only,), generation = shell.stable_group(session_ms=1_800_000)
    shell.commit({("t", 0): 1, ("u", 0): 1}, member_id=only, generation=generation)
    for _ in range(4):
        shell.advance(HOUR / 2 - 1)
        shell.heartbeat(only, generation)
    assert shell.offsets() == {("t", 0): 1}


def test_offsets_of_a_live_group_with_unreadable_subscriptions_do_not_expire(shell: Shell) -> None:
    (only,), generation = shell.stable_group(session_ms=1_800_000, protocols={"range": b"?"})
    shell.commit({("u", 0): 1}, member_id=only, generation=generation)
    for _ in range(4):
        shell.advance(HOUR / 2 - 1)
        shell.heartbeat(only, generation)
    assert shell.offsets() == {("u", 0): 1}


def test_a_commit_with_a_time_to_live_of_its_own_expires_by_that(shell: Shell) -> None:
    shell.commit({("t", 0): 1}, version=4, retention_ms=int(CHECK * 1000))
    shell.advance(CHECK * 2)
    assert shell.offsets() == {}


def test_a_time_to_live_beyond_all_time_is_stored_as_for_ever(shell: Shell) -> None:
    shell.commit({("t", 0): 1}, version=4, retention_ms=2**63 - 1)
    assert shell.offsets() == {("t", 0): 1}
    shell.advance(CHECK * 2)
    assert shell.offsets() == {("t", 0): 1}


def test_an_empty_group_without_offsets_goes_at_the_next_check(shell: Shell) -> None:
    shell.stable_group()
    shell.advance(SESSION_MS / 1000 + 1)
    assert shell.listed() == [GROUP]
    shell.advance(CHECK)
    assert shell.listed() == []
    assert shell.restarted().listed() == []


def test_an_expiry_whose_append_fails_is_made_good_at_the_next_check(shell: Shell) -> None:
    shell.commit({("t", 0): 1})
    shell.holds_appends = True
    shell.advance(HOUR + CHECK)
    shell.fail()
    assert shell.offsets() == {("t", 0): 1}
    shell.holds_appends = False
    shell.advance(CHECK)
    assert shell.offsets() == {}
