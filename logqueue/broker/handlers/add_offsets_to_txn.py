"""AddOffsetsToTxn (25): a transaction is going to commit offsets of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: AddOffsetsToTxnRequest, slot: Slot) -> AddOffsetsToTxnResponse | None:
    try:
        broker.topics.ensure_offsets_topic()
    except KafkaError:  # the disk takes no new topic
        return AddOffsetsToTxnResponse(error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE)
    partition = broker.groups.coordinator.partition_for(request.group_id)
    transactions = broker.transactions
    transactions.serve(transactions.coordinator.add_offsets, request, slot, offsets_partition=partition)
    return None
