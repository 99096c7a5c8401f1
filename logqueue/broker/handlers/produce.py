"""Produce (0). v3+: format v2 only; v8+: record errors (KIP-467); v12+: adds to transactions (KIP-890); v13: topic ids.

acks=0 has no answer, acks=1 is answered after the write, acks=all after the fsync that its round of group commit makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import LEADER_EPOCH, Partition
from logqueue.errors import ErrorCode, KafkaError, LogqueueError
from logqueue.protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from logqueue.protocol.wire import Records
from logqueue.records.batch import CODEC_MASK, CRC_START, TRANSACTIONAL
from logqueue.records.errors import InvalidRecord, NotOneBatch, UnsupportedCompressionType
from logqueue.records.validation import check_layout
from logqueue.storage.errors import InvalidTopic

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.coordinators.verification import Refused

ACKS_ALL = -1
FIRST_WITH_TOPIC_IDS = 13
FIRST_WITH_ZSTD = 7
ZSTD = 4
ATTRIBUTES = CRC_START + 1  # the low byte of them
# Refusals of a log after which Kafka does not tell where it starts.
WITHOUT_LOG_START = frozenset(
    {
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.RECORD_LIST_TOO_LARGE,
        ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
    }
)


class ProduceFailed(LogqueueError):
    """A produce with acks=0 failed. It has no answer, so the end of its connection is the message, as in Kafka."""


def handle(broker: Broker, request: ProduceRequest, slot: Slot) -> ProduceResponse | None:
    if request.transactional_id is None:
        return append(broker, request, slot, None)
    refused = broker.verification.admit(request, slot)
    return None if refused is None else append(broker, request, slot, refused)


def append(broker: Broker, request: ProduceRequest, slot: Slot, refused: Refused | None) -> ProduceResponse | None:
    """Append every batch but those `refused`; None for it means that the producer names no transactional id."""
    # This is the hottest path of the broker: plain loops, one partition per turn, nothing allocated but the answer.
    acks = request.acks
    now_ms = broker.clock.time_ms()
    durable = acks == ACKS_ALL and broker.config.fsync_acks_all
    version = slot.header.api_version
    by_id = version >= FIRST_WITH_TOPIC_IDS
    waits = False
    failure: KafkaError | None = None
    responses = []
    for data in request.topic_data:
        answers = []
        for part in data.partition_data:
            asked = None
            try:
                partition = _partition(broker, data, part.index, by_id=by_id)
                records = _checked(partition, part.records, acks, version, refused)
                asked = partition
                result = partition.log.append(records, leader_epoch=LEADER_EPOCH, now_ms=now_ms)
            except KafkaError as error:
                failure = error
                answers.append(failed(part.index, error, asked))
                continue
            base_offset, last_offset, append_time_ms, log_start_offset, _ = result
            if broker.commit.settle(partition, base_offset, last_offset + 1, len(records), durable):
                waits = True
            answers.append(
                PartitionProduceResponse(
                    index=part.index,
                    base_offset=base_offset,
                    log_append_time_ms=append_time_ms,
                    log_start_offset=log_start_offset,
                )
            )
        responses.append(TopicProduceResponse(name=data.name, topic_id=data.topic_id, partition_responses=answers))
    response = ProduceResponse(responses=responses)
    if acks == 0:
        if failure is not None:
            raise ProduceFailed(f"a produce without acknowledgement failed: {failure}")
        slot.fill([])
        return None
    if not waits:
        return response
    broker.commit.on_durable(lambda problem: broker.answer(slot, _settled(response, problem)))
    return None


def _partition(broker: Broker, data: TopicProduceData, index: int, *, by_id: bool) -> Partition:
    topics = broker.topics
    topic = topics.by_id.get(data.topic_id) if by_id else topics.by_name.get(data.name)
    if topic is None:
        raise KafkaError(code=ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if not 0 <= index < len(topic.partitions):
        raise KafkaError(code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    return topic.partitions[index]


def _checked(
    partition: Partition, records: Records | None, acks: int, version: int, refused: Refused | None
) -> memoryview:
    """The batch; raises KafkaError for what is wrong with the request around it."""
    if not isinstance(records, memoryview) or not records:
        raise NotOneBatch("a produce request without records")
    if not -1 <= acks <= 1:
        check_layout(records)
        raise KafkaError(f"acks={acks}; -1, 0 and 1 are allowed", code=ErrorCode.INVALID_REQUIRED_ACKS)
    if partition.is_internal:
        check_layout(records)
        raise InvalidTopic("only the broker itself writes to its internal topics")
    if len(records) > ATTRIBUTES:
        attributes = records[ATTRIBUTES]
        if attributes & TRANSACTIONAL:
            _check_transaction(partition, records, refused)
        if version < FIRST_WITH_ZSTD and attributes & CODEC_MASK == ZSTD:
            raise UnsupportedCompressionType(f"zstd needs Produce version {FIRST_WITH_ZSTD}, not {version} (KIP-110)")
    return records


def _check_transaction(partition: Partition, records: memoryview, refused: Refused | None) -> None:
    """Raise KafkaError unless the batch belongs to a transaction that the coordinator knows of."""
    if refused is not None:
        error = refused.get(partition.id)
        if error is not None:
            check_layout(records)
            raise error
    else:
        raise KafkaError(
            "the request names no transactional id that its batch could belong to",
            code=ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        )


def failed(index: int, error: KafkaError, asked: Partition | None) -> PartitionProduceResponse:
    """The answer for a batch that is not in the log; `asked` is the partition whose log has looked at it."""
    errors = error.record_errors if isinstance(error, InvalidRecord) else ()
    log_start_offset = -1
    if asked is not None and error.code not in WITHOUT_LOG_START and not isinstance(error, NotOneBatch):
        log_start_offset = asked.log.log_start_offset
    return PartitionProduceResponse(
        index=index,
        error_code=error.code,
        base_offset=-1,
        log_start_offset=log_start_offset,
        record_errors=[
            BatchIndexAndErrorMessage(batch_index=at, batch_index_error_message=message) for at, message in errors
        ],
        error_message=error.detail or None,
    )


def _settled(response: ProduceResponse, problem: KafkaError | None) -> ProduceResponse:
    """Take back every success if the disk failed."""
    if problem is not None:
        for topic in response.responses:
            topic.partition_responses = [
                answer if answer.error_code else failed(answer.index, problem, None)
                for answer in topic.partition_responses
            ]
    return response
