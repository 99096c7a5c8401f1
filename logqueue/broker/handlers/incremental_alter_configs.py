"""IncrementalAlterConfigs (44): set, delete, append to and subtract from single settings of topics (KIP-339)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.configs import Change, ResourceType, alter_topic, refuse_broker_change
from logqueue.broker.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: IncrementalAlterConfigsRequest, slot: Slot) -> IncrementalAlterConfigsResponse:
    return IncrementalAlterConfigsResponse(
        responses=[_resource(broker, wanted, validate_only=request.validate_only) for wanted in request.resources]
    )


def _resource(broker: Broker, wanted: AlterConfigsResource, *, validate_only: bool) -> AlterConfigsResourceResponse:
    answer = AlterConfigsResourceResponse(resource_type=wanted.resource_type, resource_name=wanted.resource_name)
    changes = [Change(c.name, c.config_operation, c.value) for c in wanted.configs]
    try:
        match wanted.resource_type:
            case ResourceType.TOPIC:
                alter_topic(broker, wanted.resource_name, changes, validate_only=validate_only)
            case ResourceType.BROKER:
                refuse_broker_change(changes)
            case kind:
                raise KafkaError(f"Unsupported resource type: {kind}", code=ErrorCode.INVALID_REQUEST)
    except KafkaError as error:
        answer.error_code, answer.error_message = error.code, error.detail or None
    return answer
