"""AlterConfigs (33): replace all settings of a resource (KIP-133); what is not named goes back to its default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.settings.changes import Change, Operation, change_each, replace
from logqueue.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: AlterConfigsRequest, slot: Slot) -> AlterConfigsResponse:
    def change(wanted: AlterConfigsResource) -> None:
        changes = [Change(c.name, Operation.SET, c.value) for c in wanted.configs]
        replace(broker, wanted.resource_type, wanted.resource_name, changes, validate_only=request.validate_only)

    return AlterConfigsResponse(responses=change_each(request.resources, change, AlterConfigsResourceResponse))
