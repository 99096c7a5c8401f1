"""Guards of the APIs that read and write records and their positions."""

from __future__ import annotations

from logqueue.broker.security.guards.access import Access, Verdict, adding, split
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages import (
    delete_records,
    describe_producers,
    fetch,
    list_offsets,
    offset_for_leader_epoch,
    produce,
)
from logqueue.records.batch import CRC_START, TRANSACTIONAL
from logqueue.security.acl import Operation

DENIED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
PRODUCE_BY_ID = 13
FETCH_BY_ID = 13
CONSUMER = -1
_ATTRIBUTES = CRC_START + 1


class ProduceRefused(KafkaError):
    """A produce with acks=0 that is not allowed. It has no answer, so the end of its connection is the message."""

    code = DENIED


def guard_produce(access: Access, request: produce.ProduceRequest, version: int) -> Verdict:
    """WRITE on every topic; for transactional batches WRITE on the transactional id."""
    refused_id = _is_transactional(request) and not (
        request.transactional_id is not None and access.to_transactional_id(Operation.WRITE, request.transactional_id)
    )
    if refused_id:
        code, refused = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, request.topic_data
    else:
        by_id = version >= PRODUCE_BY_ID
        code = DENIED
        request.topic_data, refused = split(
            request.topic_data,
            lambda topic: access.to_known_topic(Operation.WRITE, topic.name, topic.topic_id, by_id=by_id),
        )
    if not refused:
        return None
    if request.acks == 0:
        failure = ProduceRefused("a produce without acknowledgement is not authorized")
        if refused_id or not request.topic_data:
            raise failure
        return failure
    answers = [
        produce.TopicProduceResponse(
            name=topic.name,
            topic_id=topic.topic_id,
            partition_responses=[
                produce.PartitionProduceResponse(index=part.index, error_code=code, base_offset=-1)
                for part in topic.partition_data
            ],
        )
        for topic in refused
    ]
    if refused_id or not request.topic_data:
        return produce.ProduceResponse(responses=answers)

    return adding("responses", answers)


def _is_transactional(request: produce.ProduceRequest) -> bool:
    return any(
        part.records is not None
        and isinstance(part.records, memoryview)
        and len(part.records) > _ATTRIBUTES
        and part.records[_ATTRIBUTES] & TRANSACTIONAL
        for topic in request.topic_data
        for part in topic.partition_data
    )


def guard_fetch(access: Access, request: fetch.FetchRequest, version: int) -> Verdict:
    """READ on every topic; followers CLUSTER_ACTION."""
    by_id = version >= FETCH_BY_ID
    state = request.replica_state
    follower = request.replica_id if version < 15 or state is None else state.replica_id
    if follower > CONSUMER:
        refused = [] if access.to_cluster(Operation.CLUSTER_ACTION) else request.topics
        request.topics = [] if refused else request.topics
    else:
        request.topics, refused = split(
            request.topics,
            lambda topic: access.to_known_topic(Operation.READ, topic.topic, topic.topic_id, by_id=by_id),
        )
    if not refused:
        return None
    answers = [
        fetch.FetchableTopicResponse(
            topic=topic.topic,
            topic_id=topic.topic_id,
            partitions=[
                fetch.PartitionData(partition_index=part.partition, error_code=DENIED, high_watermark=-1, records=b"")
                for part in topic.partitions
            ],
        )
        for topic in refused
    ]

    return adding("responses", answers)


def guard_list_offsets(access: Access, request: list_offsets.ListOffsetsRequest, version: int) -> Verdict:
    """DESCRIBE on every topic."""
    request.topics, refused = split(request.topics, lambda topic: access.to_topic(Operation.DESCRIBE, topic.name))
    if not refused:
        return None
    answers = [
        list_offsets.ListOffsetsTopicResponse(
            name=topic.name,
            partitions=[
                list_offsets.ListOffsetsPartitionResponse(partition_index=part.partition_index, error_code=DENIED)
                for part in topic.partitions
            ],
        )
        for topic in refused
    ]

    return adding("topics", answers)


def guard_offset_for_leader_epoch(
    access: Access, request: offset_for_leader_epoch.OffsetForLeaderEpochRequest, version: int
) -> Verdict:
    """DESCRIBE on every topic, or CLUSTER_ACTION for all."""
    if access.to_cluster(Operation.CLUSTER_ACTION):
        return None
    request.topics, refused = split(request.topics, lambda topic: access.to_topic(Operation.DESCRIBE, topic.topic))
    if not refused:
        return None
    answers = [
        offset_for_leader_epoch.OffsetForLeaderTopicResult(
            topic=topic.topic,
            partitions=[
                offset_for_leader_epoch.EpochEndOffset(partition=part.partition, error_code=DENIED)
                for part in topic.partitions
            ],
        )
        for topic in refused
    ]

    return adding("topics", answers)


def guard_delete_records(access: Access, request: delete_records.DeleteRecordsRequest, version: int) -> Verdict:
    """DELETE on every topic."""
    request.topics, refused = split(request.topics, lambda topic: access.to_topic(Operation.DELETE, topic.name))
    if not refused:
        return None
    answers = [
        delete_records.DeleteRecordsTopicResult(
            name=topic.name,
            partitions=[
                delete_records.DeleteRecordsPartitionResult(
                    partition_index=part.partition_index, low_watermark=-1, error_code=DENIED
                )
                for part in topic.partitions
            ],
        )
        for topic in refused
    ]

    return adding("topics", answers)


def guard_describe_producers(
    access: Access, request: describe_producers.DescribeProducersRequest, version: int
) -> Verdict:
    """READ on every topic."""
    request.topics, refused = split(request.topics, lambda topic: access.to_topic(Operation.READ, topic.name))
    if not refused:
        return None
    answers = [
        describe_producers.TopicResponse(
            name=topic.name,
            partitions=[
                describe_producers.PartitionResponse(partition_index=index, error_code=DENIED)
                for index in topic.partition_indexes
            ],
        )
        for topic in refused
    ]

    return adding("topics", answers)
