"""ListConfigResources (74): what has settings (KIP-1142). v0 knows client metrics only, of which there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.settings.configs import ResourceType
from logqueue.broker.settings.dynamic import GROUP
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: ListConfigResourcesRequest, slot: Slot) -> ListConfigResourcesResponse:
    wanted = [int(ResourceType.CLIENT_METRICS)] if slot.api_version == 0 else request.resource_types
    if any(kind not in list(ResourceType) for kind in wanted):
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    kinds = [kind for kind in ResourceType if not wanted or kind in wanted]
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(resource_name=name, resource_type=kind) for kind in kinds for name in _names(broker, kind)
        ]
    )


def _names(broker: Broker, kind: ResourceType) -> list[str]:
    match kind:
        case ResourceType.TOPIC:
            return list(broker.topics.by_name)
        case ResourceType.BROKER | ResourceType.BROKER_LOGGER:
            return [str(broker.node_id)]
        case ResourceType.GROUP:
            return broker.dynamic.names(GROUP)
        case ResourceType.CLIENT_METRICS:
            return []
