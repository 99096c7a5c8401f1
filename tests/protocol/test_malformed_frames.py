"""Whatever bytes arrive, the answer is a message or MalformedFrame: nothing else, and nothing large is built first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logqueue.errors import ErrorCode
from logqueue.protocol import MalformedFrame, UnsupportedVersion, codec
from logqueue.protocol.api import FLEXIBLE_SINCE, ApiKey
from logqueue.protocol.frames import read_request, read_request_header, read_response
from logqueue.protocol.messages.delete_groups import DeleteGroupsRequest
from logqueue.protocol.messages.fetch import FetchRequest
from logqueue.protocol.messages.join_group import JoinGroupResponse
from logqueue.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from logqueue.protocol.messages.offset_commit import OffsetCommitRequest
from logqueue.protocol.messages.produce import ProduceRequest
from logqueue.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from logqueue.protocol.reading import ELEMENTS_MAX
from logqueue.protocol.schema import Message
from logqueue.protocol.wire import STRING_BYTES_MAX


@pytest.mark.parametrize("variant", ["full", "null"])
def test_a_frame_cut_at_any_byte_is_malformed(message_type: type[Message], variant: str, fill: Any) -> None:
    for version in range(message_type.versions.min, message_type.versions.max + 1):
        data = b"".join(codec.write(fill(message_type, version, variant), version))
        for size in range(len(data)):
            with pytest.raises(MalformedFrame):
                codec.read(message_type, version, data[:size])


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_random_bytes_are_a_message_or_malformed(message_type: type[Message], data: st.DataObject) -> None:
    version = data.draw(st.integers(*message_type.versions))
    _read_anything(message_type, version, data.draw(st.binary(max_size=80)))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_a_message_or_malformed(message_type: type[Message], fill: Any, data: st.DataObject) -> None:
    version = data.draw(st.integers(*message_type.versions))
    frame = bytearray(b"".join(codec.write(fill(message_type, version), version)))
    if frame:
        position = data.draw(st.integers(0, len(frame) - 1))
        frame[position] = data.draw(st.integers(0, 255))
    _read_anything(message_type, version, bytes(frame))


def _read_anything(message_type: type[Message], version: int, frame: bytes) -> None:
    try:
        read, end = codec.read(message_type, version, frame)
    except MalformedFrame as error:
        assert error.code is ErrorCode.INVALID_REQUEST
    else:
        assert isinstance(read, message_type)
        assert end <= len(frame)


@given(st.binary(max_size=40))
def test_random_headers_are_read_or_malformed(frame: bytes) -> None:
    try:
        _, position = read_request_header(memoryview(frame))
    except MalformedFrame:
        return
    assert position <= len(frame)


@given(st.sampled_from(sorted(FLEXIBLE_SINCE)), st.integers(-1, 20), st.binary(max_size=40))
def test_random_request_bodies_are_read_or_refused(key: int, version: int, frame: bytes) -> None:
    for read in (read_request, read_response):
        try:
            read(key, version, memoryview(frame))
        except (MalformedFrame, UnsupportedVersion):
            pass


@pytest.mark.parametrize(
    ("message", "version", "frame"),
    [
        (MetadataRequest, 1, "7fffffff"),  # two billion topics in no bytes
        (MetadataRequest, 9, "ffffffff0f"),
        (FetchRequest, 4, "ffffffff 00000000 00000000 00000000 00 7fffffff"),
        (OffsetCommitRequest, 2, "0001 67 00000000 0001 6d 0000000000000000 ffffffff"),  # a null list that must not be
        (OffsetCommitRequest, 2, "ffff 00000000 0000 0000000000000000 00000000"),  # a null group
        (
            ProduceRequest,
            3,
            "8000 0001 00000000 00000001 0001 74 00000001 00000000 7fffffff",
        ),  # no such records
        (ProduceRequest, 9, "00 0001 00000000 ffffffffff7f"),  # a varint of six bytes
        (JoinGroupResponse, 0, "0000 00000001 0002 c328 0000 0000 00000000"),  # not UTF-8
        (ProduceRequest, 9, "00 0001 00000000 01 01 00 ff"),  # a tag buffer past the end
        (MetadataRequest, 12, "01 00 00 ffffffff0f"),  # four billion tags
    ],
)
def test_lengths_that_lie_are_malformed(message: type[Message], version: int, frame: str) -> None:
    with pytest.raises(MalformedFrame):
        codec.read(message, version, bytes.fromhex(frame))


def test_a_null_array_where_there_is_no_null_is_malformed_and_says_which() -> None:
    with pytest.raises(MalformedFrame, match="topics"):
        codec.read(OffsetCommitRequest, 2, bytes.fromhex("0001 67 00000000 0001 6d 0000000000000000 ffffffff"))


def test_a_frame_of_too_many_elements_is_malformed_before_they_are_built() -> None:
    names = ELEMENTS_MAX + 1
    frame = names.to_bytes(4, "big") + bytes(2 * names)
    with pytest.raises(MalformedFrame, match="more than 1000000 elements"):
        codec.read(MetadataRequest, 1, frame)


@pytest.mark.parametrize(
    ("make", "version"),
    [
        (lambda text: MetadataRequest(topics=[MetadataRequestTopic(name=text)]), 9),
        (lambda text: DeleteGroupsRequest(groups_names=[text]), 2),
        (lambda text: FetchRequest(cluster_id=text), 12),
    ],
    ids=["nullable", "in an array", "tagged"],
)
def test_a_compact_string_is_no_longer_than_a_plain_one(make: Callable[[str], Message], version: int) -> None:
    for text in ("x" * STRING_BYTES_MAX, "\u00fc" * (STRING_BYTES_MAX // 2)):
        fits = make(text)
        codec.read(type(fits), version, b"".join(codec.write(fits, version)))
        beyond = make(text + "\u00fc")
        with pytest.raises(MalformedFrame, match=r"a string of 3276[89] bytes"):
            codec.read(type(beyond), version, b"".join(codec.write(beyond, version)))


def test_compact_bytes_may_be_long() -> None:
    request = SaslAuthenticateRequest(auth_bytes=b"x" * 100_000)
    assert codec.read(SaslAuthenticateRequest, 2, b"".join(codec.write(request, 2)))[0].auth_bytes == request.auth_bytes


def test_a_tagged_field_must_be_as_long_as_it_says() -> None:
    data = b"".join(codec.write(FetchRequest(cluster_id="cluster"), 12))
    with pytest.raises(MalformedFrame, match="as long as it says"):
        codec.read(FetchRequest, 12, data.replace(b"\x00\x08\x08cluster", b"\x00\x09\x08cluster?"))


def test_a_version_outside_the_table_is_unsupported() -> None:
    with pytest.raises(UnsupportedVersion, match="4 to 18"):
        read_request(ApiKey.FETCH, 3, memoryview(b""))
    with pytest.raises(UnsupportedVersion, match="API key 4711"):
        read_request(4711, 0, memoryview(b""))


def test_a_request_of_an_unknown_key_is_malformed() -> None:
    with pytest.raises(MalformedFrame, match="API key 999"):
        read_request_header(memoryview(bytes.fromhex("03e7 0000 00000001 ffff")))
