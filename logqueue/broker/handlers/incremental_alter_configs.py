"""IncrementalAlterConfigs (44): set, delete, append to and subtract from single settings (KIP-339)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.settings.changes import Change, alter, change_each
from logqueue.protocol.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: IncrementalAlterConfigsRequest, slot: Slot) -> IncrementalAlterConfigsResponse:
    def change(wanted: AlterConfigsResource) -> None:
        changes = [Change(c.name, c.config_operation, c.value) for c in wanted.configs]
        alter(broker, wanted.resource_type, wanted.resource_name, changes, validate_only=request.validate_only)

    return IncrementalAlterConfigsResponse(
        responses=change_each(request.resources, change, AlterConfigsResourceResponse)
    )
