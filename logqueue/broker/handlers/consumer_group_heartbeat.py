"""ConsumerGroupHeartbeat (68): membership and assignment of a consumer group (KIP-848); v1: regular expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
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
    broker.groups.serve(broker.groups.coordinator.consumer_heartbeat, request, slot, sees=_seen_by(broker, slot))
    return None


def _seen_by(broker: Broker, slot: Slot) -> Callable[[str], bool] | None:
    """Topics that the sender may know of: patterns that are resolved for it match no others."""
    if not broker.config.authorizer_class_name or broker.security.authorizer is None:
        return None
    from logqueue.broker.security.guards.access import Access
    from logqueue.security.acl import Operation

    access = Access(broker, broker.security.authorizer, slot.session.principal, slot.session.peer_host)
    return lambda name: access.to_topic(Operation.DESCRIBE, name)
