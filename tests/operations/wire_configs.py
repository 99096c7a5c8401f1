"""Requests about settings, at the byte level, with answers as plain values."""

from __future__ import annotations

from typing import Any, NamedTuple

from logqueue.protocol.messages.alter_configs import AlterableConfig as ReplacedConfig
from logqueue.protocol.messages.alter_configs import AlterConfigsRequest
from logqueue.protocol.messages.alter_configs import AlterConfigsResource as ReplacedResource
from logqueue.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from logqueue.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from tests.broker.wire import Wire

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


class Shown(NamedTuple):
    """A setting as DescribeConfigs tells it."""

    value: str | None
    source: int
    is_read_only: bool
    is_sensitive: bool
    type: int
    synonyms: list[tuple[str, str | None, int]]


def describe(wire: Wire, kind: int, name: str, *keys: str) -> tuple[int, dict[str, Shown]]:
    """Error code and settings of one resource."""
    resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=list(keys) or None)
    request = DescribeConfigsRequest(resources=[resource], include_synonyms=True, include_documentation=True)
    result: Any = wire.call(4, request).results[0]
    return result.error_code, {
        c.name: Shown(
            c.value,
            c.config_source,
            c.read_only,
            c.is_sensitive,
            c.config_type,
            [(s.name, s.value, s.source) for s in c.synonyms],
        )
        for c in result.configs
    }


def value_of(wire: Wire, kind: int, name: str, key: str) -> tuple[str | None, int]:
    """Value and source of one setting."""
    code, found = describe(wire, kind, name, key)
    assert code == 0
    return found[key].value, found[key].source


def alter(wire: Wire, kind: int, name: str, *changes: tuple[str, int, str | None], validate_only: bool = False) -> int:
    """Error code of IncrementalAlterConfigs."""
    configs = [AlterableConfig(name=key, config_operation=operation, value=text) for key, operation, text in changes]
    resource = AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)
    request = IncrementalAlterConfigsRequest(resources=[resource], validate_only=validate_only)
    code: int = wire.call(1, request).responses[0].error_code
    return code


def replace(wire: Wire, kind: int, name: str, **texts: str | None) -> int:
    """Error code of AlterConfigs; names with underscores for dots."""
    configs = [ReplacedConfig(name=key.replace("_", "."), value=text) for key, text in texts.items()]
    resource = ReplacedResource(resource_type=kind, resource_name=name, configs=configs)
    code: int = wire.call(2, AlterConfigsRequest(resources=[resource])).responses[0].error_code
    return code
