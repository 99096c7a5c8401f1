"""Offsets, listing, deletion, expiry and recovery of consumer groups (KIP-848)."""

from __future__ import annotations

import pytest

from logqueue.errors import ErrorCode
from logqueue.group.records import decode
from logqueue.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from tests.group.consumers import ConsumerClient, describe, settle
from tests.group.shell import GROUP, Shell

HOUR = 3600.0


@pytest.fixture
def shell() -> Shell:
    return Shell(properties={"offsets.retention.minutes": "60"})


@pytest.fixture
def member(shell: Shell) -> ConsumerClient:
    client = ConsumerClient(shell, "a", "t")
    client.join()
    return client


def commit(shell: Shell, *, member_id: str, epoch: int, version: int = 9) -> ErrorCode:
    token = shell.commit({("t", 0): 1}, member_id=member_id, generation=epoch, version=version)
    return shell.commit_errors(token)["t", 0]


def fetch(shell: Shell, member_id: str | None, epoch: int) -> ErrorCode:
    group = OffsetFetchRequestGroup(group_id=GROUP, member_id=member_id, member_epoch=epoch, topics=None)
    token = shell.send(shell.coordinator.fetch_offsets, OffsetFetchRequest(groups=[group]), 9)
    return ErrorCode(shell.replies[token].groups[0].error_code)


# Offsets


def test_a_member_commits_and_reads_at_its_own_epoch_only(shell: Shell, member: ConsumerClient) -> None:
    assert commit(shell, member_id="a", epoch=1) is ErrorCode.NONE
    for epoch in (0, 2, -1):
        assert commit(shell, member_id="a", epoch=epoch) is ErrorCode.STALE_MEMBER_EPOCH
    assert fetch(shell, "a", 1) is ErrorCode.NONE
    assert fetch(shell, "a", 2) is ErrorCode.STALE_MEMBER_EPOCH


def test_strangers_neither_commit_nor_read_as_members(shell: Shell, member: ConsumerClient) -> None:
    assert commit(shell, member_id="x", epoch=1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert commit(shell, member_id="", epoch=-1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert fetch(shell, "x", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert fetch(shell, None, -1) is ErrorCode.NONE


def test_older_commits_cannot_name_an_epoch(shell: Shell, member: ConsumerClient) -> None:
    assert commit(shell, member_id="a", epoch=1, version=8) is ErrorCode.UNSUPPORTED_VERSION


def test_tools_commit_while_the_group_is_empty(shell: Shell, member: ConsumerClient) -> None:
    member.leave()
    assert commit(shell, member_id="", epoch=-1) is ErrorCode.NONE
    assert shell.offsets() == {("t", 0): 1}


def test_offsets_of_topics_that_members_read_are_not_deleted(shell: Shell, member: ConsumerClient) -> None:
    commit(shell, member_id="a", epoch=1)
    token = shell.delete_offsets(("t", 0), ("u", 0))
    errors = [partition.error_code for topic in shell.replies[token].topics for partition in topic.partitions]
    assert errors == [ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC, ErrorCode.NONE]
    member.leave()
    shell.delete_offsets(("t", 0))
    assert shell.offsets() == {}


# Operators


def test_groups_are_listed_by_type_and_state(shell: Shell, member: ConsumerClient) -> None:
    shell.commit({("t", 0): 1}, group="simple")
    assert shell.listed() == ["simple", GROUP]
    assert shell.listed(types=("Consumer",)) == [GROUP]
    assert shell.listed(types=("classic",)) == ["simple"]
    assert shell.listed(states=("stable",)) == [GROUP]
    ConsumerClient(shell, "b", "t").join()
    assert shell.listed(states=("reconciling",)) == [GROUP]
    assert shell.listed(states=("Stable",), types=("consumer",)) == []


def test_describe_groups_does_not_know_consumer_groups(shell: Shell, member: ConsumerClient) -> None:
    described = shell.describe()
    assert (described.error_code, described.group_state) == (ErrorCode.GROUP_ID_NOT_FOUND, "Dead")
    assert described.error_message == "Group g is not a classic group."


def test_consumer_group_describe_does_not_know_classic_groups(shell: Shell) -> None:
    shell.commit({("t", 0): 1}, group="simple")
    assert describe(shell, "simple").error_message == "Group simple is not a consumer group."
    assert describe(shell, "none").error_message == "Group none not found."
    assert describe(shell, "").error_code == ErrorCode.INVALID_GROUP_ID


def test_a_description_tells_what_members_hold_and_what_they_are_to_hold(shell: Shell, member: ConsumerClient) -> None:
    ConsumerClient(shell, "b", "t", rack_id="r1", instance_id="one").join()
    group = describe(shell)
    assert (group.group_epoch, group.assignment_epoch, group.assignor_name) == (2, 2, "uniform")
    first, second = group.members
    assert (first.member_epoch, first.client_id, first.client_host) == (1, "c", "/127.0.0.1")
    assert [len(t.partitions) for t in first.assignment.topic_partitions] == [4]
    assert [len(t.partitions) for t in first.target_assignment.topic_partitions] == [2]
    assert (second.rack_id, second.instance_id, second.member_epoch) == ("r1", "one", 2)
    assert second.assignment.topic_partitions == []
    assert first.target_assignment.topic_partitions[0].topic_name == "t"


def test_only_an_empty_group_is_deleted_and_all_of_it(shell: Shell, member: ConsumerClient) -> None:
    commit(shell, member_id="a", epoch=1)
    token = shell.delete_groups(GROUP)
    assert shell.replies[token].results[0].error_code == ErrorCode.NON_EMPTY_GROUP
    member.leave()
    token = shell.delete_groups(GROUP)
    assert shell.replies[token].results[0].error_code == ErrorCode.NONE
    for observed in (shell, shell.restarted()):
        assert observed.listed() == []
        assert observed.offsets() == {}
    alive = {record.key for record in _last_of_each_key(shell) if record.value is not None}
    assert alive == set()


def test_nobody_joins_or_commits_while_a_group_is_being_deleted(shell: Shell, member: ConsumerClient) -> None:
    member.leave()
    shell.holds_appends = True
    shell.delete_groups(GROUP)
    assert commit(shell, member_id="", epoch=-1) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    token = member.send(member_epoch=0, topic_partitions=[], rebalance_timeout_ms=1000, subscribed_topic_names=["t"])
    assert shell.is_parked(token)
    shell.holds_appends = False
    shell.settle()
    assert shell.replies[token].member_epoch == 1


def test_a_group_that_could_not_be_deleted_is_alive(shell: Shell, member: ConsumerClient) -> None:
    member.leave()
    shell.holds_appends = True
    token = shell.delete_groups(GROUP)
    shell.fail()
    assert shell.replies[token].results[0].error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
    shell.holds_appends = False
    assert commit(shell, member_id="", epoch=-1) is ErrorCode.NONE


# Expiry


def test_offsets_expire_where_nobody_reads_the_topic_and_an_empty_group_goes_with_the_last(
    shell: Shell, member: ConsumerClient
) -> None:
    for topic in ("t", "u"):
        shell.commit({(topic, 0): 1}, member_id="a", generation=1, version=9)
    for _ in range(400):
        shell.advance(10.0)
        member.beat()
    assert shell.offsets() == {("t", 0): 1}
    member.leave()
    shell.advance(0.3 * HOUR)
    assert shell.listed() == []


# Recovery


def test_a_restarted_group_is_the_same_and_its_sessions_run_from_the_start(
    shell: Shell, member: ConsumerClient
) -> None:
    other = ConsumerClient(shell, "b", subscribed_topic_regex="u", instance_id="one")
    other.join()
    shell.advance(0)
    settle(member, other)
    restarted = shell.restarted()
    assert describe(restarted) == describe(shell)
    member.shell = restarted
    assert member.beat().error_code == ErrorCode.NONE
    restarted.advance(44.0)
    member.beat()
    restarted.advance(1.1)
    assert [m.member_id for m in describe(restarted).members] == ["a"]


def test_a_member_that_has_to_give_up_is_watched_after_a_restart_too(shell: Shell) -> None:
    slow = ConsumerClient(shell, "a", "t", rebalance_timeout_ms=10_000)
    slow.join()
    ConsumerClient(shell, "b", "t").join()
    slow.revokes_at_once = False
    slow.beat()
    slow.shell = shell.restarted()
    for _ in range(2):
        slow.beat()
        slow.shell.advance(5.1)
    assert slow.beat().error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_what_compaction_leaves_makes_the_same_group(shell: Shell, member: ConsumerClient) -> None:
    other = ConsumerClient(shell, "b", "t", "u")
    settle(member, other)
    member.leave()
    settle(other)
    compacted = _last_of_each_key(shell)
    assert len(compacted) < len(shell.log)
    without_tombstones = [record for record in compacted if record.value is not None]
    for log in (compacted, without_tombstones):
        again = Shell(clock=shell.clock, log=log, properties=shell.properties)
        assert describe(again) == describe(shell)


def test_every_record_reads_back_as_it_was_written(shell: Shell, member: ConsumerClient) -> None:
    ConsumerClient(shell, "b", subscribed_topic_regex="u", rack_id="r", server_assignor="range").join()
    shell.advance(0)
    from logqueue.group.records import encode

    for record in shell.log:
        change = decode(*record)
        assert change is not None
        assert encode(change) == record


def _last_of_each_key(shell: Shell) -> list:  # type: ignore[type-arg]
    last = {record.key: position for position, record in enumerate(shell.log)}
    return [shell.log[position] for position in sorted(last.values())]
