"""AddPartitionsToTxn (24): partitions that a transaction is going to write to. v4+: several transactions (KIP-890)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: AddPartitionsToTxnRequest, slot: Slot) -> None:
    broker.transactions.serve(broker.transactions.coordinator.add_partitions, request, slot)
