"""ConsumerGroupHeartbeat (68): membership and assignment of a consumer group (KIP-848); v1: regular expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: ConsumerGroupHeartbeatRequest, slot: Slot) -> ConsumerGroupHeartbeatResponse | None:
    if not broker.serves_consumer_groups:
        return ConsumerGroupHeartbeatResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    broker.groups.serve(broker.groups.coordinator.consumer_heartbeat, request, slot)
    return None
