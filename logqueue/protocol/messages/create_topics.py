"""CreateTopics (key 19).

v4 lets the broker choose partitions and replicas (KIP-464), v5 is flexible and answers the configs
(KIP-525), v7 the topic id.
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, bool_, int8, int16, int32, string, uuid
from logqueue.protocol.schema import INT32, Message, Struct


class CreatableReplicaAssignment(Struct):
    partition_index: int = int32()
    broker_ids: list[int] = array(INT32)


class CreatableTopicConfig(Struct):
    name: str = string()
    value: str | None = string(nullable=0)


class CreatableTopic(Struct):
    name: str = string()
    num_partitions: int = int32()
    replication_factor: int = int16()
    assignments: list[CreatableReplicaAssignment] = array(CreatableReplicaAssignment)
    configs: list[CreatableTopicConfig] = array(CreatableTopicConfig)


class CreateTopicsRequest(Message, key=ApiKey.CREATE_TOPICS, versions=(2, 7), flexible=5):
    topics: list[CreatableTopic] = array(CreatableTopic)
    timeout_ms: int = int32(default=60000)
    validate_only: bool = bool_()


class CreatableTopicConfigs(Struct):
    name: str = string()
    value: str | None = string(nullable=0)
    read_only: bool = bool_()
    config_source: int = int8(default=-1)
    is_sensitive: bool = bool_()


class CreatableTopicResult(Struct):
    name: str = string()
    topic_id: bytes = uuid(since=7)
    error_code: int = int16()
    error_message: str | None = string(nullable=0)
    topic_config_error_code: int = int16(since=5, tag=0)
    num_partitions: int = int32(since=5, default=-1)
    replication_factor: int = int16(since=5, default=-1)
    configs: list[CreatableTopicConfigs] | None = array(CreatableTopicConfigs, since=5, nullable=0)


class CreateTopicsResponse(Message, key=ApiKey.CREATE_TOPICS, versions=(2, 7), flexible=5):
    throttle_time_ms: int = int32()
    topics: list[CreatableTopicResult] = array(CreatableTopicResult)
