"""FindCoordinator (10): this broker coordinates all groups and transactions. v4+: several keys at once (KIP-699)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.find_coordinator import Coordinator, FindCoordinatorRequest, FindCoordinatorResponse

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

GROUP = 0
TRANSACTION = 1


def handle(broker: Broker, request: FindCoordinatorRequest, slot: Slot) -> FindCoordinatorResponse:
    # A coordinator exists once its topic does: clients that look at the topic list expect to find it there.
    problem = _problem_of(broker, request.key_type)
    host, port = broker.advertised(slot)
    answers = [
        problem(key) if problem else Coordinator(key=key, node_id=broker.node_id, host=host, port=port)
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


def _problem_of(broker: Broker, key_type: int) -> Callable[[str], Coordinator] | None:
    """What makes the answer for a key, if there is no coordinator of this type; None if there is one."""
    try:
        if key_type == GROUP:
            broker.topics.ensure_offsets_topic()
        elif key_type == TRANSACTION:
            broker.topics.ensure_transactions_topic()
        else:
            text = "this broker coordinates consumer groups (key type 0) and transactions (key type 1)"
            return partial(_none, code=ErrorCode.INVALID_REQUEST, text=text)
    except KafkaError as error:  # the disk takes no new topic
        return partial(_none, code=ErrorCode.COORDINATOR_NOT_AVAILABLE, text=error.detail)
    return None


def _none(key: str, *, code: ErrorCode, text: str) -> Coordinator:
    return Coordinator(key=key, node_id=-1, port=-1, error_code=code, error_message=text)
