"""What a request names at length is told back no longer than its answer can hold."""

from __future__ import annotations

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.alter_configs import AlterableConfig as ReplacedConfig
from logqueue.protocol.messages.alter_configs import AlterConfigsRequest
from logqueue.protocol.messages.alter_configs import AlterConfigsResource as ReplacedResource
from logqueue.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from logqueue.protocol.messages.describe_user_scram_credentials import DescribeUserScramCredentialsRequest, UserName
from logqueue.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from logqueue.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from logqueue.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from logqueue.protocol.schema import Message
from tests.broker.wire import Wire
from tests.operations.wire_configs import APPEND, SET, TOPIC, alter, value_of

LONG = "x" * 32_760
REPLACED = ReplacedResource(resource_type=TOPIC, resource_name="t", configs=[ReplacedConfig(name=LONG, value="1")])
ALTERED = AlterConfigsResource(
    resource_type=TOPIC, resource_name="t", configs=[AlterableConfig(name=LONG, config_operation=SET, value="1")]
)
REQUESTS: list[tuple[int, Message, ErrorCode]] = [
    (1, AlterConfigsRequest(resources=[REPLACED]), ErrorCode.INVALID_CONFIG),
    (0, IncrementalAlterConfigsRequest(resources=[ALTERED]), ErrorCode.INVALID_CONFIG),
    (1, IncrementalAlterConfigsRequest(resources=[ALTERED]), ErrorCode.INVALID_CONFIG),
    (
        1,
        ElectLeadersRequest(topic_partitions=[TopicPartitions(topic=LONG, partitions=[0])]),
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ),
    (0, DescribeUserScramCredentialsRequest(users=[UserName(name=LONG)]), ErrorCode.RESOURCE_NOT_FOUND),
    (
        1,
        UpdateFeaturesRequest(feature_updates=[FeatureUpdateKey(feature=LONG, max_version_level=1)]),
        ErrorCode.INVALID_UPDATE_VERSION,
    ),
    (
        0,
        AlterPartitionReassignmentsRequest(
            topics=[ReassignableTopic(name=LONG, partitions=[ReassignablePartition(replicas=[1])])]
        ),
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ),
]


@pytest.mark.parametrize(
    ("version", "request_", "code"), REQUESTS, ids=[f"{type(each).__name__} v{v}" for v, each, _ in REQUESTS]
)
def test_a_long_name_in_a_request_is_refused_in_an_answer_that_can_be_read(
    wire: Wire, version: int, request_: Message, code: ErrorCode
) -> None:
    told = repr(wire.call(version, request_))
    assert f"error_code={int(code)}," in told
    assert "xxx..." in told


def test_a_list_of_replicas_is_told_back_in_part(wire: Wire, topic: str) -> None:
    partition = ReassignablePartition(partition_index=0, replicas=[1_000_000] * 10_000)
    request = AlterPartitionReassignmentsRequest(topics=[ReassignableTopic(name=topic, partitions=[partition])])
    answer = wire.call(0, request).responses[0].partitions[0]
    assert answer.error_code == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert answer.error_message.endswith("...")


def test_no_setting_grows_beyond_what_a_request_could_set(wire: Wire, topic: str) -> None:
    name = "leader.replication.throttled.replicas"
    first, more = (",".join(f"{n}:1" for n in range(start, start + 2_500)) for start in (10_000, 20_000))
    assert alter(wire, TOPIC, topic, (name, SET, first)) == 0
    assert alter(wire, TOPIC, topic, (name, APPEND, more)) == ErrorCode.INVALID_CONFIG
    assert value_of(wire, TOPIC, topic, name)[0] == first
