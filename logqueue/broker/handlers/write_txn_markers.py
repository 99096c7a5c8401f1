"""WriteTxnMarkers (27): markers that another coordinator, or an administrator ending a hanging transaction, asks for.

v2 says the version of the transaction: from 2 on the marker's epoch is above that of the records (KIP-890, KIP-1228).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import LEADER_EPOCH, Partition
from logqueue.errors import KafkaError
from logqueue.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: WriteTxnMarkersRequest, slot: Slot) -> WriteTxnMarkersResponse | None:
    written: list[tuple[WritableTxnMarker, Partition, WritableTxnMarkerPartitionResult]] = []
    response = WriteTxnMarkersResponse()
    for marker in request.markers:
        answer = WritableTxnMarkerResult(producer_id=marker.producer_id)
        response.markers.append(answer)
        for topic in marker.topics:
            results = WritableTxnMarkerTopicResult(name=topic.name)
            answer.topics.append(results)
            for index in topic.partition_indexes:
                result = WritableTxnMarkerPartitionResult(partition_index=index)
                results.partitions.append(result)
                try:
                    partition = broker.topics.partition(topic.name, index)
                    _append(broker, partition, marker)
                except KafkaError as error:
                    result.error_code = error.code
                else:
                    written.append((marker, partition, result))

    def settle(failure: KafkaError | None) -> None:
        for marker, partition, result in written:
            if failure is not None:
                result.error_code = failure.code
            else:
                broker.transactions.on_marker(partition, marker.producer_id, commit=marker.transaction_result)

    if not broker.transactions.settle_markers([partition for _, partition, _ in written], is_owed=False):
        settle(None)
        return response

    def answer_durable(failure: KafkaError | None) -> None:
        settle(failure)
        broker.answer(slot, response)

    broker.commit.on_durable(answer_durable)
    return None


def _append(broker: Broker, partition: Partition, marker: WritableTxnMarker) -> None:
    partition.log.append_marker(
        marker.producer_id,
        marker.producer_epoch,
        commit=marker.transaction_result,
        coordinator_epoch=marker.coordinator_epoch,
        leader_epoch=LEADER_EPOCH,
        now_ms=broker.clock.time_ms(),
        transaction_version=marker.transaction_version,
    )
