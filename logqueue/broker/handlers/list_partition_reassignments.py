"""ListPartitionReassignments (46): nothing ever moves (KIP-455)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(
    broker: Broker, request: ListPartitionReassignmentsRequest, slot: Slot
) -> ListPartitionReassignmentsResponse:
    return ListPartitionReassignmentsResponse()
