"""DescribeConfigs (32): every setting of topics and of the broker, with where its value comes from.

v1+: sources and synonyms (KIP-226); v3+: types and documentation (KIP-569).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.configs import ConfigEntry, ResourceType, describe_broker, describe_topic
from logqueue.broker.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: DescribeConfigsRequest, slot: Slot) -> DescribeConfigsResponse:
    return DescribeConfigsResponse(results=[_resource(broker, request, wanted) for wanted in request.resources])


def _resource(
    broker: Broker, request: DescribeConfigsRequest, wanted: DescribeConfigsResource
) -> DescribeConfigsResult:
    result = DescribeConfigsResult(resource_type=wanted.resource_type, resource_name=wanted.resource_name)
    try:
        entries = _entries(broker, wanted)
    except KafkaError as error:
        result.error_code, result.error_message = error.code, error.detail or None
        return result
    keys = None if wanted.configuration_keys is None else set(wanted.configuration_keys)
    result.configs = [
        _entry(entry, synonyms=request.include_synonyms, documentation=request.include_documentation)
        for entry in entries
        if keys is None or entry.name in keys
    ]
    return result


def _entries(broker: Broker, wanted: DescribeConfigsResource) -> list[ConfigEntry]:
    match wanted.resource_type:
        case ResourceType.TOPIC:
            return describe_topic(broker, broker.topics.get(wanted.resource_name))
        case ResourceType.BROKER:
            return describe_broker(broker, wanted.resource_name)
        case ResourceType.BROKER_LOGGER | ResourceType.CLIENT_METRICS | ResourceType.GROUP:
            return []  # nothing is set there, and nothing can be
        case kind:
            raise KafkaError(f"Unsupported resource type: {kind}", code=ErrorCode.INVALID_REQUEST)


def _entry(entry: ConfigEntry, *, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.is_read_only,
        config_source=entry.source,
        synonyms=[DescribeConfigsSynonym(name=s.name, value=s.value, source=s.source) for s in entry.synonyms]
        if synonyms
        else [],
        config_type=entry.type.value,
        documentation=entry.doc if documentation else None,
    )
