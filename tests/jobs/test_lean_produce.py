"""Produce requests packed a partition at a time say exactly what the protocol's own codec says."""

from __future__ import annotations

import struct
import sys
from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol import produce
from aiokafka.protocol.produce import ProduceRequest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.jobs.lean_produce import LeanRequest, read_answer
from logqueue.protocol import messages
from logqueue.protocol.frames import RequestHeader, write_request, write_response
from logqueue.protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)

VERSION = 9
SERVED = {0: (0, 12)}
int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
texts = st.text("abcdefg.-éß", max_size=200)
sent = st.lists(st.tuples(texts, st.lists(st.tuples(int32, st.binary(max_size=300)), max_size=4)), max_size=4)
faults = st.lists(st.tuples(int32, st.none() | texts), max_size=2)
answered_partition = st.tuples(int32, st.integers(-1, 120), int64, int64, int64, faults, st.none() | texts)
answered = st.lists(st.tuples(texts, st.lists(answered_partition, max_size=4)), max_size=3)


def request(topics: Any, *, acks: int = -1) -> ProduceRequest:
    return ProduceRequest(transactional_id=None, required_acks=acks, timeout=40_000, topics=topics)


@given(sent, st.integers(-1, 1))
def test_a_request_is_the_same_bytes(topics: Any, acks: int) -> None:
    prepared = LeanRequest(request(topics, acks=acks)).prepare(SERVED)
    expected = messages.produce.ProduceRequest(
        transactional_id=None,
        acks=acks,
        timeout_ms=40_000,
        topic_data=[
            TopicProduceData(
                name=name,
                partition_data=[PartitionProduceData(index=index, records=records) for index, records in partitions],
            )
            for name, partitions in topics
        ],
    )
    frame = b"".join(bytes(part) for part in write_request(RequestHeader(0, VERSION, 7, "logqueue"), expected))
    assert prepared.build_request_header(7, "logqueue").encode() + prepared.encode() == frame[4:]


@given(answered)
def test_an_answer_is_read_as_aiokafkas_sender_wants_it(found: Any) -> None:
    response = ProduceResponse(
        responses=[
            TopicProduceResponse(
                name=name,
                partition_responses=[
                    PartitionProduceResponse(
                        index=index,
                        error_code=error,
                        base_offset=base,
                        log_append_time_ms=time_ms,
                        log_start_offset=start,
                        record_errors=[
                            BatchIndexAndErrorMessage(batch_index=at, batch_index_error_message=text)
                            for at, text in each
                        ],
                        error_message=message,
                    )
                    for index, error, base, time_ms, start, each, message in partitions
                ],
            )
            for name, partitions in found
        ]
    )
    frame = b"".join(bytes(part) for part in write_response(0, VERSION, 77, response))[4:]
    prepared = LeanRequest(request([])).prepare(SERVED)
    assert prepared.parse_response_header(BytesIO(frame)).correlation_id == 77
    assert prepared.decode(BytesIO(frame)).topics == [
        (name, [(*part[:5], (), part[6] or None) for part in partitions]) for name, partitions in found
    ]


def test_a_broker_without_this_version_is_asked_in_aiokafkas_way() -> None:
    assert isinstance(LeanRequest(request([])).prepare({0: (0, 8)}), produce.ProduceRequest_v7)


def test_an_answer_that_is_cut_short_is_an_error() -> None:
    part = PartitionProduceResponse(index=1, base_offset=1, log_append_time_ms=-1, log_start_offset=0)
    answer = ProduceResponse(responses=[TopicProduceResponse(name="t", partition_responses=[part])])
    frame = b"".join(bytes(part) for part in write_response(0, VERSION, 1, answer))[4:]
    with pytest.raises((IndexError, struct.error)):
        read_answer(memoryview(frame[:-10]))


def test_a_request_leaves_nothing_to_the_cycle_collector() -> None:
    prepared = LeanRequest(request([])).prepare(SERVED)
    held = sys.getrefcount(prepared)
    assert prepared.RESPONSE_TYPE is prepared
    prepared.build_request_header(7, "logqueue")
    assert sys.getrefcount(prepared) == held  # by nothing that this left behind, least of all by itself
