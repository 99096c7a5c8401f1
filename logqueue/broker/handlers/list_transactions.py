"""ListTransactions (66): all transactional ids (KIP-664). v1: by duration (KIP-994); v2: by pattern (KIP-1152)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.list_transactions import ListTransactionsRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: ListTransactionsRequest, slot: Slot) -> None:
    broker.transactions.serve(broker.transactions.coordinator.list_transactions, request, slot)
