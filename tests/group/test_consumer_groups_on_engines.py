"""Consumer groups (KIP-848) frame by frame, on this broker and on Apache Kafka: the same answers, epochs and errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol import codec
from logqueue.protocol.messages.api_versions import ApiVersionsRequest
from logqueue.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from logqueue.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest, TopicPartitions
from logqueue.protocol.messages.consumer_protocol import ConsumerProtocolAssignment, ConsumerProtocolSubscription
from logqueue.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from logqueue.protocol.messages.describe_groups import DescribeGroupsRequest
from logqueue.protocol.messages.find_coordinator import FindCoordinatorRequest
from logqueue.protocol.messages.heartbeat import HeartbeatRequest
from logqueue.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logqueue.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.broker.wire import Wire
from tests.conftest import Engine

WAIT_SECONDS = 30
POLL_SECONDS = 0.05


class Group:
    """A group and a topic `t` of four partitions, on one engine."""

    def __init__(self, engine: Engine, prefix: str) -> None:
        self.wire = Wire(engine.bootstrap)
        self.group_id = f"{prefix}gAa"  # In Java "Aa" and "BB" have the same hash, which says whose group it is.
        self.topic = f"{prefix}t"
        creating = CreatableTopic(name=self.topic, num_partitions=4, replication_factor=1)
        assert self.wire.call(7, CreateTopicsRequest(topics=[creating], timeout_ms=10_000)).topics[0].error_code == 0
        until(self._is_ready)

    def _is_ready(self) -> bool:
        """Apache Kafka creates `__consumer_offsets` when a coordinator is first looked for."""
        asking = FindCoordinatorRequest(key_type=0, coordinator_keys=[self.group_id])
        described = self.wire.call(12, MetadataRequest(topics=[MetadataRequestTopic(name=self.topic)])).topics[0]
        self.topic_id = described.topic_id
        coordinator = self.wire.call(4, asking).coordinators[0]
        if described.error_code or coordinator.error_code:
            return False
        # A coordinator hears of a new topic a moment later than clients do: ask on behalf of another group of its own.
        probe = self.join("p", group_id=self.group_id.removesuffix("Aa") + "BB")
        return probe.error_code == 0 and held(probe) == {0, 1, 2, 3}

    def beat(self, member_id: str, epoch: int, *, owned: set[int] | None = None, **fields: Any) -> Any:
        request = ConsumerGroupHeartbeatRequest(group_id=self.group_id, member_id=member_id, member_epoch=epoch)
        if owned is not None:
            request.topic_partitions = [TopicPartitions(topic_id=self.topic_id, partitions=sorted(owned))]
        for name, value in fields.items():
            setattr(request, name, value)
        return self.wire.call(1, request)

    def join(self, member_id: str, **fields: Any) -> Any:
        wanted = {"subscribed_topic_names": [self.topic], "rebalance_timeout_ms": 60_000, "topic_partitions": []}
        return self.beat(member_id, 0, **{**wanted, **fields})

    def describe(self) -> Any:
        return self.wire.call(1, ConsumerGroupDescribeRequest(group_ids=[self.group_id])).groups[0]

    def commit(self, member_id: str, epoch: int, *, version: int = 9) -> ErrorCode:
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=1)
        request = OffsetCommitRequest(
            group_id=self.group_id,
            generation_id_or_member_epoch=epoch,
            member_id=member_id,
            topics=[OffsetCommitRequestTopic(name=self.topic, partitions=[partition])],
        )
        return ErrorCode(self.wire.call(version, request).topics[0].partitions[0].error_code)

    def classic_join(self, member_id: str = "") -> Any:
        subscription = codec.write_versioned(ConsumerProtocolSubscription(topics=[self.topic]), 1)
        request = JoinGroupRequest(
            group_id=self.group_id,
            session_timeout_ms=30_000,
            rebalance_timeout_ms=60_000,
            member_id=member_id,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=subscription)],
        )
        answer = self.wire.call(5, request)
        if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            return self.classic_join(answer.member_id)
        return answer

    def classic_sync(self, member_id: str, generation: int, *, leads: bool = False) -> Any:
        assignment = codec.write_versioned(ConsumerProtocolAssignment(assigned_partitions=[]), 1)
        return self.wire.call(
            5,
            SyncGroupRequest(
                group_id=self.group_id,
                generation_id=generation,
                member_id=member_id,
                protocol_type="consumer",
                protocol_name="range",
                assignments=[SyncGroupRequestAssignment(member_id=member_id, assignment=assignment)] if leads else [],
            ),
        )

    def classic_heartbeat(self, member_id: str, generation: int) -> ErrorCode:
        request = HeartbeatRequest(group_id=self.group_id, generation_id=generation, member_id=member_id)
        return ErrorCode(self.wire.call(4, request).error_code)


def held(response: Any) -> set[int] | None:
    """The partitions in an answer's assignment, None if it tells none."""
    if response.assignment is None:
        return None
    return {number for topic in response.assignment.topic_partitions for number in topic.partitions}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(POLL_SECONDS)


@pytest.fixture
def group(engine: Engine, prefix: str) -> Iterator[Group]:
    opened = Group(engine, prefix)
    yield opened
    opened.wire.close()


def test_two_members_share_a_topic_step_by_step(group: Group) -> None:
    first = group.join("a", server_assignor="range")
    assert (first.error_code, first.member_epoch, first.heartbeat_interval_ms, held(first)) == (
        0,
        1,
        5_000,
        {0, 1, 2, 3},
    )
    second = group.join("b")
    assert (second.member_epoch, held(second)) == (2, set())
    told = group.beat("a", 1, owned={0, 1, 2, 3})
    assert (told.member_epoch, held(told)) == (1, {0, 1})
    assert held(group.beat("b", 2)) is None
    assert group.describe().group_state == "Reconciling"
    done = group.beat("a", 1, owned={0, 1})
    assert (done.member_epoch, held(done)) == (2, None)
    assert held(group.beat("b", 2)) == {2, 3}
    described = group.describe()
    assert (described.group_state, described.group_epoch, described.assignor_name) == ("Stable", 2, "range")
    assert [member.member_epoch for member in described.members] == [2, 2]


def test_group_version_1_is_finalized_and_old_clients_hear_of_no_feature_that_begins_at_level_0(group: Group) -> None:
    for version, shown in ((3, False), (4, True)):
        asking = ApiVersionsRequest(client_software_name="wire", client_software_version="1")
        answer = group.wire.call(version, asking)
        assert {(f.name, f.max_version_level) for f in answer.finalized_features} >= {("group.version", 1)}
        supported = {f.name: (f.min_version, f.max_version) for f in answer.supported_features}
        assert supported.get("group.version") == ((0, 1) if shown else None)
        assert {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}[68] == (0, 1)


def test_wrong_epochs_and_strangers_are_told_apart(group: Group) -> None:
    assert group.beat("a", 1).error_code == ErrorCode.GROUP_ID_NOT_FOUND
    group.join("a")
    assert group.beat("a", 5).error_code == ErrorCode.FENCED_MEMBER_EPOCH
    assert group.beat("x", 1).error_code == ErrorCode.UNKNOWN_MEMBER_ID
    assert group.join("b", server_assignor="none").error_code == ErrorCode.UNSUPPORTED_ASSIGNOR
    assert group.join("b", subscribed_topic_regex="(").error_code == ErrorCode.INVALID_REGULAR_EXPRESSION
    assert group.join("b", topic_partitions=None).error_code == ErrorCode.INVALID_REQUEST
    assert group.commit("a", 1) is ErrorCode.NONE
    assert group.commit("a", 2) is ErrorCode.STALE_MEMBER_EPOCH
    assert group.commit("x", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert group.commit("a", 1, version=8) is ErrorCode.UNSUPPORTED_VERSION


def test_static_members_pause_come_back_and_are_fenced(group: Group) -> None:
    group.join("a", instance_id="one")
    assert group.join("b", instance_id="one").error_code == ErrorCode.UNRELEASED_INSTANCE_ID
    assert group.beat("a", -2, instance_id="one").member_epoch == -2
    reborn = group.join("b", instance_id="one")
    assert (reborn.member_epoch, held(reborn)) == (1, {0, 1, 2, 3})
    assert group.beat("a", 1, instance_id="one").error_code == ErrorCode.FENCED_INSTANCE_ID
    assert group.beat("b", -1, instance_id="one").error_code == 0
    assert group.describe().group_state == "Empty"


def test_a_regular_expression_is_resolved_behind_the_join(group: Group) -> None:
    joined = group.join("a", subscribed_topic_names=None, subscribed_topic_regex=f"{group.topic}|nothing.*")
    assert (joined.member_epoch, held(joined)) == (1, set())
    until(lambda: bool(group.describe().group_epoch == 2))
    told = group.beat("a", 1, owned=set())
    assert (told.member_epoch, held(told)) == (2, {0, 1, 2, 3})


def test_a_group_is_upgraded_and_downgraded_while_a_classic_member_stays(group: Group) -> None:
    joined = group.classic_join()
    member_id = joined.member_id
    assert (joined.error_code, joined.generation_id) == (0, 1)
    assert group.classic_sync(member_id, 1, leads=True).error_code == 0
    new = group.join("a")
    assert (new.error_code, new.member_epoch) == (0, 2)
    described = group.describe()
    assert sorted((m.member_type, m.member_epoch) for m in described.members) == [(0, 1), (1, 2)]
    assert group.wire.call(6, DescribeGroupsRequest(groups=[group.group_id])).groups[0].error_code == (
        ErrorCode.GROUP_ID_NOT_FOUND
    )
    assert group.classic_heartbeat(member_id, 1) is ErrorCode.REBALANCE_IN_PROGRESS
    rejoined = group.classic_join(member_id)
    assert (rejoined.error_code, rejoined.generation_id) == (0, 2)
    share = codec.read_versioned(ConsumerProtocolAssignment, group.classic_sync(member_id, 2).assignment)
    assert sum(len(topic.partitions) for topic in share.assigned_partitions) == 2
    assert group.classic_heartbeat(member_id, 2) is ErrorCode.NONE
    assert group.beat("a", -1).error_code == 0
    assert group.describe().error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert group.classic_heartbeat(member_id, 2) is ErrorCode.REBALANCE_IN_PROGRESS
    last = group.classic_join(member_id)
    assert (last.error_code, last.leader) == (0, member_id)
