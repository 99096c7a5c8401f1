"""Settings of topics and of the broker, the cluster and its disks, at the byte level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.alter_configs import AlterableConfig as ReplacedConfig
from logqueue.protocol.messages.alter_configs import AlterConfigsRequest
from logqueue.protocol.messages.alter_configs import AlterConfigsResource as ReplacedResource
from logqueue.protocol.messages.describe_cluster import DescribeClusterRequest
from logqueue.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from logqueue.protocol.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from logqueue.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from logqueue.testing import EmbeddedBroker
from tests.broker.wire import (
    Wire,
    batch,
    create,
    create_topic,
    produced,
)

TOPIC, BROKER = 2, 4


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(fsync=False) as running:
        yield running


@pytest.fixture
def wire(broker: EmbeddedBroker) -> Iterator[Wire]:
    with Wire(broker.bootstrap) as connection:
        yield connection


@pytest.fixture
def topic(wire: Wire, request: pytest.FixtureRequest) -> str:
    name = f"topic-{abs(hash(request.node.nodeid))}"
    create_topic(wire, name)
    return name


def described(wire: Wire, kind: int, name: str, *keys: str) -> Any:
    resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=list(keys) or None)
    request = DescribeConfigsRequest(resources=[resource], include_synonyms=True, include_documentation=True)
    return wire.call(4, request).results[0]


def test_settings_tell_where_they_come_from(wire: Wire) -> None:
    create(wire, "settings", retention_ms="5")
    own, default = described(wire, TOPIC, "settings", "retention.ms", "segment.bytes").configs
    assert (own.value, own.config_source) == ("5", 1)
    assert [(s.name, s.source) for s in own.synonyms] == [
        ("retention.ms", 1)
    ]  # log.retention.ms has no value of its own
    assert (default.config_source, default.documentation != "", default.config_type) == (5, True, 3)


def test_settings_come_in_the_order_asked_for_and_each_once(wire: Wire) -> None:
    asked = ["default.replication.factor", "num.partitions", "no.such.setting", "log.dir", "num.partitions"]
    found = [c.name for c in described(wire, BROKER, "1", *asked).configs]
    assert found == ["default.replication.factor", "num.partitions", "log.dir"]
    assert [c.name for c in described(wire, BROKER, "1", *reversed(found)).configs] == found[::-1]


def test_the_broker_describes_itself(wire: Wire) -> None:
    settings = {c.name: c for c in described(wire, BROKER, "1").configs}
    assert settings["num.partitions"].value == "1"
    assert settings["num.partitions"].read_only
    assert "log.retention.ms" in settings
    assert described(wire, BROKER, "7").error_code == ErrorCode.INVALID_REQUEST
    assert described(wire, TOPIC, "nowhere").error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert described(wire, 99, "x").error_code == ErrorCode.INVALID_REQUEST


def test_settings_are_set_deleted_appended_and_subtracted(wire: Wire, topic: str) -> None:
    def alter(name: str, operation: int, value: str | None) -> int:
        config = AlterableConfig(name=name, config_operation=operation, value=value)
        resource = AlterConfigsResource(resource_type=TOPIC, resource_name=topic, configs=[config])
        code: int = wire.call(1, IncrementalAlterConfigsRequest(resources=[resource])).responses[0].error_code
        return code

    def value(name: str) -> str:
        text: str = described(wire, TOPIC, topic, name).configs[0].value
        return text

    assert alter("retention.ms", 0, "77") == 0
    assert value("retention.ms") == "77"
    assert alter("retention.ms", 1, None) == 0
    assert value("retention.ms") == "604800000"
    assert alter("cleanup.policy", 2, "compact") == 0
    assert value("cleanup.policy") == "delete,compact"
    assert alter("cleanup.policy", 3, "delete") == 0
    assert value("cleanup.policy") == "compact"
    assert alter("retention.ms", 2, "1") == ErrorCode.INVALID_CONFIG
    assert alter("retention.ms", 0, "soon") == ErrorCode.INVALID_CONFIG
    assert alter("retention.ms", 0, None) == ErrorCode.INVALID_REQUEST
    assert alter("retention.ms", 9, "1") == ErrorCode.INVALID_REQUEST
    assert alter("no.such", 0, "1") == ErrorCode.INVALID_CONFIG


def test_a_changed_setting_holds_for_the_next_request(wire: Wire, topic: str) -> None:
    config = AlterableConfig(name="max.message.bytes", config_operation=0, value="100")
    resource = AlterConfigsResource(resource_type=TOPIC, resource_name=topic, configs=[config])
    wire.call(1, IncrementalAlterConfigsRequest(resources=[resource]))
    assert produced(wire, topic, batch(b"x" * 200)).error_code == ErrorCode.MESSAGE_TOO_LARGE


def test_alter_configs_replaces_all_settings(wire: Wire) -> None:
    create(wire, "replaced", retention_ms="5", segment_bytes="2000000")
    config = ReplacedConfig(name="retention.ms", value="6")
    resource = ReplacedResource(resource_type=TOPIC, resource_name="replaced", configs=[config])
    assert wire.call(2, AlterConfigsRequest(resources=[resource])).responses[0].error_code == 0
    values = {c.name: c.value for c in described(wire, TOPIC, "replaced").configs}
    assert (values["retention.ms"], values["segment.bytes"]) == ("6", "1073741824")
    fixed = ReplacedConfig(name="num.partitions", value="6")
    of_broker = ReplacedResource(resource_type=BROKER, resource_name="1", configs=[fixed])
    refused = wire.call(2, AlterConfigsRequest(resources=[of_broker])).responses[0]
    assert refused.error_code == ErrorCode.INVALID_REQUEST


def test_the_cluster_is_one_node(wire: Wire) -> None:
    answer = wire.call(1, DescribeClusterRequest(include_cluster_authorized_operations=True))
    assert [(b.broker_id, b.host) for b in answer.brokers] == [(1, "127.0.0.1")]
    assert answer.controller_id == 1
    assert len(answer.cluster_id) == 22


def test_log_dirs_tell_all_partitions_of_a_topic_that_is_named_twice(wire: Wire) -> None:
    create(wire, "two", partitions=2)
    wanted = [DescribableLogDirTopic(topic="two", partitions=[index]) for index in (0, 1)]
    (found,) = wire.call(4, DescribeLogDirsRequest(topics=wanted)).results[0].topics
    assert [partition.partition_index for partition in found.partitions] == [0, 1]


def test_log_dirs_tell_sizes(broker: EmbeddedBroker, wire: Wire, topic: str) -> None:
    produced(wire, topic, batch(b"x" * 1000))
    (result,) = wire.call(4, DescribeLogDirsRequest(topics=None)).results
    assert result.log_dir == str(broker.data_dir.resolve())
    sizes = {t.name: t.partitions[0].partition_size for t in result.topics}
    assert 1000 < sizes[topic] < 1200
    assert 0 < result.usable_bytes <= result.total_bytes
