"""DescribeTransactions (65): state, timeout and partitions of transactional ids (KIP-664)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.protocol.messages.describe_transactions import DescribeTransactionsRequest

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: DescribeTransactionsRequest, slot: Slot) -> None:
    broker.transactions.serve(broker.transactions.coordinator.describe, request, slot)
