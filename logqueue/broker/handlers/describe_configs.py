"""DescribeConfigs (32): every setting of topics, the broker, its loggers and groups, with where its value comes from.

v1+: sources and synonyms (KIP-226); v3+: types and documentation (KIP-569).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.settings.configs import (
    ConfigEntry,
    ResourceType,
    Source,
    check_broker_name,
    describe_broker,
    describe_group,
    describe_topic,
)
from logqueue.broker.settings.log_levels import levels
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from logqueue.storage.topic_rules import check_name

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

UNKNOWN_TYPE = 0


def handle(broker: Broker, request: DescribeConfigsRequest, slot: Slot) -> DescribeConfigsResponse:
    return DescribeConfigsResponse(results=[_resource(broker, request, wanted) for wanted in request.resources])


def _resource(
    broker: Broker, request: DescribeConfigsRequest, wanted: DescribeConfigsResource
) -> DescribeConfigsResult:
    result = DescribeConfigsResult(
        resource_type=wanted.resource_type, resource_name=wanted.resource_name, error_message=""
    )
    try:
        entries = _entries(broker, wanted)
    except KafkaError as error:
        result.error_code, result.error_message = error.code, error.detail or None
        return result
    if keys := wanted.configuration_keys:  # as in Kafka an empty list, too, means all of them
        # In the order asked for: kafkajs's tests count on it, which in Kafka is the luck of a hash map.
        found = {entry.name: entry for entry in entries}
        entries = [found[key] for key in dict.fromkeys(keys) if key in found]
    result.configs = [
        _entry(entry, synonyms=request.include_synonyms, documentation=request.include_documentation)
        for entry in entries
    ]
    return result


def _entries(broker: Broker, wanted: DescribeConfigsResource) -> list[ConfigEntry]:
    name = wanted.resource_name
    match wanted.resource_type:
        case ResourceType.TOPIC:
            check_name(name)
            return describe_topic(broker, broker.topics.get(name))
        case ResourceType.BROKER:
            return describe_broker(broker, name)
        case ResourceType.BROKER_LOGGER:
            if not name:
                raise KafkaError("Broker id must not be empty", code=ErrorCode.INVALID_REQUEST)
            check_broker_name(broker, name)
            return [_level(logger, level) for logger, level in levels().items()]
        case ResourceType.GROUP:
            return describe_group(broker, name)
        case ResourceType.CLIENT_METRICS:
            raise KafkaError("client metrics (KIP-714) are not served", code=ErrorCode.INVALID_REQUEST)
        case kind:
            raise KafkaError(f"Unsupported resource type: {kind}", code=ErrorCode.INVALID_REQUEST)


def _level(logger: str, level: str) -> ConfigEntry:
    return ConfigEntry(name=logger, value=level, type=None, doc="", is_read_only=False, source=Source.LOGGER)


def _entry(entry: ConfigEntry, *, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.is_read_only,
        config_source=entry.source,
        is_sensitive=entry.is_sensitive,
        synonyms=[DescribeConfigsSynonym(name=s.name, value=s.value, source=s.source) for s in entry.synonyms]
        if synonyms
        else [],
        config_type=UNKNOWN_TYPE if entry.type is None else entry.type.value,
        documentation=entry.doc if documentation else None,
    )
