"""Admin APIs of topics and of the cluster: the answers of Apache Kafka 4.2, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from logqueue.errors import ErrorCode as E
from logqueue.protocol.messages import (
    alter_partition_reassignments as apr,
)
from logqueue.protocol.messages import (
    alter_replica_log_dirs as arld,
)
from logqueue.protocol.messages import (
    create_partitions as cp,
)
from logqueue.protocol.messages import (
    create_topics as ct,
)
from logqueue.protocol.messages import (
    delete_records as dr,
)
from logqueue.protocol.messages import (
    delete_topics as dt,
)
from logqueue.protocol.messages import (
    describe_log_dirs as dld,
)
from logqueue.protocol.messages import (
    describe_quorum as dq,
)
from logqueue.protocol.messages import (
    describe_topic_partitions as dtp,
)
from logqueue.protocol.messages import (
    elect_leaders as el,
)
from logqueue.protocol.messages import (
    list_config_resources as lcr,
)
from logqueue.protocol.messages import (
    list_partition_reassignments as lpr,
)
from logqueue.protocol.messages import (
    metadata as md,
)
from logqueue.protocol.messages import (
    update_features as uf,
)
from tests.broker.wire import Wire, batch, fetch_request, produced, served, values_of
from tests.conftest import Engine


@pytest.fixture
def wire(engine: Engine) -> Iterator[Wire]:
    with Wire(engine.bootstrap) as connection:
        yield connection


def created(wire: Wire, *topics: ct.CreatableTopic, validate_only: bool = False) -> list[Any]:
    request = ct.CreateTopicsRequest(topics=list(topics), timeout_ms=10_000, validate_only=validate_only)
    response: Any = wire.call(7, request)
    return list(response.topics)


def topic_of(name: str, partitions: int = -1, replicas: int = -1, **texts: str | None) -> ct.CreatableTopic:
    configs = [ct.CreatableTopicConfig(name=key.replace("_", "."), value=text) for key, text in texts.items()]
    return ct.CreatableTopic(name=name, num_partitions=partitions, replication_factor=replicas, configs=configs)


def assigned(name: str, *nodes: list[int], first: int = 0, **counts: int) -> ct.CreatableTopic:
    topic = topic_of(name, **counts)
    topic.assignments = [
        ct.CreatableReplicaAssignment(partition_index=index, broker_ids=ids) for index, ids in enumerate(nodes, first)
    ]
    return topic


def test_topics_are_created_or_refused_alike(wire: Wire, prefix: str) -> None:
    p = prefix
    cases = [
        (topic_of(f"{p}-a"), E.NONE),
        (topic_of(f"{p}-a", 2, 1), E.TOPIC_ALREADY_EXISTS),
        (topic_of(f"{p}-b", 3, 1, retention_ms="5"), E.NONE),
        (topic_of(f"{p}-c", 0), E.INVALID_PARTITIONS),
        (topic_of(f"{p}-c", -2), E.INVALID_PARTITIONS),
        (topic_of(f"{p}-c", 1, 0), E.INVALID_REPLICATION_FACTOR),
        (topic_of(f"{p}-c", 1, -2), E.INVALID_REPLICATION_FACTOR),
        (topic_of(f"{p}-c", 1, 2), E.INVALID_REPLICATION_FACTOR),
        (topic_of(f"{p}-c", 1, 1, no_such="5"), E.INVALID_CONFIG),
        (topic_of(f"{p}-c", 1, 1, retention_ms="x"), E.INVALID_CONFIG),
        (topic_of(f"{p}-c", 1, 1, retention_ms=None), E.INVALID_CONFIG),
        (topic_of(f"{p}-c", 1, 1, segment_bytes="100"), E.INVALID_CONFIG),
        (topic_of(f"{p}-c", 1, 1, min_compaction_lag_ms="9", max_compaction_lag_ms="8"), E.INVALID_CONFIG),
        (topic_of(""), E.INVALID_TOPIC_EXCEPTION),
        (topic_of("."), E.INVALID_TOPIC_EXCEPTION),
        (topic_of("a/b"), E.INVALID_TOPIC_EXCEPTION),
        (topic_of("x" * 250), E.INVALID_TOPIC_EXCEPTION),
        (topic_of(f"{p}.col_lide"), E.NONE),
        (topic_of(f"{p}_col.lide"), E.INVALID_TOPIC_EXCEPTION),
        (assigned(f"{p}-d", [1], [1]), E.NONE),
        (assigned(f"{p}-e", [1], partitions=1), E.INVALID_REQUEST),
        (assigned(f"{p}-e", [1], replicas=1), E.INVALID_REQUEST),
        (assigned(f"{p}-e", [2]), E.INVALID_REPLICA_ASSIGNMENT),
        (assigned(f"{p}-e", []), E.INVALID_REPLICA_ASSIGNMENT),
        (assigned(f"{p}-e", [1, 1]), E.INVALID_REPLICA_ASSIGNMENT),
        (assigned(f"{p}-e", [1], first=1), E.INVALID_REPLICA_ASSIGNMENT),
    ]
    answers = [(wanted.name, created(wire, wanted)[0].error_code) for wanted, _ in cases]
    assert answers == [(wanted.name, code) for wanted, code in cases]


def test_a_created_topic_is_answered_with_what_it_is(wire: Wire, prefix: str) -> None:
    answer = created(wire, topic_of(prefix, 3, -1, retention_ms="5"))[0]
    assert (answer.num_partitions, answer.replication_factor) == (3, 1)
    assert answer.topic_id != bytes(16)
    configs = {c.name: (c.value, c.config_source, c.read_only, c.is_sensitive) for c in answer.configs}
    assert configs["retention.ms"] == ("5", 1, False, False)
    assert configs["max.message.bytes"] == ("1048588", 5, False, False)
    assert len(configs) == 33


def test_a_topic_that_is_only_asked_about_is_not_created(wire: Wire, prefix: str) -> None:
    answer = created(wire, topic_of(prefix, 3), validate_only=True)[0]
    assert (answer.error_code, answer.num_partitions) == (0, 3)
    assert created(wire, topic_of(prefix, 0), validate_only=True)[0].error_code == E.INVALID_PARTITIONS
    request = md.MetadataRequest(topics=[md.MetadataRequestTopic(name=prefix)], allow_auto_topic_creation=False)
    assert wire.call(12, request).topics[0].error_code == E.UNKNOWN_TOPIC_OR_PARTITION


def test_a_topic_named_twice_in_a_request_is_refused(wire: Wire, prefix: str) -> None:
    answers = created(wire, topic_of(prefix), topic_of(prefix), topic_of(f"{prefix}-other"))
    assert {(a.name, a.error_code) for a in answers} == {(prefix, E.INVALID_REQUEST), (f"{prefix}-other", 0)}


def test_partitions_are_added_or_refused_alike(wire: Wire, prefix: str) -> None:
    created(wire, topic_of(prefix, 2))
    served(wire, prefix)

    def grown(count: int, *nodes: list[int], name: str = prefix, assign: bool = False) -> int:
        topic = cp.CreatePartitionsTopic(name=name, count=count, assignments=None)
        if assign:
            topic.assignments = [cp.CreatePartitionsAssignment(broker_ids=ids) for ids in nodes]
        code: int = wire.call(3, cp.CreatePartitionsRequest(topics=[topic], timeout_ms=10_000)).results[0].error_code
        return code

    assert grown(1) == E.INVALID_PARTITIONS
    assert grown(2) == E.INVALID_PARTITIONS
    assert grown(0) == E.INVALID_PARTITIONS
    assert grown(-1) == E.INVALID_PARTITIONS
    assert grown(3, name="no-such-topic") == E.UNKNOWN_TOPIC_OR_PARTITION
    assert grown(3, [2], assign=True) == E.INVALID_REPLICA_ASSIGNMENT
    assert grown(3, [1], [1], assign=True) == E.INVALID_REPLICA_ASSIGNMENT
    assert grown(3, [1, 1], assign=True) == E.INVALID_REPLICA_ASSIGNMENT
    assert grown(3, [], assign=True) == E.INVALID_REPLICA_ASSIGNMENT
    assert grown(3, [1], assign=True) == 0
    assert grown(5) == 0
    twice = [cp.CreatePartitionsTopic(name=prefix, count=count, assignments=None) for count in (6, 7)]
    answers = wire.call(3, cp.CreatePartitionsRequest(topics=twice, timeout_ms=10_000)).results
    assert {(a.name, a.error_code) for a in answers} == {(prefix, E.INVALID_REQUEST)}


def test_topics_are_deleted_or_refused_alike(wire: Wire, prefix: str) -> None:
    first, second = created(wire, topic_of(f"{prefix}-1"), topic_of(f"{prefix}-2"))

    def deleted(*states: dt.DeleteTopicState) -> list[int]:
        response: Any = wire.call(6, dt.DeleteTopicsRequest(topics=list(states), timeout_ms=10_000))
        return sorted(answer.error_code for answer in response.responses)

    by_id = dt.DeleteTopicState(name=None, topic_id=second.topic_id)
    assert deleted(dt.DeleteTopicState(name=f"{prefix}-1", topic_id=first.topic_id)) == [E.INVALID_REQUEST]
    assert deleted(dt.DeleteTopicState(name=None)) == [E.INVALID_REQUEST]
    assert deleted(dt.DeleteTopicState(name="no-such-topic")) == [E.UNKNOWN_TOPIC_OR_PARTITION]
    assert deleted(dt.DeleteTopicState(name=None, topic_id=b"\x07" * 16)) == [E.UNKNOWN_TOPIC_ID]
    assert deleted(dt.DeleteTopicState(name=f"{prefix}-1"), dt.DeleteTopicState(name=f"{prefix}-1")) == [
        E.INVALID_REQUEST
    ]
    by_name = dt.DeleteTopicState(name=f"{prefix}-2")
    for twice in ([by_name, by_id], [by_id, by_name], [by_id, by_name, by_id]):
        response: Any = wire.call(6, dt.DeleteTopicsRequest(topics=twice, timeout_ms=10_000))
        told = [(answer.name, answer.topic_id, answer.error_code) for answer in response.responses]
        assert (f"{prefix}-2", second.topic_id, E.INVALID_REQUEST) in told
        assert {code for _, _, code in told} == {E.INVALID_REQUEST}
        assert len(told) == len(twice) - 1
    assert deleted(dt.DeleteTopicState(name=f"{prefix}-1"), by_id) == [0, 0]
    assert deleted(by_id) == [E.UNKNOWN_TOPIC_ID]


def test_records_are_deleted_or_refused_alike(wire: Wire, prefix: str) -> None:
    created(wire, topic_of(prefix))
    served(wire, prefix)
    for _ in range(3):
        assert produced(wire, prefix, batch(b"a", b"b", b"c")).error_code == 0

    def deleted(offset: int, partition: int = 0, name: str = prefix) -> tuple[int, int]:
        part = dr.DeleteRecordsPartition(partition_index=partition, offset=offset)
        topic = dr.DeleteRecordsTopic(name=name, partitions=[part])
        response: Any = wire.call(2, dr.DeleteRecordsRequest(topics=[topic], timeout_ms=10_000))
        answer = response.topics[0].partitions[0]
        return answer.error_code, answer.low_watermark

    assert deleted(4) == (0, 4)
    assert deleted(2) == (0, 4)
    assert deleted(10) == (E.OFFSET_OUT_OF_RANGE, -1)
    assert deleted(-2) == (E.OFFSET_OUT_OF_RANGE, -1)
    assert deleted(1, partition=7) == (E.UNKNOWN_TOPIC_OR_PARTITION, -1)
    assert deleted(1, name="no-such-topic") == (E.UNKNOWN_TOPIC_OR_PARTITION, -1)
    assert deleted(-1) == (0, 9)
    assert deleted(9) == (0, 9)


def test_topics_are_described_in_pages(wire: Wire, prefix: str) -> None:
    names = [f"{prefix}-{letter}" for letter in "cab"]
    created(wire, *(topic_of(name, 3) for name in names))
    for name in names:
        served(wire, name)

    def page(limit: int, cursor: dtp.Cursor | None = None, *extra: str) -> Any:
        topics = [dtp.TopicRequest(name=name) for name in (*names, *extra)]
        request = dtp.DescribeTopicPartitionsRequest(topics=topics, response_partition_limit=limit, cursor=cursor)
        return wire.call(0, request)

    def shown(response: Any) -> tuple[list[tuple[str, int, list[int]]], tuple[str, int] | None]:
        topics = [(t.name, t.error_code, [p.partition_index for p in t.partitions]) for t in response.topics]
        cursor = response.next_cursor
        return topics, None if cursor is None else (cursor.topic_name, cursor.partition_index)

    a, b, c = sorted(names)
    everything = page(100)
    assert shown(everything) == ([(a, 0, [0, 1, 2]), (b, 0, [0, 1, 2]), (c, 0, [0, 1, 2])], None)
    partition = everything.topics[0].partitions[0]
    assert (partition.leader_id, partition.replica_nodes, partition.isr_nodes) == (1, [1], [1])
    assert (partition.eligible_leader_replicas, partition.last_known_elr) == ([], [])
    assert shown(page(4)) == ([(a, 0, [0, 1, 2]), (b, 0, [0])], (b, 1))
    second = page(4, dtp.Cursor(topic_name=b, partition_index=1))
    assert shown(second) == ([(b, 0, [1, 2]), (c, 0, [0, 1])], (c, 2))
    assert shown(page(4, second.next_cursor)) == ([(c, 0, [2])], None)
    missing = f"{prefix}-zz"
    assert shown(page(100, dtp.Cursor(topic_name=c, partition_index=2), missing))[0][1:] == [
        (missing, E.UNKNOWN_TOPIC_OR_PARTITION, [])
    ]


def test_nothing_is_there_to_be_elected_or_moved(wire: Wire, prefix: str) -> None:
    created(wire, topic_of(prefix, 2))
    served(wire, prefix)
    wanted = [el.TopicPartitions(topic=prefix, partitions=[0, 9]), el.TopicPartitions(topic="no-such", partitions=[0])]
    response = wire.call(2, el.ElectLeadersRequest(election_type=0, topic_partitions=wanted))
    codes = {
        (topic.topic, part.partition_id): part.error_code
        for topic in response.replica_election_results
        for part in topic.partition_result
    }
    assert codes == {
        (prefix, 0): E.ELECTION_NOT_NEEDED,
        (prefix, 9): E.UNKNOWN_TOPIC_OR_PARTITION,
        ("no-such", 0): E.UNKNOWN_TOPIC_OR_PARTITION,
    }
    for kind in (0, 1):
        everything = wire.call(2, el.ElectLeadersRequest(election_type=kind, topic_partitions=None))
        assert everything.error_code == 0
        assert [part for topic in everything.replica_election_results for part in topic.partition_result] == []

    parts = [
        apr.ReassignablePartition(partition_index=0, replicas=[1]),
        apr.ReassignablePartition(partition_index=1, replicas=[2]),
        apr.ReassignablePartition(partition_index=9, replicas=[1]),
    ]
    answer = wire.call(
        1, apr.AlterPartitionReassignmentsRequest(topics=[apr.ReassignableTopic(name=prefix, partitions=parts)])
    )
    assert [p.error_code for p in answer.responses[0].partitions] == [
        0,
        E.INVALID_REPLICA_ASSIGNMENT,
        E.UNKNOWN_TOPIC_OR_PARTITION,
    ]
    cancelled = apr.ReassignableTopic(
        name=prefix, partitions=[apr.ReassignablePartition(partition_index=0, replicas=None)]
    )
    answer = wire.call(1, apr.AlterPartitionReassignmentsRequest(topics=[cancelled]))
    assert answer.responses[0].partitions[0].error_code == E.NO_REASSIGNMENT_IN_PROGRESS
    moving = wire.call(0, lpr.ListPartitionReassignmentsRequest(topics=None))
    assert (moving.error_code, moving.topics) == (0, [])


def test_partitions_stay_in_their_folder(wire: Wire, prefix: str) -> None:
    created(wire, topic_of(prefix))
    served(wire, prefix)
    (folder,) = wire.call(4, dld.DescribeLogDirsRequest(topics=None)).results

    def moved(path: str) -> list[int]:
        topic = arld.AlterReplicaLogDirTopic(name=prefix, partitions=[0])
        request = arld.AlterReplicaLogDirsRequest(dirs=[arld.AlterReplicaLogDir(path=path, topics=[topic])])
        return [p.error_code for p in wire.call(2, request).results[0].partitions]

    assert moved(folder.log_dir) == [0]
    assert moved("/no/such/folder") == [E.LOG_DIR_NOT_FOUND]


def test_the_quorum_is_one_node(wire: Wire) -> None:
    topic = dq.TopicData(topic_name="__cluster_metadata", partitions=[dq.PartitionData(partition_index=0)])
    response = wire.call(2, dq.DescribeQuorumRequest(topics=[topic]))
    (part,) = response.topics[0].partitions
    assert (response.error_code, part.error_code, part.leader_id) == (0, 0, 1)
    assert [voter.replica_id for voter in part.current_voters] == [1]
    assert [node.node_id for node in response.nodes] == [1]


def test_things_with_settings_are_listed_by_kind(wire: Wire, prefix: str) -> None:
    created(wire, topic_of(prefix))
    served(wire, prefix)

    def listed(*kinds: int) -> set[tuple[int, str]]:
        response = wire.call(1, lcr.ListConfigResourcesRequest(resource_types=list(kinds)))
        assert response.error_code == 0
        return {(r.resource_type, r.resource_name) for r in response.config_resources}

    assert listed(4) == {(4, "1")}
    assert (2, prefix) in listed(2)
    everything = listed()
    assert {(2, prefix), (4, "1"), (8, "1")} <= everything
    assert wire.call(1, lcr.ListConfigResourcesRequest(resource_types=[3])).error_code == E.UNSUPPORTED_VERSION
    assert wire.call(0, lcr.ListConfigResourcesRequest()).config_resources == []


def test_features_that_cannot_change_are_refused_alike(wire: Wire) -> None:
    def updated(feature: str, level: int, kind: int = 1) -> int:
        update = uf.FeatureUpdateKey(feature=feature, max_version_level=level, upgrade_type=kind)
        request = uf.UpdateFeaturesRequest(feature_updates=[update], validate_only=True)
        code: int = wire.call(2, request).error_code
        return code

    assert updated("no.such.feature", 1) == E.INVALID_UPDATE_VERSION
    assert updated("transaction.version", 99) == E.INVALID_UPDATE_VERSION
    assert updated("transaction.version", 1) == E.INVALID_UPDATE_VERSION
    assert updated("transaction.version", 1, 2) == 0
    assert updated("transaction.version", 2) == 0


@pytest.mark.parametrize("version", [0, 1, 2])
def test_features_fail_as_one_in_every_version_alike(wire: Wire, version: int) -> None:
    def updated(*names: str) -> Any:
        updates = [uf.FeatureUpdateKey(feature=name, max_version_level=2) for name in names]
        return wire.call(version, uf.UpdateFeaturesRequest(feature_updates=updates))

    for names in (["no.such"], ["no.such", "transaction.version"], ["transaction.version", "no.such"]):
        failed = updated(*names)
        assert (failed.error_code, failed.results) == (E.INVALID_UPDATE_VERSION, [])
        assert "Invalid update version 2 for feature no.such." in failed.error_message
    done = updated("transaction.version")
    results = [(result.feature, result.error_code) for result in done.results]
    assert (done.error_code, results) == (0, [("transaction.version", 0)] if version < 2 else [])
    assert updated().error_code == 0


def test_fetches_without_a_session_are_served_whatever_their_session_id_alike(wire: Wire, prefix: str) -> None:
    assert [topic.error_code for topic in created(wire, topic_of(prefix, 1, 1))] == [0]
    served(wire, prefix)
    assert produced(wire, prefix, batch(b"x")).error_code == 0
    for session, epoch in ((0, -1), (0, 0), (-1, -1), (5, -1), (5, 0)):  # -1: without a session, 0: with a new one
        answer = wire.call(11, fetch_request(prefix, 0, session_id=session, session_epoch=epoch))
        assert answer.error_code == 0
        assert values_of(answer) == [b"x"]
    for session, epoch in ((5, 1), (-1, 1), (0, 1), (0, -2)):
        answer = wire.call(11, fetch_request(prefix, 0, session_id=session, session_epoch=epoch))
        assert (answer.error_code, answer.responses) == (E.FETCH_SESSION_ID_NOT_FOUND, [])
