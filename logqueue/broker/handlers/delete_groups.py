"""DeleteGroups (42): empty groups and their offsets go (KIP-229)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.delete_groups import DeleteGroupsRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: DeleteGroupsRequest, slot: Slot) -> None:
    broker.groups.serve(broker.groups.coordinator.delete_groups, request, slot)
