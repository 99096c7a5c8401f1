"""IncrementalAlterConfigs (44): set, delete, append to and subtract from single settings (KIP-339)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.settings.changes import Change, alter, duplicates
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
    repeated = duplicates((wanted.resource_type, wanted.resource_name) for wanted in request.resources)
    return IncrementalAlterConfigsResponse(
        responses=[
            _resource(broker, wanted, repeated, validate_only=request.validate_only) for wanted in request.resources
        ]
    )


def _resource(
    broker: Broker, wanted: AlterConfigsResource, repeated: set[tuple[int, str]], *, validate_only: bool
) -> AlterConfigsResourceResponse:
    kind, name = wanted.resource_type, wanted.resource_name
    answer = AlterConfigsResourceResponse(resource_type=kind, resource_name=name)
    changes = [Change(c.name, c.config_operation, c.value) for c in wanted.configs]
    try:
        if (kind, name) in repeated:
            raise KafkaError("Each resource must appear at most once.", code=ErrorCode.INVALID_REQUEST)
        alter(broker, kind, name, changes, validate_only=validate_only)
    except KafkaError as error:
        answer.error_code, answer.error_message = error.code, error.detail or None
    return answer
