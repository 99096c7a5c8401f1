"""Groups that change their protocol while they work: classic to consumer and back (KIP-848)."""

from __future__ import annotations

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol import codec
from logqueue.protocol.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    TopicPartition,
)
from tests.group.consumers import ConsumerClient, Held, assignment_of, describe, settle
from tests.group.shell import GROUP, Shell

ALL_OF_T = {"t": {0, 1, 2, 3}}


class ClassicClient:
    """A consumer of the classic protocol with cooperative rebalancing (KIP-429): it keeps what it owns over a join."""

    def __init__(self, shell: Shell, *topics: str, instance: str | None = None) -> None:
        self.shell = shell
        self.topics = topics
        self.instance = instance
        self.member_id = ""
        self.generation = -1
        self.owns: Held = {}
        self.joining: int | None = None
        self.members: list[str] = []

    def metadata(self) -> bytes:
        owned = [TopicPartition(topic=topic, partitions=sorted(held)) for topic, held in self.owns.items()]
        subscription = ConsumerProtocolSubscription(
            topics=list(self.topics), owned_partitions=owned, generation_id=self.generation
        )
        return codec.write_versioned(subscription, 3)

    def join(self) -> ErrorCode | None:
        """Send a join and take its answer; None while it is parked."""
        self.joining = self.shell.join(
            self.member_id, version=9, protocols={"range": self.metadata()}, instance=self.instance
        )
        return self.take_join()

    def take_join(self) -> ErrorCode | None:
        assert self.joining is not None
        if self.shell.is_parked(self.joining):
            return None
        answer = self.shell.replies[self.joining]
        error = ErrorCode(answer.error_code)
        if error is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = answer.member_id
            return self.join()
        if error is ErrorCode.NONE:
            self.member_id, self.generation = answer.member_id, answer.generation_id
            self.members = [member.member_id for member in answer.members]
        elif error is ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id, self.generation, self.owns = "", -1, {}
        return error

    def sync(self, shares: dict[str, Held] | None = None) -> ErrorCode:
        assignments = {
            member_id: codec.write_versioned(
                ConsumerProtocolAssignment(
                    assigned_partitions=[TopicPartition(topic=t, partitions=sorted(p)) for t, p in held.items()]
                ),
                1,
            )
            for member_id, held in (shares or {}).items()
        }
        token = self.shell.sync(
            self.member_id,
            self.generation,
            assignments,
            version=5,
            instance=self.instance,
            protocol_type="consumer",
            protocol_name="range",
        )
        error = self.shell.error_of(token)
        if error is ErrorCode.NONE:
            self.owns = assignment_of(self.shell.replies[token].assignment)
        return error

    def heartbeat(self) -> ErrorCode:
        token = self.shell.heartbeat(self.member_id, self.generation, instance=self.instance)
        return self.shell.error_of(token)

    def follow(self) -> None:
        """One round of what such a client does: heartbeat, and join and sync when it is told to."""
        error = self.heartbeat()
        if error is ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id, self.generation, self.owns = "", -1, {}
        if error is not ErrorCode.NONE and self.join() is ErrorCode.NONE:
            self.sync()

    def leave(self) -> int:
        return self.shell.leave((self.member_id, self.instance))


@pytest.fixture
def shell() -> Shell:
    return Shell(properties={"group.initial.rebalance.delay.ms": "0"})


def classic_group(shell: Shell, *topics: str, instance: str | None = None) -> ClassicClient:
    """A Stable classic group of one member that holds all of t."""
    client = ClassicClient(shell, *(topics or ("t",)), instance=instance)
    assert client.join() is None
    shell.advance(0)
    assert client.take_join() is ErrorCode.NONE
    assert client.sync({client.member_id: ALL_OF_T}) is ErrorCode.NONE
    return client


def work(classics: list[ClassicClient], consumers: list[ConsumerClient], rounds: int = 8) -> None:
    for _ in range(rounds):
        for classic in classics:
            classic.follow()
        settle(*consumers, rounds=1)


# Upgrade


def test_a_classic_group_becomes_a_consumer_group_when_a_member_of_that_protocol_joins(shell: Shell) -> None:
    classic = classic_group(shell)
    new = ConsumerClient(shell, "b", "t")
    assert new.join().member_epoch == 2
    group = describe(shell)
    assert (group.group_state, group.group_epoch) == ("Reconciling", 2)
    assert [(m.member_type, m.member_epoch) for m in group.members] == [(0, 1), (1, 2)]
    assert shell.listed(types=("classic",)) == []
    work([classic], [new])
    assert classic.owns["t"] | new.owns["t"] == {0, 1, 2, 3}
    assert classic.owns["t"].isdisjoint(new.owns["t"])
    assert describe(shell).group_state == "Stable"


def test_no_partition_is_read_twice_while_a_group_is_upgraded(shell: Shell) -> None:
    classic = classic_group(shell)
    new = ConsumerClient(shell, "b", "t")
    for _ in range(8):
        settle(new, rounds=1)
        assert classic.owns["t"].isdisjoint(new.owns.get("t", set()))
        classic.follow()
        assert classic.owns["t"].isdisjoint(new.owns.get("t", set()))


def test_the_offsets_of_a_group_survive_its_upgrade_and_its_downgrade(shell: Shell) -> None:
    classic = classic_group(shell)
    shell.commit({("t", 0): 7}, member_id=classic.member_id, generation=1)
    new = ConsumerClient(shell, "b", "t")
    new.join()
    assert shell.offsets() == {("t", 0): 7}
    new.leave()
    assert shell.offsets() == {("t", 0): 7}
    assert shell.restarted().offsets() == {("t", 0): 7}


def test_members_that_wait_for_a_classic_rebalance_are_sent_into_the_new_group(shell: Shell) -> None:
    first = classic_group(shell)
    second = ClassicClient(shell, "t")
    assert second.join() is None  # parked until the first one rejoins
    new = ConsumerClient(shell, "b", "t")
    new.join()
    assert second.take_join() is ErrorCode.REBALANCE_IN_PROGRESS
    work([first, second], [new])
    owned = [first.owns.get("t", set()), second.owns.get("t", set()), new.owns.get("t", set())]
    assert sorted(p for held in owned for p in held) == [0, 1, 2, 3]


def _join_of_the_consumer_protocol(shell: Shell) -> int:
    return ConsumerClient(shell, "b", "t").send(
        member_epoch=0, topic_partitions=[], rebalance_timeout_ms=60_000, subscribed_topic_names=["t"]
    )


def test_a_classic_session_that_ends_while_the_upgrade_is_written_leaves_no_classic_group_behind(shell: Shell) -> None:
    classic_group(shell)
    shell.holds_appends = True
    _join_of_the_consumer_protocol(shell)
    shell.advance(11.0)
    shell.holds_appends = False
    shell.settle()
    for observed in (shell, shell.restarted()):
        assert observed.listed(types=("consumer",)) == [GROUP]
        assert observed.listed(types=("classic",)) == []


def test_classic_deadlines_of_joins_and_syncs_wait_for_the_upgrade_too() -> None:
    for state in ("join", "sync"):
        shell = Shell(properties={"group.initial.rebalance.delay.ms": "5000"})
        shell.join(version=0, rebalance_ms=-1, session_ms=7_000)
        if state == "sync":
            shell.advance(6.0)
        shell.holds_appends = True
        joining = _join_of_the_consumer_protocol(shell)
        written = list(shell.held)
        shell.advance(20.0)
        assert shell.held == written
        shell.holds_appends = False
        shell.settle()
        assert shell.replies[joining].error_code == ErrorCode.NONE
        assert shell.restarted().listed(types=("consumer",)) == [GROUP]


def test_a_classic_member_that_is_heard_of_behind_a_failed_upgrade_stays(shell: Shell) -> None:
    classic = classic_group(shell)
    shell.holds_appends = True
    _join_of_the_consumer_protocol(shell)
    shell.advance(5.0)
    token = shell.heartbeat(classic.member_id, classic.generation)
    shell.advance(6.0)
    shell.fail()
    shell.holds_appends = False
    assert shell.error_of(token) is ErrorCode.NONE
    assert classic.heartbeat() is ErrorCode.NONE
    shell.advance(11.0)
    assert classic.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


@pytest.mark.parametrize("policy", ["disabled", "downgrade"])
def test_the_policy_may_forbid_the_upgrade(policy: str) -> None:
    shell = Shell(
        properties={"group.initial.rebalance.delay.ms": "0", "group.consumer.migration.policy": policy.upper()}
    )
    classic_group(shell)
    response = ConsumerClient(shell, "b", "t").join()
    assert response.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert "online upgrade is disabled" in (response.error_message or "")


def test_a_group_of_another_kind_of_client_is_not_upgraded(shell: Shell) -> None:
    _, join = shell.member(protocol_type="connect", protocols={"default": b"\0\0"})
    shell.advance(0)
    assert not shell.is_parked(join)
    response = ConsumerClient(shell, "b", "t").join()
    assert response.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert "does not use the consumer embedded protocol" in (response.error_message or "")


def test_an_empty_classic_group_becomes_a_consumer_group_under_any_policy() -> None:
    shell = Shell(properties={"group.consumer.migration.policy": "disabled"})
    shell.commit({("t", 0): 5})
    assert ConsumerClient(shell, "b", "t").join().member_epoch == 1
    assert shell.offsets() == {("t", 0): 5}
    assert shell.restarted().offsets() == {("t", 0): 5}


# Classic members of consumer groups


def test_a_classic_client_joins_a_consumer_group(shell: Shell) -> None:
    old = ConsumerClient(shell, "a", "t")
    settle(old)
    classic = ClassicClient(shell, "t")
    assert classic.join() is ErrorCode.NONE
    assert (classic.generation, classic.sync(), classic.owns) == (2, ErrorCode.NONE, {})
    work([classic], [old])
    assert classic.owns["t"] | old.owns["t"] == {0, 1, 2, 3}
    assert (len(classic.owns["t"]), len(old.owns["t"])) == (2, 2)


def test_a_classic_client_of_another_protocol_type_is_kept_out_of_a_consumer_group(shell: Shell) -> None:
    settle(ConsumerClient(shell, "a", "t"))
    token = shell.join(version=3, protocol_type="connect")
    assert shell.error_of(token) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    token = shell.join(version=3, protocols={"range": b"\xff"})
    assert shell.error_of(token) is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def told_to_rejoin(shell: Shell, *, beats: int) -> tuple[ConsumerClient, ClassicClient]:
    """A classic member that is to join again and only sends heartbeats, one every 5 s, beside one of the new kind."""
    consumer = ConsumerClient(shell, "a", "t")
    settle(consumer)
    classic = ClassicClient(shell, "t")
    classic.join()
    classic.sync()
    work([classic], [consumer])
    consumer.subscribe("t", "u")
    for _ in range(beats):
        classic.heartbeat()
        shell.advance(5.0)
        consumer.beat()
    return consumer, classic


def test_a_classic_member_that_is_told_to_rejoin_has_its_rebalance_timeout_for_it(shell: Shell) -> None:
    consumer, classic = told_to_rejoin(shell, beats=13)
    assert classic.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID
    settle(consumer)
    assert consumer.owns["t"] == {0, 1, 2, 3}


def test_a_classic_member_that_joins_and_does_not_sync_is_out_after_the_rebalance_timeout(shell: Shell) -> None:
    settle(ConsumerClient(shell, "a", "t"))
    classic = ClassicClient(shell, "t")
    classic.join()
    for _ in range(8):
        shell.advance(7.6)
        classic.heartbeat()
    assert len(describe(shell).members) == 0


def test_a_classic_member_that_syncs_behind_a_slow_disk_in_time_stays(shell: Shell) -> None:
    consumer = ConsumerClient(shell, "a", "t")
    settle(consumer)
    classic = ClassicClient(shell, "t")
    classic.join()
    consumer.revokes_at_once = False
    for _ in range(7):
        shell.advance(8.0)
        consumer.beat()
        classic.heartbeat()
    consumer.revoke()
    shell.holds_appends = True
    consumer.send(topic_partitions=consumer.owned())
    token = shell.sync(classic.member_id, classic.generation)
    shell.advance(5.0)  # the time to sync is over behind it
    shell.holds_appends = False
    shell.settle()
    assert shell.error_of(token) is ErrorCode.NONE
    assert {m.member_id for m in describe(shell).members} == {"a", classic.member_id}


def test_a_classic_member_that_only_sends_heartbeats_cannot_put_off_its_eviction(shell: Shell) -> None:
    _, classic = told_to_rejoin(shell, beats=11)
    shell.holds_appends = True
    ConsumerClient(shell, "c", "u").send(
        member_epoch=0, topic_partitions=[], rebalance_timeout_ms=1000, subscribed_topic_names=["u"]
    )
    token = shell.heartbeat(classic.member_id, classic.generation)
    shell.advance(6.0)  # the time to join again is over behind the heartbeat
    shell.holds_appends = False
    shell.settle()
    assert shell.error_of(token) is ErrorCode.REBALANCE_IN_PROGRESS
    assert classic.heartbeat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_classic_and_consumer_members_do_not_answer_to_the_others_requests(shell: Shell) -> None:
    consumer = ConsumerClient(shell, "a", "t")
    settle(consumer)
    assert shell.error_of(shell.heartbeat("a", 1)) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.error_of(shell.sync("a", 1)) is ErrorCode.UNKNOWN_MEMBER_ID


def test_commits_of_classic_members_name_the_epoch_as_their_generation(shell: Shell) -> None:
    settle(ConsumerClient(shell, "a", "t"))
    classic = ClassicClient(shell, "t")
    classic.join()
    good = shell.commit({("t", 0): 3}, member_id=classic.member_id, generation=classic.generation)
    assert shell.commit_errors(good) == {("t", 0): ErrorCode.NONE}
    bad = shell.commit({("t", 0): 3}, member_id=classic.member_id, generation=classic.generation - 1)
    assert shell.commit_errors(bad) == {("t", 0): ErrorCode.ILLEGAL_GENERATION}


# Downgrade


def test_the_group_is_classic_again_when_its_last_member_of_the_consumer_protocol_leaves(shell: Shell) -> None:
    classic = classic_group(shell)
    new = ConsumerClient(shell, "b", "t")
    work([classic], [new])
    new.leave()
    assert shell.listed(types=("consumer",)) == []
    assert shell.describe().group_state == "PreparingRebalance"
    assert classic.heartbeat() is ErrorCode.REBALANCE_IN_PROGRESS
    assert classic.join() is ErrorCode.NONE
    assert classic.members == [classic.member_id]
    assert classic.sync({classic.member_id: ALL_OF_T}) is ErrorCode.NONE
    assert shell.describe().group_state == "Stable"


def test_the_group_is_classic_again_when_that_member_falls_silent(shell: Shell) -> None:
    classic = classic_group(shell)
    new = ConsumerClient(shell, "b", "t")
    work([classic], [new])
    for _ in range(10):
        shell.advance(5.0)
        classic.follow()
    assert shell.listed(types=("classic",)) == [GROUP]
    assert classic.owns == {} or classic.members == [classic.member_id]


def test_without_the_policy_a_group_stays_a_consumer_group() -> None:
    shell = Shell(properties={"group.initial.rebalance.delay.ms": "0", "group.consumer.migration.policy": "upgrade"})
    classic = classic_group(shell)
    new = ConsumerClient(shell, "b", "t")
    work([classic], [new])
    new.leave()
    work([classic], [])
    assert shell.listed(types=("consumer",)) == [GROUP]
    assert classic.owns == ALL_OF_T


def test_a_classic_client_may_take_the_place_of_the_last_static_consumer(shell: Shell) -> None:
    old = ConsumerClient(shell, "a", "t", instance_id="one")
    settle(old)
    classic = ClassicClient(shell, "t", instance="one")
    assert classic.join() is ErrorCode.NONE
    assert shell.listed(types=("classic",)) == [GROUP]
    assert shell.describe().group_state == "Stable"
    assert classic.sync() is ErrorCode.NONE
    assert classic.owns == ALL_OF_T
    assert old.ask().error_code == ErrorCode.GROUP_ID_NOT_FOUND


def test_a_consumer_may_take_the_place_of_a_static_classic_member(shell: Shell) -> None:
    classic = classic_group(shell, instance="one")
    new = ConsumerClient(shell, "b", "t", instance_id="one")
    assert new.join().member_epoch == 1
    assert new.owns == ALL_OF_T
    assert [member.member_type for member in describe(shell).members] == [1]
    assert classic.heartbeat() is ErrorCode.FENCED_INSTANCE_ID


def test_an_empty_consumer_group_becomes_a_classic_one_and_keeps_its_offsets(shell: Shell) -> None:
    old = ConsumerClient(shell, "a", "t")
    settle(old)
    shell.commit({("t", 1): 4}, member_id="a", generation=old.epoch, version=9)
    old.leave()
    classic_group(shell)
    assert shell.listed(types=("classic",)) == [GROUP]
    assert shell.offsets() == shell.restarted().offsets() == {("t", 1): 4}


def test_a_member_id_that_nobody_gave_out_leaves_an_empty_consumer_group_as_it_is(shell: Shell) -> None:
    old = ConsumerClient(shell, "a", "t")
    settle(old)
    shell.commit({("t", 1): 4}, member_id="a", generation=old.epoch, version=9)
    old.leave()
    assert shell.error_of(shell.join("a", protocol_type="")) is ErrorCode.UNKNOWN_MEMBER_ID
    assert shell.listed(types=("consumer",)) == [GROUP]
    assert shell.offsets() == {("t", 1): 4}


def test_leave_group_takes_out_members_of_both_protocols(shell: Shell) -> None:
    classic = classic_group(shell)
    static = ConsumerClient(shell, "b", "t", instance_id="one")
    work([classic], [static])
    token = shell.leave((classic.member_id, None), ("", "one"), ("nobody", None))
    assert [answer.error_code for answer in shell.replies[token].members] == [0, 0, ErrorCode.UNKNOWN_MEMBER_ID]
    assert describe(shell).group_state == "Empty"


# Restart


def test_a_restart_in_the_middle_finds_the_group_as_it_was(shell: Shell) -> None:
    classic = classic_group(shell)
    new = ConsumerClient(shell, "b", "t")
    new.join()
    restarted = shell.restarted()
    assert describe(restarted) == describe(shell)
    for client in (classic, new):
        client.shell = restarted
    work([classic], [new])
    assert classic.owns["t"] | new.owns["t"] == {0, 1, 2, 3}
    new.leave()
    assert restarted.restarted().listed(types=("classic",)) == [GROUP]
