"""ConsumerGroupHeartbeat: joining, epochs, fencing, static members, regular expressions, leaving (KIP-848)."""

from __future__ import annotations

from typing import Any

import pytest

from logqueue.errors import ErrorCode
from tests.group.consumers import ConsumerClient, describe, partitions, settle
from tests.group.shell import Shell

ALL_OF_T = {"t": {0, 1, 2, 3}}


@pytest.fixture
def shell() -> Shell:
    return Shell()


def test_the_first_member_gets_everything_at_epoch_one(shell: Shell) -> None:
    response = ConsumerClient(shell, "a", "t").join()
    assert (response.error_code, response.member_id, response.member_epoch) == (0, "a", 1)
    assert response.heartbeat_interval_ms == 5_000
    assert partitions(response, shell) == ALL_OF_T


def test_a_member_without_an_id_is_given_one_in_version_0(shell: Shell) -> None:
    request = ConsumerClient(shell, "", "t")
    assert request.join().error_code == ErrorCode.INVALID_REQUEST
    token = shell.send(
        shell.coordinator.consumer_heartbeat, _joining(member_id="", subscribed_topic_names=["t"]), version=0
    )
    assert shell.replies[token].member_id == "id1"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"group_id": ""}, "GroupId can't be empty."),
        ({"member_id": " "}, "MemberId can't be empty."),
        ({"instance_id": ""}, "InstanceId can't be empty."),
        ({"rack_id": ""}, "RackId can't be empty."),
        ({"rebalance_timeout_ms": -1}, "RebalanceTimeoutMs must be provided in first request."),
        ({"topic_partitions": None}, "TopicPartitions must be empty when (re-)joining."),
        (
            {"subscribed_topic_names": None},
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        ({"member_epoch": -3}, "MemberEpoch is invalid."),
        ({"member_epoch": -2}, "InstanceId can't be null."),
    ],
)
def test_a_heartbeat_that_contradicts_itself_is_refused_with_the_reason(
    shell: Shell, fields: dict[str, Any], reason: str
) -> None:
    token = shell.send(shell.coordinator.consumer_heartbeat, _joining(**fields), version=1)
    assert shell.error_of(token) is ErrorCode.INVALID_REQUEST
    assert shell.replies[token].error_message == reason
    assert shell.log == []


def test_an_assignor_that_the_broker_lacks_is_refused_by_name(shell: Shell) -> None:
    response = ConsumerClient(shell, "a", "t", server_assignor="sticky").join()
    assert response.error_code == ErrorCode.UNSUPPORTED_ASSIGNOR
    assert response.error_message == "ServerAssignor sticky is not supported. Supported assignors: uniform, range."


def test_a_heartbeat_of_a_group_that_is_not_there_names_it(shell: Shell) -> None:
    response = ConsumerClient(shell, "a", "t").ask(member_epoch=3)
    assert response.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert response.error_message == "Consumer group g not found."


def test_a_full_group_lets_nobody_new_in() -> None:
    shell = Shell(properties={"group.consumer.max.size": "1"})
    first = ConsumerClient(shell, "a", "t")
    first.join()
    assert ConsumerClient(shell, "b", "t").join().error_code == ErrorCode.GROUP_MAX_SIZE_REACHED
    assert first.beat().error_code == ErrorCode.NONE


def test_an_idle_heartbeat_writes_nothing_and_tells_no_assignment(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t")
    member.join()
    written = len(shell.log)
    response = member.ask()
    assert (response.member_epoch, response.assignment) == (1, None)
    assert len(shell.log) == written


def test_a_full_heartbeat_is_told_the_whole_assignment(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t")
    member.join()
    response = member.ask(rebalance_timeout_ms=60_000, subscribed_topic_names=["t"], topic_partitions=member.owned())
    assert partitions(response, shell) == ALL_OF_T


def test_a_partition_moves_only_after_its_owner_has_reported_to_own_it_no_more(shell: Shell) -> None:
    old, new = ConsumerClient(shell, "a", "t"), ConsumerClient(shell, "b", "t")
    old.join()
    joined = new.join()
    assert (joined.member_epoch, partitions(joined, shell)) == (2, {})
    old.revokes_at_once = False
    told = old.beat()
    assert (told.member_epoch, sum(map(len, (partitions(told, shell) or {}).values()))) == (1, 2)
    assert old.beat().member_epoch == 1  # it still works on what it has to give up
    assert partitions(new.beat(), shell) is None
    assert describe(shell).group_state == "Reconciling"
    old.revoke()
    assert old.beat().member_epoch == 2
    taken = partitions(new.beat(), shell)
    assert taken is not None
    assert taken["t"] | old.owns["t"] == {0, 1, 2, 3}
    assert taken["t"].isdisjoint(old.owns["t"])
    assert describe(shell).group_state == "Stable"


def test_a_member_that_does_not_give_up_in_time_is_out(shell: Shell) -> None:
    slow, new = ConsumerClient(shell, "a", "t", rebalance_timeout_ms=10_000), ConsumerClient(shell, "b", "t")
    slow.join()
    new.join()
    slow.revokes_at_once = False
    for _ in range(3):
        slow.beat()
        shell.advance(4.0)
    assert slow.beat().error_code == ErrorCode.UNKNOWN_MEMBER_ID
    settle(new)
    assert new.owns == ALL_OF_T


def test_a_member_that_falls_silent_is_out_after_the_session_timeout(shell: Shell) -> None:
    silent, other = ConsumerClient(shell, "a", "t"), ConsumerClient(shell, "b", "t")
    settle(silent, other)
    for _ in range(9):
        shell.advance(5.0)
        other.beat()
    assert silent.ask().error_code == ErrorCode.UNKNOWN_MEMBER_ID
    settle(other)
    assert other.owns == ALL_OF_T


def test_the_group_decides_on_its_session_and_heartbeat_interval() -> None:
    shell = Shell(
        group_configs={"g": {"consumer.session.timeout.ms": "50000", "consumer.heartbeat.interval.ms": "6000"}}
    )
    member = ConsumerClient(shell, "a", "t")
    assert member.join().heartbeat_interval_ms == 6_000
    shell.advance(49.0)
    assert member.beat().error_code == ErrorCode.NONE
    shell.advance(50.1)
    assert member.beat().error_code == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_member_at_another_epoch_is_fenced(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t")
    member.join()
    for epoch, relation in ((2, "greater"), (7, "greater")):
        response = member.ask(member_epoch=epoch)
        assert response.error_code == ErrorCode.FENCED_MEMBER_EPOCH
        assert relation in (response.error_message or "")


def test_the_epoch_before_is_accepted_from_a_member_that_owns_nothing_it_should_not(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t")
    member.join()
    before = member.owned()
    assert member.subscribe("t", "u").member_epoch == 2  # this answer gets lost
    assert member.ask(member_epoch=1, topic_partitions=before).error_code == ErrorCode.NONE
    assert member.ask(member_epoch=1).error_code == ErrorCode.FENCED_MEMBER_EPOCH
    member.subscribe("u")
    assert member.ask(member_epoch=1, topic_partitions=before).error_code == ErrorCode.FENCED_MEMBER_EPOCH


def test_a_fenced_member_joins_again_under_its_id(shell: Shell) -> None:
    member, other = ConsumerClient(shell, "a", "t"), ConsumerClient(shell, "b", "t")
    settle(member, other)
    member.take(member.ask(member_epoch=99))
    assert member.epoch == 0
    settle(member, other)
    assert member.works_on() | other.works_on() == {("t", p) for p in range(4)}
    assert len(describe(shell).members) == 2


def test_a_new_subscription_takes_effect_with_the_heartbeat_that_tells_it(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t")
    member.join()
    told = member.subscribe("u")
    assert (told.member_epoch, partitions(told, shell)) == (1, {})  # give up first
    assert partitions(member.beat(), shell) == {"u": {0, 1, 2, 3}}
    assert member.epoch == 2


def test_topics_that_come_grow_and_go_are_assigned_at_the_next_heartbeat(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t", "new")
    member.join()
    shell.topics.create("new", 2)
    settle(member)
    assert member.owns == {**ALL_OF_T, "new": {0, 1}}
    shell.topics.grow("new", 5)
    settle(member)
    assert member.owns["new"] == {0, 1, 2, 3, 4}
    shell.topics.delete("new")
    settle(member)
    assert member.owns == ALL_OF_T
    assert describe(shell).group_epoch == 4


def test_a_topic_that_changes_while_a_heartbeat_is_being_written_is_noticed_by_the_next(shell: Shell) -> None:
    member, other = ConsumerClient(shell, "a", "t", "new"), ConsumerClient(shell, "b", "t")
    member.join()
    shell.holds_appends = True
    other.send(member_epoch=0, topic_partitions=[], rebalance_timeout_ms=1000, subscribed_topic_names=["t"])
    shell.topics.create("new", 2)
    shell.holds_appends = False
    shell.settle()
    settle(member, other)
    assert member.owns["new"] == {0, 1}


def test_a_topic_that_is_created_again_is_another_topic(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t")
    member.join()
    shell.topics.delete("t")
    shell.topics.create("t", 2)
    settle(member)
    assert member.owns == {"t": {0, 1}}
    assert describe(shell).group_state == "Stable"


def test_a_topic_that_nobody_reads_disturbs_nobody(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t")
    member.join()
    shell.topics.create("other", 2)
    member.beat()
    assert describe(shell).group_epoch == 1


def test_the_assignor_that_most_members_ask_for_is_used(shell: Shell) -> None:
    clients = [ConsumerClient(shell, name, "t", "u", server_assignor="range") for name in "abc"]
    settle(*clients)
    assert [client.owns for client in clients] == [{"t": s, "u": s} for s in ({0, 1}, {2}, {3})]
    assert describe(shell).assignor_name == "range"


# Static members


def test_a_static_member_that_pauses_keeps_its_partitions_for_its_next_life(shell: Shell) -> None:
    first, other = ConsumerClient(shell, "a", "t", instance_id="one"), ConsumerClient(shell, "b", "t")
    settle(first, other)
    held = first.owns
    assert first.leave(epoch=-2).member_epoch == -2
    other.beat()
    assert describe(shell).group_epoch == 2
    reborn = ConsumerClient(shell, "a2", "t", instance_id="one")
    assert partitions(reborn.join(), shell) == held
    assert reborn.epoch == 2
    assert [member.member_id for member in describe(shell).members] == ["b", "a2"]


def test_an_instance_id_in_use_is_not_given_away(shell: Shell) -> None:
    first = ConsumerClient(shell, "a", "t", instance_id="one")
    first.join()
    response = ConsumerClient(shell, "a2", "t", instance_id="one").join()
    assert response.error_code == ErrorCode.UNRELEASED_INSTANCE_ID
    assert first.beat().error_code == ErrorCode.NONE


def test_the_old_id_of_a_replaced_static_member_is_fenced(shell: Shell) -> None:
    first = ConsumerClient(shell, "a", "t", instance_id="one")
    first.join()
    first.ask(member_epoch=-2)
    ConsumerClient(shell, "a2", "t", instance_id="one").join()
    assert first.ask().error_code == ErrorCode.FENCED_INSTANCE_ID
    assert first.ask(member_epoch=-1).error_code == ErrorCode.FENCED_INSTANCE_ID


def test_a_static_member_that_never_comes_back_is_out_after_its_session(shell: Shell) -> None:
    paused, other = ConsumerClient(shell, "a", "t", instance_id="one"), ConsumerClient(shell, "b", "t")
    settle(paused, other)
    paused.leave(epoch=-2)
    for _ in range(10):
        shell.advance(5.0)
        other.beat()
    assert other.owns == ALL_OF_T


def test_heartbeats_of_an_unknown_instance_or_member_are_refused(shell: Shell) -> None:
    ConsumerClient(shell, "a", "t").join()
    assert ConsumerClient(shell, "x", "t").ask(member_epoch=1).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    unknown = ConsumerClient(shell, "x", "t", instance_id="none").ask(member_epoch=1)
    assert (unknown.error_code, unknown.error_message) == (ErrorCode.UNKNOWN_MEMBER_ID, "Instance id none is unknown.")


# Leaving


def test_who_leaves_frees_what_it_held(shell: Shell) -> None:
    leaver, other = ConsumerClient(shell, "a", "t"), ConsumerClient(shell, "b", "t")
    settle(leaver, other)
    response = leaver.leave()
    assert (response.error_code, response.member_id, response.member_epoch) == (0, "a", -1)
    settle(other)
    assert other.owns == ALL_OF_T


def test_a_group_whose_last_member_left_is_empty_and_stays(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t")
    member.join()
    member.leave()
    assert describe(shell).group_state == "Empty"
    assert member.ask(member_epoch=-1).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert member.join().member_epoch == 3


# Regular expressions


def test_a_regular_expression_is_resolved_after_the_join_and_followed_at_the_next_heartbeat(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", subscribed_topic_regex="t|n.*")
    joined = member.join()
    assert (joined.member_epoch, partitions(joined, shell)) == (1, {})
    shell.advance(0)
    assert partitions(member.beat(), shell) == ALL_OF_T
    assert member.epoch == 2
    shell.topics.create("new", 1)
    member.beat()
    shell.advance(10.1)  # not sooner than this after the last time
    settle(member, rounds=2)
    shell.advance(0)
    settle(member, rounds=2)
    assert member.owns == {**ALL_OF_T, "new": {0}}


def test_what_is_no_regular_expression_of_re2_is_refused(shell: Shell) -> None:
    for regex in ("(", "a(?=b)", r"(a)\1"):
        response = ConsumerClient(shell, "a", subscribed_topic_regex=regex).join()
        assert response.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION
        assert f"SubscribedTopicRegex `{regex}` is not a valid regular expression" in (response.error_message or "")
    assert shell.log == []


def test_a_regular_expression_matches_whole_names(shell: Shell) -> None:
    shell.topics.create("tt", 1)
    member = ConsumerClient(shell, "a", subscribed_topic_regex="t")
    member.join()
    shell.advance(0)
    settle(member)
    assert member.owns == ALL_OF_T


def test_a_second_member_with_a_resolved_regular_expression_does_not_wait(shell: Shell) -> None:
    first = ConsumerClient(shell, "a", subscribed_topic_regex="t")
    first.join()
    shell.advance(0)
    settle(first)
    second = ConsumerClient(shell, "b", subscribed_topic_regex="t")
    assert second.join().member_epoch == 3
    settle(first, second)
    assert first.works_on() | second.works_on() == {("t", p) for p in range(4)}


def test_a_regular_expression_matches_no_topic_that_the_member_may_not_know_of(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", subscribed_topic_regex=".*")
    member.sees = lambda name: name == "u"
    member.join()
    shell.advance(0)
    settle(member)
    assert set(member.owns) == {"u"}


def test_names_and_a_regular_expression_add_up(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", subscribed_topic_regex="t", subscribed_topic_names=["u"])
    member.join()
    shell.advance(0)
    settle(member)
    assert set(member.owns) == {"t", "u"}


def test_giving_up_a_regular_expression_gives_up_its_topics(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", subscribed_topic_regex="t")
    member.join()
    shell.advance(0)
    settle(member)
    member.beat(subscribed_topic_regex="", subscribed_topic_names=["u"])
    settle(member)
    assert set(member.owns) == {"u"}
    assert member.beat(subscribed_topic_names=[]).error_code == ErrorCode.NONE


# Failures of the disk


def test_a_join_that_could_not_be_written_never_was(shell: Shell) -> None:
    shell.holds_appends = True
    member = ConsumerClient(shell, "a", "t")
    token = member.send(member_epoch=0, topic_partitions=[], rebalance_timeout_ms=1000, subscribed_topic_names=["t"])
    assert shell.is_parked(token)
    shell.fail(ErrorCode.NOT_ENOUGH_REPLICAS)
    assert shell.error_of(token) is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert describe(shell).error_code == ErrorCode.GROUP_ID_NOT_FOUND


def test_requests_of_one_group_are_served_in_the_order_they_came(shell: Shell) -> None:
    shell.holds_appends = True
    clients = [ConsumerClient(shell, name, "t") for name in "abc"]
    joining = {"member_epoch": 0, "topic_partitions": [], "rebalance_timeout_ms": 1000, "subscribed_topic_names": ["t"]}
    tokens = [client.send(**joining) for client in clients]
    other = ConsumerClient(shell, "x", "t", group="h").send(**joining)
    assert len(shell.held) == 2  # one for each group
    shell.holds_appends = False
    shell.settle()
    assert [shell.replies[token].member_epoch for token in tokens] == [1, 2, 3]
    assert shell.replies[other].member_epoch == 1


def test_an_eviction_that_could_not_be_written_is_tried_again(shell: Shell) -> None:
    ConsumerClient(shell, "a", "t").join()
    shell.holds_appends = True
    shell.advance(45.1)
    shell.fail()
    assert len(describe(shell).members) == 1
    shell.holds_appends = False
    shell.advance(1.1)
    assert describe(shell).group_state == "Empty"


def test_a_member_whose_heartbeats_wait_for_a_slow_disk_stays(shell: Shell) -> None:
    member, other = ConsumerClient(shell, "a", "t"), ConsumerClient(shell, "b", "t")
    member.join()
    shell.holds_appends = True
    joining = {"member_epoch": 0, "topic_partitions": [], "rebalance_timeout_ms": 1000, "subscribed_topic_names": ["t"]}
    other.send(**joining)
    waiting = [_beat_after(shell, member, 10.0) for _ in range(4)]
    shell.advance(10.0)  # its session ends behind them
    assert all(map(shell.is_parked, waiting))
    shell.holds_appends = False
    shell.settle()
    assert [shell.error_of(token) for token in waiting] == [ErrorCode.NONE] * 4
    assert member.beat().error_code == ErrorCode.NONE
    shell.advance(44.0)
    assert {m.member_id for m in describe(shell).members} == {"a", "b"}
    shell.advance(2.0)
    assert describe(shell).members == []


def test_a_member_that_gives_up_behind_a_slow_disk_in_time_stays(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t", rebalance_timeout_ms=5_000)
    member.join()
    ConsumerClient(shell, "b", "t").join()
    member.revokes_at_once = False
    member.beat()
    member.revoke()
    shell.holds_appends = True
    ConsumerClient(shell, "c", "u").send(
        member_epoch=0, topic_partitions=[], rebalance_timeout_ms=1000, subscribed_topic_names=["u"]
    )
    token = member.send(topic_partitions=member.owned())
    shell.advance(6.0)
    shell.holds_appends = False
    shell.settle()
    assert shell.error_of(token) is ErrorCode.NONE
    assert {m.member_id for m in describe(shell).members} == {"a", "b", "c"}


def test_a_member_that_is_heard_of_after_its_eviction_could_not_be_written_stays(shell: Shell) -> None:
    member = ConsumerClient(shell, "a", "t")
    member.join()
    shell.holds_appends = True
    shell.advance(45.1)
    shell.fail()
    shell.holds_appends = False
    member.beat()
    shell.advance(40.0)
    assert len(describe(shell).members) == 1


def _beat_after(shell: Shell, member: ConsumerClient, seconds: float) -> int:
    shell.advance(seconds)
    return member.send()


def _joining(**fields: Any) -> Any:
    from logqueue.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest

    values: dict[str, Any] = {
        "group_id": "g",
        "member_id": "a",
        "rebalance_timeout_ms": 1000,
        "topic_partitions": [],
        "subscribed_topic_names": ["t"],
        **fields,
    }
    return ConsumerGroupHeartbeatRequest(**values)
