"""Consumer groups through the broker: appends become durable, timers run, a restart replays."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from logqueue.broker.network.limits import STOP_DRAIN_SECONDS
from logqueue.broker.partitions.topics import CONSUMER_OFFSETS, TRANSACTION_STATE
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.delete_groups import DeleteGroupsRequest
from logqueue.protocol.messages.delete_topics import DeleteTopicsRequest
from logqueue.protocol.messages.describe_groups import DescribeGroupsRequest
from logqueue.protocol.messages.find_coordinator import FindCoordinatorRequest
from logqueue.protocol.messages.heartbeat import HeartbeatRequest
from logqueue.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from logqueue.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from logqueue.protocol.messages.list_groups import ListGroupsRequest
from logqueue.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logqueue.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from logqueue.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from logqueue.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import (
    Wire,
    create,
    create_topic,
)


@pytest.mark.parametrize("version", range(7))
def test_the_coordinator_is_this_broker(wire: Wire, version: int) -> None:
    answer = wire.call(version, FindCoordinatorRequest(key="g", coordinator_keys=["g"]))
    found = answer.coordinators[0] if version >= 4 else answer
    assert (found.error_code, found.node_id, found.host) == (0, 1, "127.0.0.1")


def test_transactions_have_this_broker_as_coordinator_and_share_groups_have_none(wire: Wire) -> None:
    found = wire.call(4, FindCoordinatorRequest(key_type=1, coordinator_keys=["tx"])).coordinators[0]
    assert (found.error_code, found.node_id) == (0, 1)
    answer = wire.call(6, FindCoordinatorRequest(key_type=2, coordinator_keys=["g:AAAAAAAAAAAAAAAAAAAAAA:0"]))
    assert answer.coordinators[0].error_code == ErrorCode.INVALID_REQUEST


def test_a_group_lives_commits_and_is_found_again_after_a_restart() -> None:
    with EmbeddedBroker() as broker:
        with Wire(broker.bootstrap) as wire:
            create_topic(wire, "t")
            member = join_alone(wire, "g")
            assert wire.call(3, HeartbeatRequest(group_id="g", generation_id=1, member_id=member)).error_code == 0
            assert commit(wire, "g", 42, member_id=member, generation=1) == 0
            assert described_group(wire, "g").group_state == "Stable"
            leaving = LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id=member)])
            assert wire.call(4, leaving).error_code == 0
        broker.restart()
        with Wire(broker.bootstrap) as wire:
            assert committed(wire, "g") == 42
            assert [g.group_id for g in wire.call(4, ListGroupsRequest()).groups] == ["g"]
            assert described_group(wire, "g").group_state == "Empty"
            assert delete_offset(wire, "g") == 0
            assert committed(wire, "g") == -1
            assert commit(wire, "g", 7) == 0
            assert wire.call(2, DeleteGroupsRequest(groups_names=["g"])).results[0].error_code == 0
            assert committed(wire, "g") == -1


def test_an_internal_topic_that_is_created_by_hand_is_as_its_coordinator_has_it() -> None:
    with EmbeddedBroker(fsync=False) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        assert wire.call(4, ListGroupsRequest()).groups == []  # there is a coordinator now, for 50 partitions
        assert create(wire, CONSUMER_OFFSETS, partitions=3).error_code == ErrorCode.INVALID_PARTITIONS
        made = create(wire, CONSUMER_OFFSETS, partitions=-1, max_message_bytes="2000000")
        assert (made.error_code, made.num_partitions) == (0, 50)
        settings = {config.name: config.value for config in made.configs}
        wanted = {"cleanup.policy": "compact", "segment.bytes": "104857600", "max.message.bytes": "2000000"}
        assert wanted.items() <= settings.items()
        assert commit(wire, "g", 7) == 0
        assert committed(wire, "g") == 7
        for partitions, code in ((50, ErrorCode.INVALID_PARTITIONS), (1, 0)):
            assert create(wire, TRANSACTION_STATE, partitions=partitions).error_code == code


def test_a_group_goes_on_behind_an_append_that_failed_in_an_unforeseen_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> bytearray:
        raise ZeroDivisionError("division by zero")

    with EmbeddedBroker(fsync=False) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "logqueue.broker"):
            patch.setattr("logqueue.broker.coordinators.shell.build_batch", broken)
            assert commit(wire, "g", 7) == ErrorCode.UNKNOWN_SERVER_ERROR
        assert [record.exc_info is not None for record in caplog.records] == [True]
        assert commit(wire, "g", 8) == 0
        assert wire.call(2, DeleteGroupsRequest(groups_names=["g"])).results[0].error_code == 0


def test_offsets_of_a_deleted_topic_are_forgotten() -> None:
    with EmbeddedBroker(fsync=False) as broker, Wire(broker.bootstrap) as wire:
        create_topic(wire, "t")
        commit(wire, "g", 5)
        wire.call(5, DeleteTopicsRequest(topic_names=["t"]))
        create_topic(wire, "t")
        assert committed(wire, "g") == -1


def test_a_group_whose_member_falls_silent_becomes_empty() -> None:
    with (
        EmbeddedBroker(fsync=False, group_min_session_timeout_ms=10) as broker,
        Wire(broker.bootstrap) as wire,
        Wire(broker.bootstrap) as other,
    ):
        first = join_alone(wire, "g", session_timeout_ms=60)
        second = join_alone(other, "g", generation=2, session_timeout_ms=6000, rebalance_timeout_ms=60_000)
        assert first != second  # it was let in when the first one's session had ended, not at the rebalance timeout


def join_alone(wire: Wire, group: str, *, generation: int = 1, **timeouts: int) -> str:
    """Join, become leader, assign nothing; the member id."""
    timing = {"session_timeout_ms": 6000, "rebalance_timeout_ms": 6000, **timeouts}
    request = JoinGroupRequest(
        group_id=group, protocol_type="consumer", protocols=[JoinGroupRequestProtocol(name="range")], **timing
    )
    asked = wire.call(5, request)
    assert asked.error_code == ErrorCode.MEMBER_ID_REQUIRED
    request.member_id = asked.member_id
    joined = wire.call(5, request)
    assert (joined.error_code, joined.leader, joined.generation_id) == (0, asked.member_id, generation)
    sync = SyncGroupRequest(
        group_id=group,
        generation_id=generation,
        member_id=asked.member_id,
        assignments=[SyncGroupRequestAssignment(member_id=asked.member_id, assignment=b"")],
    )
    assert wire.call(3, sync).error_code == 0
    return str(asked.member_id)


def commit(wire: Wire, group: str, offset: int, *, member_id: str = "", generation: int = -1) -> int:
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    request = OffsetCommitRequest(
        group_id=group,
        generation_id_or_member_epoch=generation,
        member_id=member_id,
        topics=[OffsetCommitRequestTopic(name="t", partitions=[partition])],
    )
    code: int = wire.call(8, request).topics[0].partitions[0].error_code
    return code


def committed(wire: Wire, group: str) -> int:
    topics = [OffsetFetchRequestTopics(name="t", partition_indexes=[0])]
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=topics)])
    offset: int = wire.call(8, request).groups[0].topics[0].partitions[0].committed_offset
    return offset


def described_group(wire: Wire, group: str) -> Any:
    return wire.call(5, DescribeGroupsRequest(groups=[group])).groups[0]


def delete_offset(wire: Wire, group: str) -> int:
    topic = OffsetDeleteRequestTopic(name="t", partitions=[OffsetDeleteRequestPartition(partition_index=0)])
    code: int = wire.call(0, OffsetDeleteRequest(group_id=group, topics=[topic])).topics[0].partitions[0].error_code
    return code


def test_a_stop_does_not_wait_for_a_group_that_is_rebalancing() -> None:
    with EmbeddedBroker(fsync=False) as broker, Wire(broker.bootstrap) as wire, Wire(broker.bootstrap) as late:
        join_alone(wire, "g", rebalance_timeout_ms=600_000, session_timeout_ms=600_000)
        protocols = [JoinGroupRequestProtocol(name="range")]
        request = JoinGroupRequest(group_id="g", protocol_type="consumer", protocols=protocols)
        request.session_timeout_ms = request.rebalance_timeout_ms = 600_000
        request.member_id = late.call(5, request).member_id
        late.send(5, request)  # parked: the first member has to rejoin
        assert wire.call(3, HeartbeatRequest(group_id="g", generation_id=1)).error_code != 0
        began = time.monotonic()
        broker.stop()
        assert time.monotonic() - began < STOP_DRAIN_SECONDS / 2
