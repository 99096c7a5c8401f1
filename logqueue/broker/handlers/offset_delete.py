"""OffsetDelete (47): committed positions of single topics go (KIP-496)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.offset_delete import OffsetDeleteRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: OffsetDeleteRequest, slot: Slot) -> None:
    broker.groups.serve(broker.groups.coordinator.delete_offsets, request, slot)
