"""Topics: create, delete, grow, describe."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from logqueue.errors import ErrorCode
from logqueue.protocol.api import ApiKey
from tests.fidelity.actions.slots import ANY_TOPIC
from tests.fidelity.messages import NO_UUID, Plain
from tests.fidelity.session import Session
from tests.fidelity.steps import action, mostly, versions

CONFIGS: list[dict[str, str | None]] = [
    {"cleanup.policy": "compact"},
    {"cleanup.policy": "compact,delete", "retention.ms": "2592000000"},
    {"max.message.bytes": "300"},
    {"message.timestamp.type": "LogAppendTime"},
    {"compression.type": "gzip"},
    {"segment.bytes": "1048576", "index.interval.bytes": "100"},
    {"retention.ms": "soon"},
    {"retention.ms": "-2"},
    {"no.such.config": "1"},
    {"cleanup.policy": "sometimes"},
    {"min.insync.replicas": "0"},
    {"retention.ms": None},
]
NAMES = mostly("t2", "t3", "t0", "<empty>", "<spaces>", "<dots>", "<long>")


@action(
    ApiKey.CREATE_TOPICS,
    weight=3,
    topic=NAMES,
    partitions=mostly(2, -1, 1, 0, -5),
    replicas=mostly(1, -1, 0, 2, -7),
    configs=mostly({}, *CONFIGS),
    validate_only=mostly(False, True),
    twice=mostly(False, False, False, False, True),
    version=versions(ApiKey.CREATE_TOPICS),
)
def create_topic(
    s: Session,
    *,
    topic: str,
    partitions: int,
    replicas: int,
    configs: dict[str, str | None],
    validate_only: bool,
    twice: bool,
    version: int,
) -> Plain:
    wanted = {"name": s.name(topic), "num_partitions": partitions, "replication_factor": replicas}
    wanted["configs"] = [{"name": name, "value": value} for name, value in configs.items()]
    topics = [wanted, wanted] if twice else [wanted]
    answer = s.ask("create_topics", version, topics=topics, timeout_ms=30_000, validate_only=validate_only)
    if not isinstance(answer, str) and answer.topics[0].error_code == ErrorCode.NONE and not validate_only:
        s.settle_topic(topic, partitions=1 if partitions == -1 else partitions)
    return s.plain(answer)


@action(
    ApiKey.CREATE_TOPICS,
    topic=NAMES,
    brokers=st.sampled_from([[[1]], [[1], [1]], [[1, 1]], [[2]], [[]], [[1], []], []]),
    gap=mostly(0, 1),
    partitions=mostly(-1, 1),
    version=versions(ApiKey.CREATE_TOPICS),
)
def create_topic_with_assignment(
    s: Session, *, topic: str, brokers: list[list[int]], gap: int, partitions: int, version: int
) -> Plain:
    assignments = [{"partition_index": n + gap, "broker_ids": ids} for n, ids in enumerate(brokers)]
    wanted = {"name": s.name(topic), "num_partitions": partitions, "replication_factor": -1, "assignments": assignments}
    answer = s.ask("create_topics", version, topics=[wanted], timeout_ms=30_000)
    if not isinstance(answer, str) and answer.topics[0].error_code == ErrorCode.NONE:
        s.settle_topic(topic, partitions=len(brokers) or 1)
    return s.plain(answer)


@action(ApiKey.DELETE_TOPICS, topic=mostly("t2", "t3", "missing", "<empty>"), version=versions(ApiKey.DELETE_TOPICS))
def delete_topic(s: Session, *, topic: str, version: int) -> Plain:
    if version < 6:
        answer = s.ask("delete_topics", version, topic_names=[s.name(topic)], timeout_ms=30_000)
    else:
        answer = s.ask("delete_topics", version, topics=[{"name": s.name(topic)}], timeout_ms=30_000)
    if not isinstance(answer, str) and answer.responses[0].error_code == ErrorCode.NONE:
        s.settle_topic(topic, partitions=None)
    return s.plain(answer)


@action(ApiKey.DELETE_TOPICS, weight=1, topic=mostly("t2", "t3", "missing"), both=mostly(False, True))
def delete_topic_by_id(s: Session, *, topic: str, both: bool) -> Plain:
    topic_id = s.topic_ids.get(s.name(topic), NO_UUID)
    named = {"name": s.name(topic) if both else None, "topic_id": topic_id}
    answer = s.ask("delete_topics", 6, topics=[named], timeout_ms=30_000)
    if not isinstance(answer, str) and answer.responses[0].error_code == ErrorCode.NONE:
        s.settle_topic(topic, partitions=None)
    return s.plain(answer)


@action(
    ApiKey.CREATE_PARTITIONS,
    topic=mostly("t2", "t3", "missing"),
    count=mostly(4, 3, 1, 0, -1),
    assignments=mostly(None, [[1]], [[1], [1]], [[2]], []),
    validate_only=mostly(False, True),
    version=versions(ApiKey.CREATE_PARTITIONS),
)
def create_partitions(
    s: Session, *, topic: str, count: int, assignments: list[list[int]] | None, validate_only: bool, version: int
) -> Plain:
    placed = None if assignments is None else [{"broker_ids": ids} for ids in assignments]
    wanted = [{"name": s.name(topic), "count": count, "assignments": placed}]
    answer = s.ask("create_partitions", version, topics=wanted, timeout_ms=30_000, validate_only=validate_only)
    if not isinstance(answer, str) and answer.results[0].error_code == ErrorCode.NONE and not validate_only:
        s.settle_topic(topic, partitions=count)
    return s.plain(answer)


@action(
    ApiKey.METADATA,
    topics=st.lists(ANY_TOPIC, max_size=3, unique=True),
    operations=mostly(False, True),
    create=mostly(False, True),
    version=versions(ApiKey.METADATA, at_least=4),
)
def metadata(s: Session, *, topics: list[str], operations: bool, create: bool, version: int) -> Plain:
    answer = s.ask(
        "metadata",
        version,
        topics=[{"name": s.name(topic)} for topic in topics],
        allow_auto_topic_creation=create,
        include_topic_authorized_operations=operations,
        include_cluster_authorized_operations=operations,
    )
    if not isinstance(answer, str):
        _remember(s, answer)
        if create:  # A topic that is being created is answered with an error first, by some logs sooner than by others.
            for topic in topics:
                if topic[0] != "<" and topic not in ("t0", "t1"):
                    s.settle_topic(topic, partitions=s_partitions(s, topic))
            return s.plain(answer) if not topics else "<asked for with creation>"
    return s.plain(answer)


def s_partitions(s: Session, topic: str) -> int:
    """How many partitions the log tells of a topic; 1 (the default) while it makes the topic."""
    answer = s.ask("metadata", 12, topics=[{"name": s.name(topic)}], allow_auto_topic_creation=False).topics[0]
    return len(answer.partitions) or 1


@action(ApiKey.METADATA, topic=mostly("t0", "t2", "unknown"), version=versions(ApiKey.METADATA, at_least=10))
def metadata_by_id(s: Session, *, topic: str, version: int) -> Plain:
    topic_id = s.topic_ids.get(s.name(topic), b"unknown topic id")
    fields: dict[str, Any] = {"topics": [{"topic_id": topic_id, "name": None}], "allow_auto_topic_creation": False}
    return s.tell("metadata", version, **fields)


@action(
    ApiKey.DESCRIBE_TOPIC_PARTITIONS,
    topics=st.lists(ANY_TOPIC, max_size=3, unique=True),
    limit=mostly(2000, 1, 2, 0),
    cursor=mostly(None, ("t0", 1), ("t0", 9), ("t1", 0), ("missing", 0), ("t0", -1)),
)
def describe_topic_partitions(s: Session, *, topics: list[str], limit: int, cursor: tuple[str, int] | None) -> Plain:
    start = None if cursor is None else {"topic_name": s.name(cursor[0]), "partition_index": cursor[1]}
    names = [{"name": s.name(topic)} for topic in topics or ["t0"]]
    return s.tell("describe_topic_partitions", 0, topics=names, response_partition_limit=limit, cursor=start)


@action(
    ApiKey.DESCRIBE_CLUSTER,
    weight=1,
    operations=st.booleans(),
    endpoint=mostly(1, 3),
    version=versions(ApiKey.DESCRIBE_CLUSTER),
)
def describe_cluster(s: Session, *, operations: bool, endpoint: int, version: int) -> Plain:
    fields = {"include_cluster_authorized_operations": operations, "endpoint_type": endpoint}
    return s.tell("describe_cluster", version, **fields)


def _remember(s: Session, answer: Any) -> None:
    for topic in answer.topics:
        if topic.name and topic.topic_id != NO_UUID:
            s.topic_ids[topic.name] = topic.topic_id
