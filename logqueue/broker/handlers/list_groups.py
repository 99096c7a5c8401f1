"""ListGroups (16): all groups. v4+: filtered by state (KIP-518); v5: by type (KIP-848)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.list_groups import ListGroupsRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: ListGroupsRequest, slot: Slot) -> None:
    broker.groups.serve(broker.groups.coordinator.list_groups, request, slot)
