"""DeleteRecords (21): move the log start offset up (KIP-107); -1 means up to the high watermark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsPartitionResult,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from logqueue.storage.errors import InvalidTopic, OffsetOutOfRange

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

UP_TO_HIGH_WATERMARK = -1


def handle(broker: Broker, request: DeleteRecordsRequest, slot: Slot) -> DeleteRecordsResponse:
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name, partitions=[_delete(broker, topic.name, part) for part in topic.partitions]
            )
            for topic in request.topics
        ]
    )


def _delete(broker: Broker, topic: str, wanted: DeleteRecordsPartition) -> DeleteRecordsPartitionResult:
    answer = DeleteRecordsPartitionResult(partition_index=wanted.partition_index, low_watermark=-1)
    try:
        partition = broker.topics.partition(topic, wanted.partition_index)
        if partition.is_internal:
            raise InvalidTopic(f"Cannot delete records of internal topic {topic}.")
        if "delete" not in partition.config.cleanup_policy:
            raise KafkaError("records of a topic that is only compacted stay", code=ErrorCode.POLICY_VIOLATION)
        shown = partition.high_watermark
        before = shown if wanted.offset == UP_TO_HIGH_WATERMARK else wanted.offset
        if not 0 <= before <= shown:
            raise OffsetOutOfRange(before, start=0, end=shown)
        answer.low_watermark = partition.log.delete_records_before(before)
        partition.start_moved()
    except KafkaError as error:
        answer.error_code = error.code
    return answer
