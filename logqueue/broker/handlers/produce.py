"""Produce (0). v3+: format v2 only; v8+: record errors (KIP-467); v13: topic ids (KIP-516).

acks=0 has no answer, acks=1 is answered after the write, acks=all after the fsync that its round of group commit makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.partition import LEADER_EPOCH, Partition
from logqueue.broker.session import Slot
from logqueue.errors import ErrorCode, KafkaError, LogqueueError
from logqueue.protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from logqueue.records.errors import InvalidRecord
from logqueue.storage.errors import InvalidTopic

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

ACKS_ALL = -1


class ProduceFailed(LogqueueError):
    """A produce with acks=0 failed. It has no answer, so the end of its connection is the message, as in Kafka."""


def handle(broker: Broker, request: ProduceRequest, slot: Slot) -> ProduceResponse | None:
    appends = _Appends(broker, request, slot.api_version)
    response = ProduceResponse(responses=[appends.topic(data) for data in request.topic_data])
    if request.acks == 0:
        if appends.failure is not None:
            raise ProduceFailed(f"a produce without acknowledgement failed: {appends.failure}")
        slot.fill([])
        return None
    if not appends.waits:
        return response
    broker.commit.on_durable(lambda failure: broker.answer(slot, _settle(response, failure)))
    return None


def _settle(response: ProduceResponse, failure: KafkaError | None) -> ProduceResponse:
    """Take back every success if the disk failed."""
    if failure is not None:
        for topic in response.responses:
            topic.partition_responses = [
                PartitionProduceResponse(
                    index=partition.index,
                    error_code=partition.error_code or failure.code,
                    base_offset=-1,
                    error_message=partition.error_message or failure.detail,
                )
                for partition in topic.partition_responses
            ]
    return response


class _Appends:
    """The appends of one request, and what came of them."""

    __slots__ = ("_acks", "_broker", "_durable", "_now_ms", "_version", "failure", "waits")

    def __init__(self, broker: Broker, request: ProduceRequest, version: int) -> None:
        self._broker = broker
        self._acks = request.acks
        self._durable = request.acks == ACKS_ALL and broker.config.fsync_acks_all
        self._version = version
        self._now_ms = broker.clock.time_ms()
        self.waits = False
        self.failure: KafkaError | None = None

    def topic(self, data: TopicProduceData) -> TopicProduceResponse:
        by_id = self._version >= 13
        topics = self._broker.topics
        topic = topics.by_id.get(data.topic_id) if by_id else topics.by_name.get(data.name)
        partitions = topic.partitions if topic is not None else ()
        unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id and topic is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return TopicProduceResponse(
            name=data.name,
            topic_id=data.topic_id,
            partition_responses=[
                self._append(partitions[part.index], part)
                if 0 <= part.index < len(partitions)
                else self._refuse(part.index, KafkaError(code=unknown))
                for part in data.partition_data
            ],
        )

    def _append(self, partition: Partition, data: PartitionProduceData) -> PartitionProduceResponse:
        broker = self._broker
        records = data.records
        try:
            if not -1 <= self._acks <= 1:
                raise KafkaError(f"acks={self._acks}; -1, 0 and 1 are allowed", code=ErrorCode.INVALID_REQUIRED_ACKS)
            if partition.is_internal:
                raise InvalidTopic("only the broker itself writes to its internal topics")
            if not records:
                raise InvalidRecord("a produce request without records")
            assert isinstance(records, memoryview)
            result = partition.log.append(records, leader_epoch=LEADER_EPOCH, now_ms=self._now_ms)
        except KafkaError as error:
            return self._refuse(data.index, error)
        if broker.commit.settle(
            partition,
            base_offset=result.base_offset,
            end_offset=result.last_offset + 1,
            size=len(records),
            durable=self._durable,
        ):
            self.waits = True
        return PartitionProduceResponse(
            index=data.index,
            base_offset=result.base_offset,
            log_append_time_ms=result.log_append_time_ms,
            log_start_offset=result.log_start_offset,
        )

    def _refuse(self, index: int, error: KafkaError) -> PartitionProduceResponse:
        self.failure = error
        errors = error.record_errors if isinstance(error, InvalidRecord) else ()
        return PartitionProduceResponse(
            index=index,
            error_code=error.code,
            base_offset=-1,
            record_errors=[
                BatchIndexAndErrorMessage(batch_index=at, batch_index_error_message=message) for at, message in errors
            ],
            error_message=error.detail or None,
        )
