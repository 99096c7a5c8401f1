"""CreateTopics (19). v4+: broker defaults by -1 (KIP-464); v5+: answers with the settings (KIP-525); v7: topic ids."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.topics import Topic
from logqueue.broker.settings.configs import describe_topic
from logqueue.config import LogConfig
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: CreateTopicsRequest, slot: Slot) -> CreateTopicsResponse:
    named = Counter(topic.name for topic in request.topics)
    topics = {wanted.name: wanted for wanted in request.topics}
    return CreateTopicsResponse(
        topics=[
            _create(broker, wanted, validate_only=request.validate_only)
            if named[name] == 1
            else CreatableTopicResult(
                name=name, error_code=ErrorCode.INVALID_REQUEST, error_message="Duplicate topic in request."
            )
            for name, wanted in topics.items()
        ]
    )


def _create(broker: Broker, wanted: CreatableTopic, *, validate_only: bool) -> CreatableTopicResult:
    try:
        broker.topics.check_new(wanted.name)
        overrides = {config.name: _value(config.name, config.value) for config in wanted.configs}
        LogConfig.check_request(overrides)
        broker.topics.check_overrides(overrides)
        topic = broker.topics.create(
            wanted.name,
            partitions=_partition_count(broker, wanted),
            overrides=overrides,
            validate_only=validate_only,
        )
    except KafkaError as error:
        return CreatableTopicResult(name=wanted.name, error_code=error.code, error_message=error.detail or None)
    return CreatableTopicResult(
        name=wanted.name,
        topic_id=topic.id,
        num_partitions=_partition_count(broker, wanted),
        replication_factor=1,
        configs=_configs(broker, topic),
    )


def _configs(broker: Broker, topic: Topic) -> list[CreatableTopicConfigs]:
    return [
        CreatableTopicConfigs(
            name=entry.name,
            value=entry.value,
            read_only=entry.is_read_only,
            config_source=entry.source,
            is_sensitive=entry.is_sensitive,
        )
        for entry in describe_topic(broker, topic)
    ]


def _value(name: str, value: str | None) -> str:
    if value is None:
        raise KafkaError(f"Null value not supported for topic configs: {name}", code=ErrorCode.INVALID_CONFIG)
    return value


def _partition_count(broker: Broker, wanted: CreatableTopic) -> int:
    if wanted.assignments:
        return _assigned_count(broker, wanted)
    replicas, partitions = wanted.replication_factor, wanted.num_partitions
    if replicas < -1 or replicas == 0:
        raise KafkaError(
            "Replication factor must be larger than 0, or -1 to use the default value.",
            code=ErrorCode.INVALID_REPLICATION_FACTOR,
        )
    if partitions < -1 or partitions == 0:
        raise KafkaError(
            "Number of partitions was set to an invalid non-positive value.", code=ErrorCode.INVALID_PARTITIONS
        )
    if replicas == -1:
        replicas = broker.config.default_replication_factor
    if replicas != 1:
        raise KafkaError(
            f"Unable to replicate the partition {replicas} time(s): only 1 broker is registered.",
            code=ErrorCode.INVALID_REPLICATION_FACTOR,
        )
    return broker.topics.default_partitions(wanted.name) if partitions == -1 else partitions


def _assigned_count(broker: Broker, wanted: CreatableTopic) -> int:
    if wanted.num_partitions != -1 or wanted.replication_factor != -1:
        raise KafkaError(
            "A manual partition assignment was specified, but numPartitions or replicationFactor was not set to -1",
            code=ErrorCode.INVALID_REQUEST,
        )
    indexes = sorted(assignment.partition_index for assignment in wanted.assignments)
    if indexes != list(range(len(indexes))):
        raise KafkaError(
            "partitions should be a consecutive 0-based integer sequence", code=ErrorCode.INVALID_REPLICA_ASSIGNMENT
        )
    if any(assignment.broker_ids != [broker.node_id] for assignment in wanted.assignments):
        raise KafkaError(
            f"every partition has to be assigned to broker {broker.node_id}, the only one",
            code=ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        )
    return len(indexes)
