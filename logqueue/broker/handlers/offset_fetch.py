"""OffsetFetch (9): committed positions. v8+: of several groups at once (KIP-709); v10: topic ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.offset_fetch import OffsetFetchRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: OffsetFetchRequest, slot: Slot) -> None:
    broker.groups.serve(broker.groups.coordinator.fetch_offsets, request, slot)
