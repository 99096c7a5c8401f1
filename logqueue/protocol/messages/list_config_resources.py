"""ListConfigResources (key 74): names of configurable resources. v0 knows client metrics only (KIP-714, KIP-1142)."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, int8, int16, int32, string
from logqueue.protocol.schema import INT8, Message, Struct


class ListConfigResourcesRequest(Message, key=ApiKey.LIST_CONFIG_RESOURCES, versions=(0, 1), flexible=0):
    resource_types: list[int] = array(INT8, since=1)


class ConfigResource(Struct):
    resource_name: str = string()
    resource_type: int = int8(since=1, default=16)


class ListConfigResourcesResponse(Message, key=ApiKey.LIST_CONFIG_RESOURCES, versions=(0, 1), flexible=0):
    throttle_time_ms: int = int32()
    error_code: int = int16()
    config_resources: list[ConfigResource] = array(ConfigResource)
