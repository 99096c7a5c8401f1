"""Produce, Fetch and where logs begin and end: the rules that clients lean on, at the byte level."""

from __future__ import annotations

from typing import Any

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic
from logqueue.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logqueue.protocol.messages.find_coordinator import FindCoordinatorRequest
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest
from logqueue.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from tests.broker.wire import (
    Wire,
    batch,
    create,
    fetch_request,
    list_offset,
    produce_request,
    produced,
    values_of,
)
from tests.operations.wire_configs import SET, TOPIC, alter


@pytest.mark.parametrize("version", range(3, 13))
def test_every_version_of_produce_and_fetch_carries_records(wire: Wire, topic: str, version: int) -> None:
    wire.call(version, produce_request(topic, batch(b"value")))
    assert values_of(wire.call(min(12, max(version, 4)), fetch_request(topic, 0))) == [b"value"]


@pytest.mark.parametrize("version", range(13, 19))
def test_fetch_and_produce_by_topic_id(wire: Wire, topic: str, version: int) -> None:
    topic_id = wire.call(12, MetadataRequest(topics=[MetadataRequestTopic(name=topic)])).topics[0].topic_id
    request = produce_request(topic, batch(b"value"))
    request.topic_data[0].topic_id = topic_id
    assert wire.call(13, request).responses[0].partition_responses[0].error_code == 0
    fetch = fetch_request(topic, 0)
    fetch.topics[0].topic_id = topic_id
    assert values_of(wire.call(version, fetch)) == [b"value"]
    fetch.topics[0].topic_id = request.topic_data[0].topic_id = b"?" * 16
    assert wire.call(version, fetch).responses[0].partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID
    assert wire.call(13, request).responses[0].partition_responses[0].error_code == ErrorCode.UNKNOWN_TOPIC_ID


def test_produce_refuses_what_kafka_refuses(wire: Wire, topic: str) -> None:
    assert produced(wire, "nowhere", batch(b"x")).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert produced(wire, topic, batch(b"x"), partition=1).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert produced(wire, topic, batch(b"x"), partition=-1).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert produced(wire, topic, batch(b"x"), acks=2).error_code == ErrorCode.INVALID_REQUIRED_ACKS
    assert produced(wire, topic, b"").error_code == ErrorCode.INVALID_RECORD
    assert produced(wire, topic, batch(b"x" * 1_100_000)).error_code == ErrorCode.MESSAGE_TOO_LARGE
    broken = bytearray(batch(b"x"))
    broken[-1] ^= 1
    assert produced(wire, topic, bytes(broken)).error_code == ErrorCode.CORRUPT_MESSAGE
    create(wire, "compacted", cleanup_policy="compact")
    refused = produced(wire, "compacted", batch(b"no key"))
    assert refused.error_code == ErrorCode.INVALID_RECORD
    assert [e.batch_index for e in refused.record_errors] == [0]


def test_more_replicas_than_there_are_keep_nobody_from_writing(wire: Wire) -> None:
    # As in Kafka: as many replicas as the topic has are enough, whatever min.insync.replicas says.
    create(wire, "two-replicas", min_insync_replicas="2")
    assert produced(wire, "two-replicas", batch(b"x"), acks=-1).error_code == 0


def test_a_transactional_batch_without_a_transactional_id_has_no_transaction_to_be_part_of(
    wire: Wire, topic: str
) -> None:
    ours = batch(b"x", transactional=True, producer_id=1, producer_epoch=0, base_sequence=0)
    assert produced(wire, topic, ours).error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


def test_zstd_is_refused_to_clients_too_old_for_it(wire: Wire, topic: str) -> None:
    request = produce_request(topic, batch(b"x" * 100, compression="zstd"))
    answers = [wire.call(version, request).responses[0].partition_responses[0].error_code for version in (6, 7)]
    assert answers == [ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, 0]
    create(wire, "zstd", compression_type="zstd")
    produced(wire, "zstd", batch(b"x"))
    codes = [wire.call(v, fetch_request("zstd", 0)).responses[0].partitions[0].error_code for v in (9, 10)]
    assert codes == [ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, 0]


def test_only_the_broker_writes_to_its_internal_topics(wire: Wire) -> None:
    wire.call(3, FindCoordinatorRequest(key="g"))
    assert produced(wire, "__consumer_offsets", batch(b"x")).error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def test_a_failed_produce_without_acks_ends_the_connection(wire: Wire) -> None:
    wire.send(9, produce_request("nowhere", batch(b"x"), acks=0))
    assert wire.is_closed_by_broker()


def test_a_fetch_inside_a_batch_answers_the_whole_batch(wire: Wire, topic: str) -> None:
    produced(wire, topic, batch(b"0", b"1", b"2"))
    assert values_of(wire.call(11, fetch_request(topic, 1))) == [b"0", b"1", b"2"]


def test_the_first_batch_is_answered_however_small_the_limits(wire: Wire, topic: str) -> None:
    produced(wire, topic, batch(b"x" * 10_000))
    produced(wire, topic, batch(b"second"))
    small = fetch_request(topic, 0, max_bytes=1, partition_max_bytes=1)
    assert values_of(wire.call(11, small)) == [b"x" * 10_000]


def test_the_first_batch_is_forced_for_one_partition_only(wire: Wire) -> None:
    create(wire, "pair", partitions=2)
    for partition in (0, 1):
        produced(wire, "pair", batch(b"x" * 5000), partition=partition)
    wanted = [FetchPartition(partition=p, fetch_offset=0, partition_max_bytes=100) for p in (0, 1)]
    answer = wire.call(11, FetchRequest(max_bytes=100, topics=[FetchTopic(topic="pair", partitions=wanted)]))
    assert [bool(p.records) for p in answer.responses[0].partitions] == [True, False]


@pytest.mark.parametrize("offset", [-1, 2, 1000])
def test_a_fetch_outside_the_log_is_refused_at_once(wire: Wire, topic: str, offset: int) -> None:
    produced(wire, topic, batch(b"x"))
    answer = wire.call(11, fetch_request(topic, offset, max_wait_ms=60_000)).responses[0].partitions[0]
    assert answer.error_code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_fetch_sessions_are_refused(wire: Wire, topic: str) -> None:
    assert wire.call(11, fetch_request(topic, 0)).session_id == 0
    refused = wire.call(11, fetch_request(topic, 0, session_id=5, session_epoch=1))
    assert refused.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND


def test_a_reader_with_another_leader_epoch_is_told(wire: Wire, topic: str) -> None:
    request = fetch_request(topic, 0)
    request.topics[0].partitions[0].current_leader_epoch = 3
    assert wire.call(12, request).responses[0].partitions[0].error_code == ErrorCode.UNKNOWN_LEADER_EPOCH


def test_offsets_are_listed_by_place_and_by_time(wire: Wire, topic: str) -> None:
    from logqueue.records.builder import build_batch
    from logqueue.records.record import Record

    for time_ms in (1000, 3000, 2000):
        produced(wire, topic, bytes(build_batch([Record(timestamp_ms=time_ms, value=b"x")])))
    assert (list_offset(wire, topic, -2).offset, list_offset(wire, topic, -1).offset) == (0, 3)
    assert list_offset(wire, topic, -4).offset == 0
    assert (list_offset(wire, topic, -3).offset, list_offset(wire, topic, -3).timestamp) == (1, 3000)
    assert list_offset(wire, topic, 1500).offset == 1
    assert list_offset(wire, topic, 3001).offset == -1
    assert list_offset(wire, "nowhere", -1).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_a_partition_whose_offset_is_asked_for_twice_is_refused_and_the_others_are_answered(
    wire: Wire, topic: str
) -> None:
    produced(wire, topic, batch(b"a"))
    asked = [ListOffsetsPartition(partition_index=number, timestamp=-1) for number in (0, 1, 1)]
    answer = wire.call(8, ListOffsetsRequest(topics=[ListOffsetsTopic(name=topic, partitions=asked)])).topics[0]
    assert [(part.partition_index, part.error_code) for part in answer.partitions] == [
        (0, 0),
        (1, ErrorCode.INVALID_REQUEST),
        (1, ErrorCode.INVALID_REQUEST),
    ]


def test_offset_for_leader_epoch_ends_with_the_log(wire: Wire, topic: str) -> None:
    produced(wire, topic, batch(b"a", b"b"))
    wanted = OffsetForLeaderPartition(partition=0, current_leader_epoch=0, leader_epoch=0)
    request = OffsetForLeaderEpochRequest(topics=[OffsetForLeaderTopic(topic=topic, partitions=[wanted])])
    answer = wire.call(3, request).topics[0].partitions[0]
    assert (answer.error_code, answer.leader_epoch, answer.end_offset) == (0, 0, 2)


def delete_records(wire: Wire, topic: str, offset: int) -> Any:
    partition = DeleteRecordsPartition(partition_index=0, offset=offset)
    request = DeleteRecordsRequest(topics=[DeleteRecordsTopic(name=topic, partitions=[partition])])
    return wire.call(2, request).topics[0].partitions[0]


def test_deleted_records_are_gone_for_readers(wire: Wire, topic: str) -> None:
    for n in range(4):
        produced(wire, topic, batch(b"%d" % n))
    assert delete_records(wire, topic, 2).low_watermark == 2
    assert delete_records(wire, topic, 5).error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert wire.call(11, fetch_request(topic, 1)).responses[0].partitions[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE
    assert list_offset(wire, topic, -2).offset == 2
    assert delete_records(wire, topic, -1).low_watermark == 4


def test_records_of_internal_topics_stay_whatever_their_policy_says(wire: Wire) -> None:
    wire.call(3, FindCoordinatorRequest(key="g"))
    assert delete_records(wire, "__consumer_offsets", -1).error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert alter(wire, TOPIC, "__consumer_offsets", ("cleanup.policy", SET, "delete")) == 0
    assert delete_records(wire, "__consumer_offsets", -1).error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
    assert alter(wire, TOPIC, "__consumer_offsets", ("cleanup.policy", SET, "compact")) == 0


def test_producer_ids_are_all_different(wire: Wire) -> None:
    ids = [wire.call(4, InitProducerIdRequest(transactional_id=None)).producer_id for _ in range(5)]
    assert len(set(ids)) == 5
