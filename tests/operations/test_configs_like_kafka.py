"""DescribeConfigs and the two ways to alter: the answers of Apache Kafka 4.2, on both engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from logqueue.config import BrokerConfig, LogConfig, format_value
from logqueue.config.catalogue import definitions
from logqueue.config.group import GroupConfig
from logqueue.config.properties import Scope
from tests.broker.wire import PAUSE_SECONDS, WAIT_SECONDS, Wire, create_topic, served
from tests.conftest import Engine
from tests.engines.shared import SharedServers
from tests.operations.wire_configs import (
    APPEND,
    BROKER,
    DELETE,
    GROUP,
    LOGGER,
    SET,
    SUBTRACT,
    TOPIC,
    Shown,
    alter,
    describe,
    replace,
    value_of,
)

INTERNAL_IN_KAFKA = {"group.consumer.regex.refresh.interval.ms"}
UNKNOWN_TOPIC, INVALID_TOPIC, INVALID_CONFIG, INVALID_REQUEST = 3, 17, 40, 42

# Settings whose answers differ between the engines, and why.
STARTED_WITH = "how the engine was started"
NOT_CHANGED_HERE = "dynamic in Kafka; here listeners, SASL and the secrets of TLS are as they were at the start"
CHANGED_HERE_TOO = ("ssl.client.auth", "ssl.enabled.protocols")
ALLOWED = {
    "min.insync.replicas": "a new KRaft cluster with eligible leader replicas (KIP-966) stores a cluster default",
    **dict.fromkeys(
        (
            "advertised.listeners",
            "broker.id",
            "controller.listener.names",
            "controller.quorum.bootstrap.servers",
            "inter.broker.listener.name",
            "log.dir",
            "log.dirs",
            "node.id",
            "offsets.topic.num.partitions",
            "offsets.topic.replication.factor",
            "process.roles",
            "share.coordinator.state.topic.min.isr",
            "share.coordinator.state.topic.replication.factor",
            "transaction.state.log.min.isr",
            "transaction.state.log.num.partitions",
            "transaction.state.log.replication.factor",
        ),
        STARTED_WITH,
    ),
    "group.coordinator.rebalance.protocols": "streams groups are not served",
    "group.initial.rebalance.delay.ms": "0 as in the file that Kafka ships; 3000 in its code",
    "max.connections": "bounded here, because memory is",
    "socket.send.buffer.bytes": "100 KiB in Kafka; with 256 the broker takes a quarter less of the processor",
    "sasl.enabled.mechanisms": "GSSAPI is not offered",
    **{
        name: NOT_CHANGED_HERE
        for name in BrokerConfig.properties()
        if name.startswith(("ssl.", "listener", "max.connection")) and name not in CHANGED_HERE_TOO
    },
    **dict.fromkeys(("ssl.keystore.location", "ssl.truststore.location"), "null in Kafka where there is no file"),
    **dict.fromkeys(("ssl.keystore.type", "ssl.truststore.type"), "PEM is what is read here"),
}


@pytest.fixture
def wire(engine: Engine, servers: SharedServers) -> Iterator[Wire]:
    """A connection. Some of these tests change what all others of them are shown: one at a time on a shared engine."""
    with servers.alone(f"settings of {engine.name}"), Wire(engine.bootstrap) as connection:
        yield connection


@pytest.fixture
def topic(wire: Wire, prefix: str) -> str:
    create_topic(wire, prefix)
    served(wire, prefix)
    return prefix


def test_a_topic_has_every_setting_with_its_default_and_where_it_comes_from(wire: Wire, topic: str) -> None:
    code, found = describe(wire, TOPIC, topic)
    assert code == 0
    known = {prop.name: (prop, value) for prop, value in LogConfig().items() if not prop.is_internal}
    assert found.keys() == known.keys()
    for name, shown in found.items():
        prop, value = known[name]
        assert (shown.value, shown.is_read_only, shown.type) == (format_value(value), False, prop.type.value), name
        if name not in ALLOWED:
            own = None if prop.synonym is None else definitions()[prop.synonym].default
            assert shown.synonyms == ([] if own is None else [(prop.synonym, own, 5)]), name
            assert shown.source == 5, name


def test_a_broker_has_every_setting_of_kafka_with_its_default(wire: Wire, engine: Engine) -> None:
    code, found = describe(wire, BROKER, "1")
    assert code == 0
    known = definitions()
    assert found.keys() <= known.keys()
    ours_alone = {"host.name", "port", "super.users", "allow.everyone.if.no.acl.found"}
    if engine.name == "apache":
        missing = {name for name, each in known.items() if not each.property.is_internal} - found.keys()
        assert {name for name in missing if not name.startswith("logqueue.")} - ours_alone <= INTERNAL_IN_KAFKA
    for name, shown in found.items():
        if name in ALLOWED or name.startswith("logqueue.") or name in ours_alone:
            continue
        prop, default = known[name].property, known[name].default
        expected = (None if prop.is_sensitive else default, prop.scope is Scope.READ_ONLY, prop.is_sensitive)
        assert (shown.value, shown.is_read_only, shown.is_sensitive) == expected, name
        assert (shown.type, shown.source) == (prop.type.value, 5), name
        assert shown.synonyms == ([] if default is None else [(name, default, 5)]), name


def test_a_group_has_every_setting_with_its_default(wire: Wire, prefix: str) -> None:
    code, found = describe(wire, GROUP, prefix)
    assert code == 0
    known = {prop.name: (prop, format_value(value)) for prop, value in GroupConfig().items()}
    assert found.keys() == known.keys()
    for name, shown in found.items():
        prop, value = known[name]
        assert shown == (value, 5, False, False, prop.type.value, [(name, value, 5)]), name


def test_resources_that_cannot_be_described(wire: Wire) -> None:
    assert describe(wire, BROKER, "7")[0] == INVALID_REQUEST
    assert describe(wire, BROKER, "x")[0] == INVALID_REQUEST
    assert describe(wire, TOPIC, "no-such-topic")[0] == UNKNOWN_TOPIC
    assert describe(wire, TOPIC, "")[0] == INVALID_TOPIC
    assert describe(wire, TOPIC, "a/b")[0] == INVALID_TOPIC
    assert describe(wire, LOGGER, "7")[0] == INVALID_REQUEST
    assert describe(wire, LOGGER, "")[0] == INVALID_REQUEST
    assert describe(wire, GROUP, "")[0] == INVALID_REQUEST
    assert describe(wire, 99, "x")[0] == INVALID_REQUEST


TOPIC_CHANGES = [
    ("retention.ms", SET, "1000", 0),
    ("retention.ms", SET, " 1000 ", 0),
    ("retention.ms", SET, "-2", INVALID_CONFIG),
    ("retention.ms", SET, "x", INVALID_CONFIG),
    ("retention.ms", SET, "", INVALID_CONFIG),
    ("retention.ms", SET, None, INVALID_REQUEST),
    ("retention.ms", APPEND, "1", INVALID_CONFIG),
    ("retention.ms", DELETE, None, 0),
    ("no.such", SET, "1", INVALID_CONFIG),
    ("no.such", DELETE, None, 0),
    ("segment.bytes", SET, "1048575", INVALID_CONFIG),
    ("segment.bytes", SET, "1048576", 0),
    ("internal.segment.bytes", SET, "1000", 0),
    ("cleanup.policy", APPEND, "compact", 0),
    ("cleanup.policy", APPEND, "", INVALID_CONFIG),
    ("cleanup.policy", SUBTRACT, "delete", 0),
    ("cleanup.policy", SET, "delete,delete", 0),
    ("cleanup.policy", SET, "", 0),
    ("cleanup.policy", SET, "shred", INVALID_CONFIG),
    ("leader.replication.throttled.replicas", SET, "*", 0),
    ("leader.replication.throttled.replicas", SET, "0:1,1:1", 0),
    ("leader.replication.throttled.replicas", SET, "x", INVALID_CONFIG),
    ("remote.storage.enable", SET, "true", INVALID_CONFIG),
    ("compression.gzip.level", SET, "0", INVALID_CONFIG),
    ("compression.gzip.level", SET, "10", INVALID_CONFIG),
    ("compression.gzip.level", SET, "-1", 0),
    ("compression.type", SET, "lzma", INVALID_CONFIG),
    ("preallocate", SET, "perhaps", INVALID_CONFIG),
    ("retention.bytes", SET, "-5", 0),
    ("min.insync.replicas", SET, "2", 0),
]


def test_changes_to_topics_are_judged_alike(wire: Wire, topic: str) -> None:
    answers = [(*change, alter(wire, TOPIC, topic, change)) for *change, _ in TOPIC_CHANGES]  # type: ignore[arg-type]
    assert answers == TOPIC_CHANGES
    conflict = ("min.compaction.lag.ms", SET, "10"), ("max.compaction.lag.ms", SET, "5")
    assert alter(wire, TOPIC, topic, *conflict) == INVALID_CONFIG
    assert alter(wire, TOPIC, topic, ("retention.ms", SET, "1"), ("retention.ms", SET, "2")) == INVALID_REQUEST
    assert alter(wire, TOPIC, "", ("retention.ms", SET, "1")) == INVALID_REQUEST
    assert alter(wire, TOPIC, "a/b", ("retention.ms", SET, "1")) == INVALID_TOPIC
    assert alter(wire, TOPIC, "no-such-topic", ("retention.ms", SET, "1")) == UNKNOWN_TOPIC


BROKER_CHANGES = [
    ("1", "num.partitions", SET, "2", INVALID_REQUEST),
    ("", "num.partitions", SET, "2", INVALID_REQUEST),
    ("7", "log.retention.ms", SET, "2", INVALID_REQUEST),
    ("x", "log.retention.ms", SET, "2", INVALID_REQUEST),
    ("1", "log.retention.ms", SET, "x", INVALID_REQUEST),
    ("", "log.retention.ms", SET, "x", INVALID_REQUEST),
    ("", "log.retention.hours", SET, "5", INVALID_REQUEST),
    ("", "log.segment.bytes", SET, "1000", INVALID_REQUEST),
    ("", "max.connections", SET, "-1", INVALID_REQUEST),
    ("", "log.cleanup.policy", APPEND, "compact", 0),
    ("", "log.cleanup.policy", DELETE, None, 0),
    ("", "leader.replication.throttled.rate", SET, "100", 0),
    ("", "leader.replication.throttled.rate", DELETE, None, 0),
    ("", "no.such", SET, "2", 0),
    ("", "no.such", DELETE, None, 0),
]


def test_changes_to_brokers_are_judged_alike(wire: Wire) -> None:
    # Judged only: what is compacted for a moment by default takes no records without keys, in no test.
    answers = [
        (name, key, operation, text, alter(wire, BROKER, name, (key, operation, text), validate_only=True))
        for name, key, operation, text, _ in BROKER_CHANGES
    ]
    assert answers == BROKER_CHANGES


GROUP_CHANGES = [
    ("consumer.session.timeout.ms", SET, "50000", 0),
    ("consumer.session.timeout.ms", SET, "1", INVALID_CONFIG),
    ("consumer.session.timeout.ms", SET, "99999999", INVALID_CONFIG),
    ("consumer.heartbeat.interval.ms", SET, "60000", INVALID_CONFIG),
    ("share.isolation.level", SET, "x", INVALID_CONFIG),
    ("no.such", SET, "1", INVALID_CONFIG),
    ("consumer.session.timeout.ms", DELETE, None, 0),
]


def test_changes_to_groups_are_judged_alike(wire: Wire, prefix: str) -> None:
    answers = [(*change, alter(wire, GROUP, prefix, change)) for *change, _ in GROUP_CHANGES]  # type: ignore[arg-type]
    assert answers == GROUP_CHANGES
    assert alter(wire, GROUP, "", ("consumer.session.timeout.ms", SET, "50000")) == INVALID_REQUEST


def test_levels_of_loggers_are_judged_alike(wire: Wire) -> None:
    _, before = describe(wire, LOGGER, "1", "root")
    assert before["root"].source == 6
    assert alter(wire, LOGGER, "1", ("root", SET, "LOUD")) == INVALID_CONFIG
    assert alter(wire, LOGGER, "1", ("no.such", SET, "DEBUG")) == INVALID_CONFIG
    assert alter(wire, LOGGER, "1", ("root", DELETE, None)) == INVALID_REQUEST
    assert alter(wire, LOGGER, "1", ("root", APPEND, "INFO")) == INVALID_REQUEST
    assert alter(wire, LOGGER, "7", ("root", SET, "INFO")) == INVALID_REQUEST
    assert alter(wire, LOGGER, "1", ("root", SET, "FATAL")) == 0
    assert describe(wire, LOGGER, "1", "root")[1]["root"].value == "FATAL"
    assert alter(wire, LOGGER, "1", ("root", SET, before["root"].value)) == 0


def test_alter_configs_replaces_what_is_not_named(wire: Wire, topic: str) -> None:
    assert alter(wire, TOPIC, topic, ("retention.ms", SET, "5"), ("max.message.bytes", SET, "9")) == 0
    assert replace(wire, TOPIC, topic, retention_ms="6") == 0
    assert eventually(wire, topic, "retention.ms", lambda shown: shown.value == "6").source == 1
    assert value_of(wire, TOPIC, topic, "max.message.bytes") == ("1048588", 5)
    assert replace(wire, TOPIC, topic, retention_ms=None) == INVALID_REQUEST
    assert replace(wire, TOPIC, topic, no_such="1") == INVALID_CONFIG
    assert replace(wire, BROKER, "", num_partitions="5") == INVALID_REQUEST
    assert replace(wire, LOGGER, "1", root="INFO") == INVALID_REQUEST


def test_nothing_is_changed_when_only_asked_whether_it_could_be(wire: Wire, topic: str) -> None:
    assert alter(wire, TOPIC, topic, ("retention.ms", SET, "5"), validate_only=True) == 0
    assert alter(wire, TOPIC, topic, ("retention.ms", SET, "x"), validate_only=True) == INVALID_CONFIG
    assert alter(wire, BROKER, "", ("log.retention.ms", SET, "x"), validate_only=True) == INVALID_REQUEST
    assert describe(wire, TOPIC, topic, "retention.ms")[1]["retention.ms"].source == 5


def test_a_dynamic_default_is_a_synonym_of_the_topic(wire: Wire, topic: str) -> None:
    assert alter(wire, BROKER, "", ("log.retention.bytes", SET, "88000")) == 0
    assert alter(wire, BROKER, "1", ("log.retention.bytes", SET, "77000")) == 0
    try:
        wanted = [
            ("log.retention.bytes", "77000", 2),
            ("log.retention.bytes", "88000", 3),
            ("log.retention.bytes", "-1", 5),
        ]
        shown = eventually(wire, topic, "retention.bytes", lambda shown: shown.synonyms == wanted)
        assert shown.source == 2
        assert describe(wire, BROKER, "")[1]["log.retention.bytes"].synonyms == wanted[1:2]
    finally:
        assert alter(wire, BROKER, "1", ("log.retention.bytes", DELETE, None)) == 0
        assert alter(wire, BROKER, "", ("log.retention.bytes", DELETE, None)) == 0
        eventually(wire, topic, "retention.bytes", lambda shown: shown.synonyms == wanted[2:])


def eventually(wire: Wire, topic: str, key: str, is_applied: Callable[[Shown], bool]) -> Shown:
    """A topic's setting once the engine has applied a change: Apache Kafka answers before it has."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_applied(shown := describe(wire, TOPIC, topic, key)[1][key]):
        assert time.monotonic() < deadline, shown
        time.sleep(PAUSE_SECONDS)
    return shown
