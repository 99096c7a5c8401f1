"""ApiVersions, Metadata and the life of topics, asked at the byte level."""

from __future__ import annotations

import time

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.api_versions import ApiVersionsRequest
from logqueue.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from logqueue.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreateTopicsRequest,
)
from logqueue.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.protocol.versions import ADVERTISED, SERVED
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import (
    Wire,
    batch,
    create,
    fetch_request,
    produced,
)


@pytest.mark.parametrize("version", range(5))
def test_api_versions_lists_what_is_served(wire: Wire, version: int) -> None:
    answer = wire.call(version, ApiVersionsRequest(client_software_name="wire", client_software_version="1.0"))
    assert {k.api_key: (k.min_version, k.max_version) for k in answer.api_keys} == ADVERTISED


def test_api_versions_refuses_a_client_name_that_is_none(wire: Wire) -> None:
    answer = wire.call(3, ApiVersionsRequest(client_software_name="", client_software_version="1"))
    assert answer.error_code == ErrorCode.INVALID_REQUEST


def test_every_served_version_of_every_api_has_a_handler() -> None:
    from importlib import import_module

    for key in SERVED:
        assert callable(import_module(f"logqueue.broker.handlers.{key.name.lower()}").handle)


# Metadata and topics


@pytest.mark.parametrize("version", range(14))
def test_metadata_names_broker_topic_and_partitions(wire: Wire, topic: str, version: int) -> None:
    answer = wire.call(version, MetadataRequest(topics=[MetadataRequestTopic(name=topic)]))
    assert [(b.node_id, b.host) for b in answer.brokers] == [(1, "127.0.0.1")]
    assert [(t.name, t.error_code, len(t.partitions)) for t in answer.topics] == [(topic, 0, 1)]


def test_metadata_creates_a_topic_only_when_allowed(wire: Wire) -> None:
    wanted = [MetadataRequestTopic(name="not-there")]
    refused = wire.call(9, MetadataRequest(topics=wanted, allow_auto_topic_creation=False)).topics[0]
    assert refused.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert wire.call(9, MetadataRequest(topics=wanted, allow_auto_topic_creation=True)).topics[0].error_code == 0


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "slash/ed", "é", "x" * 250])
def test_metadata_refuses_names_that_kafka_refuses(wire: Wire, name: str) -> None:
    answer = wire.call(9, MetadataRequest(topics=[MetadataRequestTopic(name=name)]))
    assert answer.topics[0].error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_metadata_finds_topics_by_id(wire: Wire, topic: str) -> None:
    found = wire.call(12, MetadataRequest(topics=[MetadataRequestTopic(name=topic)])).topics[0]
    by_id = wire.call(12, MetadataRequest(topics=[MetadataRequestTopic(name=None, topic_id=found.topic_id)])).topics[0]
    assert by_id.name == topic
    unknown = wire.call(12, MetadataRequest(topics=[MetadataRequestTopic(name=None, topic_id=b"x" * 16)])).topics[0]
    assert unknown.error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_authorized_operations_come_when_asked_for(wire: Wire, topic: str) -> None:
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name=topic)],
        include_topic_authorized_operations=True,
        include_cluster_authorized_operations=True,
    )
    answer = wire.call(9, request)
    assert answer.topics[0].topic_authorized_operations == 0b110111111000
    assert answer.cluster_authorized_operations > 0


def test_create_topics_answers_with_id_and_settings(wire: Wire) -> None:
    made = create(wire, "with-settings", partitions=3, retention_ms="1000")
    assert (made.error_code, made.num_partitions, made.replication_factor) == (0, 3, 1)
    assert made.topic_id != bytes(16)
    settings = {c.name: (c.value, c.config_source) for c in made.configs}
    assert settings["retention.ms"] == ("1000", 1)
    assert settings["segment.bytes"] == ("1073741824", 5)


def test_create_topics_refuses_what_kafka_refuses(wire: Wire, topic: str) -> None:
    assert create(wire, topic).error_code == ErrorCode.TOPIC_ALREADY_EXISTS
    assert create(wire, "bad name").error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert create(wire, "none", partitions=0).error_code == ErrorCode.INVALID_PARTITIONS
    assert create(wire, "wrong", no_such="1").error_code == ErrorCode.INVALID_CONFIG
    assert create(wire, "wrong", retention_ms="long").error_code == ErrorCode.INVALID_CONFIG
    three = CreatableTopic(name="three", num_partitions=1, replication_factor=3)
    refused = wire.call(7, CreateTopicsRequest(topics=[three])).topics[0]
    assert refused.error_code == ErrorCode.INVALID_REPLICATION_FACTOR
    twice = CreatableTopic(name="twice", num_partitions=1, replication_factor=1)
    assert [t.error_code for t in wire.call(7, CreateTopicsRequest(topics=[twice, twice])).topics] == [
        ErrorCode.INVALID_REQUEST
    ]


def test_topics_to_be_created_that_are_named_twice_are_told_once_in_a_time_that_grows_with_their_number(
    wire: Wire,
) -> None:
    wanted = [CreatableTopic(name=f"twice-{n}", num_partitions=1, replication_factor=1) for n in range(20_000)]
    began = time.process_time()
    answer = wire.call(7, CreateTopicsRequest(topics=[*wanted, *wanted]))
    assert time.process_time() - began < 5, "every name was compared with every other"
    assert [topic.name for topic in answer.topics] == [topic.name for topic in wanted]
    assert {topic.error_code for topic in answer.topics} == {ErrorCode.INVALID_REQUEST}


def test_metadata_describes_a_topic_once_however_often_it_is_asked_for(wire: Wire, topic: str) -> None:
    named, unknown = MetadataRequestTopic(name=topic), MetadataRequestTopic(name="\u00fc")
    answer = wire.call(9, MetadataRequest(topics=[named, unknown] * 3))
    assert [t.name for t in answer.topics] == [topic, "\u00fc"]
    by_id = MetadataRequestTopic(name=None, topic_id=wire.call(12, MetadataRequest(topics=[named])).topics[0].topic_id)
    nobody = MetadataRequestTopic(name=None, topic_id=b"x" * 16)
    assert [t.name for t in wire.call(12, MetadataRequest(topics=[by_id, nobody] * 3)).topics] == [topic, None]


def test_names_that_differ_only_in_dots_and_underscores_collide(wire: Wire) -> None:
    assert create(wire, "a.b_c").error_code == 0
    assert create(wire, "a_b.c").error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_validating_a_topic_does_not_create_it(wire: Wire) -> None:
    assert create(wire, "only-a-plan", validate_only=True).error_code == 0
    assert create(wire, "only-a-plan").error_code == 0


def test_assignments_have_to_name_this_broker(wire: Wire) -> None:
    def assigned(*places: tuple[int, list[int]]) -> int:
        assignments = [CreatableReplicaAssignment(partition_index=i, broker_ids=b) for i, b in places]
        topic = CreatableTopic(name="assigned", num_partitions=-1, replication_factor=-1, assignments=assignments)
        code: int = wire.call(7, CreateTopicsRequest(topics=[topic])).topics[0].error_code
        return code

    assert assigned((0, [7])) == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert assigned((1, [1])) == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert assigned((0, [1]), (1, [1])) == 0


def test_delete_topics_by_name_and_by_id(wire: Wire) -> None:
    topic_id = create(wire, "by-id").topic_id
    create(wire, "by-name")
    wanted = [DeleteTopicState(name="by-name"), DeleteTopicState(name=None, topic_id=topic_id)]
    answers = wire.call(6, DeleteTopicsRequest(topics=wanted)).responses
    assert [(a.name, a.error_code) for a in answers] == [("by-name", 0), ("by-id", 0)]
    again = wire.call(6, DeleteTopicsRequest(topics=wanted)).responses
    assert [a.error_code for a in again] == [ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID]


def test_deleting_a_topic_answers_fetches_parked_at_it(broker: EmbeddedBroker, wire: Wire, topic: str) -> None:
    wire.send(11, fetch_request(topic, 0, max_wait_ms=60_000))
    with Wire(broker.bootstrap) as other:
        other.call(5, DeleteTopicsRequest(topic_names=[topic]))
    code = wire.receive()[1].responses[0].partitions[0].error_code
    assert code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_partitions_grow_and_never_shrink(wire: Wire, topic: str) -> None:
    def grow(count: int) -> int:
        wanted = CreatePartitionsTopic(name=topic, count=count, assignments=None)
        code: int = wire.call(2, CreatePartitionsRequest(topics=[wanted])).results[0].error_code
        return code

    assert grow(3) == 0
    assert grow(3) == ErrorCode.INVALID_PARTITIONS
    assert grow(2) == ErrorCode.INVALID_PARTITIONS
    assert produced(wire, topic, batch(b"x"), partition=2).error_code == 0
