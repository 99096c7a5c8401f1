"""Headers, frames and the advertised row."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from logqueue.errors import ErrorCode
from logqueue.protocol import FileSlice
from logqueue.protocol.api import FLEXIBLE_SINCE, ApiKey
from logqueue.protocol.frames import (
    RequestHeader,
    api_versions_response,
    read_request,
    read_request_header,
    read_response,
    request_type,
    response_type,
    write_request,
    write_response,
    write_unsupported_api_versions,
)
from logqueue.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from logqueue.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from logqueue.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from logqueue.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from logqueue.protocol.schema import Message
from logqueue.protocol.versions import ADVERTISED, FINALIZED_FEATURES, SERVED

# What an Apache Kafka 4.2.1 broker answers to ApiVersions, read from a running one (brokers, not controllers).
KAFKA_4_2 = {
    0: (0, 13),
    1: (4, 18),
    2: (1, 11),
    3: (0, 13),
    8: (2, 10),
    9: (1, 10),
    10: (0, 6),
    11: (0, 9),
    12: (0, 4),
    13: (0, 5),
    14: (0, 5),
    15: (0, 6),
    16: (0, 5),
    17: (0, 1),
    18: (0, 4),
    19: (2, 7),
    20: (1, 6),
    21: (0, 2),
    22: (0, 5),
    23: (2, 4),
    24: (0, 5),
    25: (0, 4),
    26: (0, 5),
    27: (1, 2),
    28: (0, 5),
    29: (1, 3),
    30: (1, 3),
    31: (1, 3),
    32: (1, 4),
    33: (0, 2),
    34: (1, 2),
    35: (1, 4),
    36: (0, 2),
    37: (0, 3),
    38: (1, 3),
    39: (1, 2),
    40: (1, 2),
    41: (1, 3),
    42: (0, 2),
    43: (0, 2),
    44: (0, 1),
    45: (0, 1),
    46: (0, 0),
    47: (0, 0),
    48: (0, 1),
    49: (0, 1),
    50: (0, 0),
    51: (0, 0),
    55: (0, 2),
    57: (0, 2),
    60: (0, 2),
    61: (0, 0),
    64: (0, 0),
    65: (0, 0),
    66: (0, 2),
    68: (0, 1),
    69: (0, 1),
    74: (0, 1),
    75: (0, 0),
    76: (1, 1),
    77: (1, 1),
    78: (1, 2),
    79: (1, 2),
    80: (0, 1),
    81: (0, 0),
    83: (0, 0),
    84: (0, 0),
    85: (0, 1),
    86: (0, 0),
    87: (0, 1),
    88: (0, 0),
    89: (0, 0),
    90: (0, 1),
    91: (0, 0),
    92: (0, 0),
}


def joined(segments: list[Any]) -> bytes:
    return b"".join(segments)


def sized(frame: bytes) -> memoryview:
    (size,) = struct.unpack_from(">i", frame)
    assert size == len(frame) - 4
    return memoryview(frame)[4:]


def test_every_advertised_range_is_exactly_that_of_kafka_4_2() -> None:
    assert {int(key): tuple(range_) for key, range_ in ADVERTISED.items()}.items() <= KAFKA_4_2.items()


def test_every_served_version_is_in_the_schema_table() -> None:
    for key, range_ in SERVED.items():
        for find in (request_type, response_type):
            versions = find(key).versions
            assert versions.min <= range_.min <= range_.max <= versions.max, key.name


def test_requests_and_responses_have_the_same_versions_and_know_their_key() -> None:
    for key in SERVED:
        request, response = request_type(key), response_type(key)
        assert request.versions == response.versions
        assert request.api_key == response.api_key == key


def test_the_header_table_agrees_with_the_messages() -> None:
    for key in SERVED:
        assert request_type(key).flexible_since == response_type(key).flexible_since == FLEXIBLE_SINCE[key]


@pytest.mark.parametrize("client_id", ["client", "", None, "kürzel"])
def test_every_request_survives_with_its_header(message_type: type[Message], client_id: str | None, fill: Any) -> None:
    if message_type.api_key is None or not message_type.__name__.endswith("Request"):
        return
    for version in range(message_type.versions.min, message_type.versions.max + 1):
        header = RequestHeader(message_type.api_key, version, 4711, client_id)
        request = fill(message_type, version)
        frame = sized(joined(write_request(header, request)))
        read, position = read_request_header(frame)
        assert (read, read_request(read.api_key, read.api_version, frame, position)) == (header, request)


def test_every_response_survives_with_its_header(message_type: type[Message], fill: Any) -> None:
    if message_type.api_key is None or not message_type.__name__.endswith("Response"):
        return
    for version in range(message_type.versions.min, message_type.versions.max + 1):
        response = fill(message_type, version)
        frame = sized(joined(write_response(message_type.api_key, version, -7, response)))
        assert read_response(message_type.api_key, version, frame) == (-7, response)


def test_a_flexible_request_header_keeps_the_client_id_as_a_plain_string() -> None:
    frame = joined(write_request(RequestHeader(ApiKey.HEARTBEAT, 4, 1, "me"), HeartbeatRequest()))
    assert frame[4:].startswith(bytes.fromhex("000c 0004 00000001 0002") + b"me\0")


def test_header_tags_of_a_request_are_skipped() -> None:
    frame = bytes.fromhex("000c 0004 00000001 0002") + b"me" + b"\x01\x05\x02??" + b"body"
    header, position = read_request_header(memoryview(frame))
    assert (header.client_id, frame[position:]) == ("me", b"body")


def test_the_header_of_an_unknown_version_is_read_so_that_it_can_be_refused() -> None:
    frame = bytes.fromhex("0012 0063 00000009 0001") + b"x\0"
    assert read_request_header(memoryview(frame))[0] == RequestHeader(18, 99, 9, "x")


def test_response_headers_have_tags_from_the_flexible_version_on() -> None:
    assert joined(write_response(ApiKey.HEARTBEAT, 3, 1, HeartbeatResponse()))[4:] == b"\0\0\0\1" + bytes(6)
    assert joined(write_response(ApiKey.HEARTBEAT, 4, 1, HeartbeatResponse()))[4:] == b"\0\0\0\1\0" + bytes(7)


def test_the_response_header_of_api_versions_never_has_tags() -> None:
    frame = joined(write_response(ApiKey.API_VERSIONS, 4, 1, ApiVersionsResponse()))
    assert frame[4:] == b"\0\0\0\1" + b"\0\0" + b"\1" + bytes(4) + b"\0"


def test_an_unsupported_version_of_api_versions_is_answered_in_version_0_with_error_35() -> None:
    """The bytes are those of Apache Kafka 4.2.1."""
    assert joined(write_unsupported_api_versions(7)) == bytes.fromhex("00000010 00000007 0023 00000001 0012 0000 0004")


@pytest.mark.parametrize("version", range(5))
def test_api_versions_lists_what_is_advertised_and_the_features_from_version_3_on(version: int) -> None:
    frame = sized(joined(write_response(ApiKey.API_VERSIONS, version, 1, api_versions_response())))
    _, response = read_response(ApiKey.API_VERSIONS, version, frame)
    assert {k.api_key: (k.min_version, k.max_version) for k in response.api_keys} == ADVERTISED
    assert (response.error_code, response.throttle_time_ms) == (ErrorCode.NONE, 0)
    assert [f.name for f in response.finalized_features] == (sorted(FINALIZED_FEATURES) if version >= 3 else [])
    assert response.finalized_features_epoch == (0 if version >= 3 else -1)


def test_records_of_a_produce_request_are_slices_of_the_frame() -> None:
    partition = PartitionProduceData(index=1, records=b"batch")
    request = ProduceRequest(topic_data=[TopicProduceData(name="t", partition_data=[partition])])
    frame = bytearray(joined(write_request(RequestHeader(ApiKey.PRODUCE, 9, 1, "c"), request)))
    view = memoryview(frame)[4:]
    _, position = read_request_header(view)
    records = read_request(ApiKey.PRODUCE, 9, view, position).topic_data[0].partition_data[0].records
    assert records.obj is frame
    frame[frame.index(b"batch")] = ord("B")
    assert bytes(records) == b"Batch"


def test_records_of_a_fetch_response_are_segments_of_their_own() -> None:
    records = memoryview(b"first batch")
    in_file = FileSlice(fd=3, position=4096, size=300)
    partitions = [PartitionData(partition_index=0, records=records), PartitionData(partition_index=1, records=b"")]
    partitions.append(PartitionData(partition_index=2, records=in_file))
    response = FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=partitions)])
    segments = write_response(ApiKey.FETCH, 12, 1, response)
    assert [s for s in segments if not isinstance(s, bytes)] == [records, in_file]
    assert segments[1] is records
    assert segments[3] is in_file
    on_the_wire = b"".join(b"f" * len(s) if isinstance(s, FileSlice) else bytes(s) for s in segments)
    _, read = read_response(ApiKey.FETCH, 12, sized(on_the_wire))
    assert [bytes(p.records) for p in read.responses[0].partitions] == [b"first batch", b"", b"f" * 300]


def test_a_client_may_ask_in_any_version_of_api_versions() -> None:
    request = ApiVersionsRequest(client_software_name="software", client_software_version="1.0")
    frame = sized(joined(write_request(RequestHeader(ApiKey.API_VERSIONS, 4, 1, None), request)))
    header, position = read_request_header(frame)
    assert header.client_id is None
    assert read_request(ApiKey.API_VERSIONS, 4, frame, position) == request
