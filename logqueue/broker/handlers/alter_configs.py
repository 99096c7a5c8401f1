"""AlterConfigs (33): replace all settings of a resource (KIP-133); what is not named goes back to its default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.settings.changes import Change, Operation, duplicates, replace
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
    repeated = duplicates((wanted.resource_type, wanted.resource_name) for wanted in request.resources)
    return AlterConfigsResponse(
        responses=[
            _resource(broker, wanted, repeated, validate_only=request.validate_only) for wanted in request.resources
        ]
    )


def _resource(
    broker: Broker, wanted: AlterConfigsResource, repeated: set[tuple[int, str]], *, validate_only: bool
) -> AlterConfigsResourceResponse:
    kind, name = wanted.resource_type, wanted.resource_name
    answer = AlterConfigsResourceResponse(resource_type=kind, resource_name=name)
    changes = [Change(c.name, Operation.SET, c.value) for c in wanted.configs]
    try:
        if (kind, name) in repeated:
            raise KafkaError("Each resource must appear at most once.", code=ErrorCode.INVALID_REQUEST)
        replace(broker, kind, name, changes, validate_only=validate_only)
    except KafkaError as error:
        answer.error_code, answer.error_message = error.code, error.detail or None
    return answer
