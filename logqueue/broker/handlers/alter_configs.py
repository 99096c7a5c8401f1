"""AlterConfigs (33): replace all settings of a topic at once (KIP-133); what is not named goes back to its default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.configs import Change, ResourceType, refuse_broker_change, replace_topic
from logqueue.broker.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: AlterConfigsRequest, slot: Slot) -> AlterConfigsResponse:
    return AlterConfigsResponse(
        responses=[_resource(broker, wanted, validate_only=request.validate_only) for wanted in request.resources]
    )


def _resource(broker: Broker, wanted: AlterConfigsResource, *, validate_only: bool) -> AlterConfigsResourceResponse:
    answer = AlterConfigsResourceResponse(resource_type=wanted.resource_type, resource_name=wanted.resource_name)
    changes = [Change.set(c.name, c.value) for c in wanted.configs]
    try:
        match wanted.resource_type:
            case ResourceType.TOPIC:
                replace_topic(broker, wanted.resource_name, changes, validate_only=validate_only)
            case ResourceType.BROKER:
                refuse_broker_change(changes)
            case kind:
                raise KafkaError(f"Unsupported resource type: {kind}", code=ErrorCode.INVALID_REQUEST)
    except KafkaError as error:
        answer.error_code, answer.error_message = error.code, error.detail or None
    return answer
