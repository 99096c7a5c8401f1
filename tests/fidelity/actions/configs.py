"""Configurations: describe, alter."""

from __future__ import annotations

from hypothesis import strategies as st

from logqueue.protocol.api import ApiKey
from tests.fidelity.messages import Plain
from tests.fidelity.session import Session
from tests.fidelity.steps import action, mostly, versions

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
RESOURCES = mostly((TOPIC, "t2"), (TOPIC, "t0"), (TOPIC, "missing"), (GROUP, "g0"), (GROUP, "<empty>"), (3, "t0"))
VALUES = st.sampled_from(
    [
        ("retention.ms", "2592000000"),
        ("retention.ms", "-1"),
        ("retention.ms", "-5"),
        ("retention.ms", ""),
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "delete"),
        ("cleanup.policy", "nothing"),
        ("cleanup.policy", ""),
        ("max.message.bytes", "400"),
        ("compression.type", "zstd"),
        ("compression.type", "brotli"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", "2"),
        ("unclean.leader.election.enable", "true"),
        ("unclean.leader.election.enable", "perhaps"),
        ("segment.bytes", "1"),
        ("segment.bytes", "1048576"),
        ("no.such.config", "x"),
        ("flush.messages", None),
        ("consumer.session.timeout.ms", "50000"),
        ("consumer.session.timeout.ms", "1"),
        ("share.isolation.level", "read_committed"),
    ]
)
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3
# Of a broker only settings that mean the same everywhere are compared.
BROKER_KEYS = [
    "auto.create.topics.enable",
    "compression.type",
    "group.max.session.timeout.ms",
    "group.min.session.timeout.ms",
    "log.retention.ms",
    "log.segment.bytes",
    "message.max.bytes",
    "min.insync.replicas",
    "num.partitions",
    "offsets.retention.minutes",
    "no.such.key",
]


@action(
    ApiKey.DESCRIBE_CONFIGS,
    weight=3,
    resource=RESOURCES,
    keys=mostly(None, [], ["retention.ms"], ["cleanup.policy", "no.such.config"]),
    synonyms=st.booleans(),
    version=versions(ApiKey.DESCRIBE_CONFIGS),
)
def describe_configs(
    s: Session, *, resource: tuple[int, str], keys: list[str] | None, synonyms: bool, version: int
) -> Plain:
    wanted = {"resource_type": resource[0], "resource_name": s.name(resource[1]), "configuration_keys": keys}
    return s.tell("describe_configs", version, resources=[wanted], include_synonyms=synonyms)


@action(
    ApiKey.DESCRIBE_CONFIGS,
    weight=1,
    keys=st.lists(st.sampled_from(BROKER_KEYS), min_size=1, max_size=4, unique=True),
    broker=mostly("1", "2", "one"),
    synonyms=st.booleans(),
    version=versions(ApiKey.DESCRIBE_CONFIGS),
)
def describe_broker_configs(s: Session, *, keys: list[str], broker: str, synonyms: bool, version: int) -> Plain:
    wanted = {"resource_type": BROKER, "resource_name": broker, "configuration_keys": keys}
    return s.tell("describe_configs", version, resources=[wanted], include_synonyms=synonyms)


@action(
    ApiKey.INCREMENTAL_ALTER_CONFIGS,
    weight=3,
    resource=RESOURCES,
    changes=st.lists(st.tuples(mostly(SET, DELETE, APPEND, SUBTRACT, 9), VALUES), min_size=1, max_size=2),
    validate_only=mostly(False, True),
    version=versions(ApiKey.INCREMENTAL_ALTER_CONFIGS),
)
def incremental_alter_configs(
    s: Session,
    *,
    resource: tuple[int, str],
    changes: list[tuple[int, tuple[str, str | None]]],
    validate_only: bool,
    version: int,
) -> Plain:
    configs = [{"name": name, "config_operation": operation, "value": value} for operation, (name, value) in changes]
    wanted = {"resource_type": resource[0], "resource_name": s.name(resource[1]), "configs": configs}
    answer = s.tell("incremental_alter_configs", version, resources=[wanted], validate_only=validate_only)
    s.settle()
    return answer


@action(
    ApiKey.ALTER_CONFIGS,
    resource=RESOURCES,
    changes=st.lists(VALUES, max_size=2),
    validate_only=mostly(False, True),
    version=versions(ApiKey.ALTER_CONFIGS),
)
def alter_configs(
    s: Session,
    *,
    resource: tuple[int, str],
    changes: list[tuple[str, str | None]],
    validate_only: bool,
    version: int,
) -> Plain:
    configs = [{"name": name, "value": value} for name, value in changes]
    wanted = {"resource_type": resource[0], "resource_name": s.name(resource[1]), "configs": configs}
    answer = s.tell("alter_configs", version, resources=[wanted], validate_only=validate_only)
    s.settle()
    return answer
