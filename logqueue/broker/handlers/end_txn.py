"""EndTxn (26): commit or abort. v5: every end brings the next epoch (KIP-890)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.end_txn import EndTxnRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: EndTxnRequest, slot: Slot) -> None:
    broker.transactions.serve(broker.transactions.coordinator.end, request, slot)
