"""FindCoordinator (10): this broker coordinates all groups and transactions. v4+: several keys at once (KIP-699)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.find_coordinator import Coordinator, FindCoordinatorRequest, FindCoordinatorResponse

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

GROUP = 0
TRANSACTION = 1


def handle(broker: Broker, request: FindCoordinatorRequest, slot: Slot) -> FindCoordinatorResponse:
    # A coordinator exists once its topic does: clients that look at the topic list expect to find it there.
    if request.key_type == GROUP:
        broker.topics.ensure_offsets_topic()
    elif request.key_type == TRANSACTION:
        broker.topics.ensure_transactions_topic()
    host, port = broker.advertised(slot)
    answers = [
        _coordinator(key, request.key_type, broker.node_id, host, port)
        for key in (request.coordinator_keys if slot.api_version >= 4 else [request.key])
    ]
    if slot.api_version >= 4:
        return FindCoordinatorResponse(coordinators=answers)
    (answer,) = answers
    return FindCoordinatorResponse(
        error_code=answer.error_code,
        error_message=answer.error_message,
        node_id=answer.node_id,
        host=answer.host,
        port=answer.port,
    )


def _coordinator(key: str, key_type: int, node_id: int, host: str, port: int) -> Coordinator:
    if key_type in (GROUP, TRANSACTION):
        return Coordinator(key=key, node_id=node_id, host=host, port=port)
    return Coordinator(
        key=key,
        node_id=-1,
        port=-1,
        error_code=ErrorCode.INVALID_REQUEST,
        error_message="this broker coordinates consumer groups (key type 0) and transactions (key type 1)",
    )
