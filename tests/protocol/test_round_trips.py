"""Every message in every version survives writing and reading."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logqueue.protocol import codec
from logqueue.protocol.messages.offset_commit import OffsetCommitRequest
from logqueue.protocol.schema import Message
from logqueue.protocol.wire import uvarint


def versions_of(message_type: type[Message]) -> range:
    return range(message_type.versions.min, message_type.versions.max + 1)


VARIANTS = ["full", "null", "empty"]


def joined(message: Message, version: int) -> bytes:
    return b"".join(codec.write(message, version))  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_version_of_every_message_survives_a_round_trip(
    message_type: type[Message], variant: str, fill: Any
) -> None:
    for version in versions_of(message_type):
        message = fill(message_type, version, variant)
        data = joined(message, version)
        assert codec.read(message_type, version, data) == (message, len(data)), f"version {version}"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_value_survives_a_round_trip(message_type: type[Message], strategy_of: Any, data: st.DataObject) -> None:
    version = data.draw(st.integers(*message_type.versions))
    message = data.draw(strategy_of(message_type, version))
    written = joined(message, version)
    assert codec.read(message_type, version, written) == (message, len(written))


def test_reading_starts_where_it_is_told(fill: Any) -> None:
    for version in versions_of(OffsetCommitRequest):
        message = fill(OffsetCommitRequest, version)
        data = b"header" + joined(message, version) + b"after"
        read, end = codec.read(OffsetCommitRequest, version, data, 6)
        assert (read, data[end:]) == (message, b"after")


def test_a_field_that_a_version_lacks_reads_as_its_default(message_type: type[Message]) -> None:
    default = message_type()
    for version in versions_of(message_type):
        read, _ = codec.read(message_type, version, joined(default, version))
        for field in message_type.fields:
            if not field.is_in(version):
                assert getattr(read, field.name) == getattr(default, field.name), f"{field.name} in version {version}"


@pytest.mark.parametrize("length", [126, 127, 128, 129, 16_383, 16_384])
def test_lengths_that_need_a_longer_varint_survive(length: int) -> None:
    from logqueue.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

    small = PartitionProduceData(index=1, records=b"")
    topic = TopicProduceData(
        name="t" * length, partition_data=[small] * length + [PartitionProduceData(index=2, records=b"r" * length)]
    )
    message = ProduceRequest(transactional_id="i" * length, topic_data=[topic, *[TopicProduceData(name="u")] * length])
    data = joined(message, 9)
    assert codec.read(ProduceRequest, 9, data) == (message, len(data))


@pytest.mark.parametrize("length", [0, 1, 2, 15, 16, 17, 126, 127, 128, 300])
@pytest.mark.parametrize("version", [0, 8, 9, 12])
def test_arrays_of_numbers_of_any_length_survive_in_a_row(length: int, version: int) -> None:
    from logqueue.protocol.messages.metadata import MetadataResponse, MetadataResponsePartition, MetadataResponseTopic

    numbers = list(range(length))
    partitions = [
        MetadataResponsePartition(replica_nodes=numbers, isr_nodes=[7]),
        MetadataResponsePartition(replica_nodes=[1], isr_nodes=numbers),
        MetadataResponsePartition(replica_nodes=numbers, isr_nodes=numbers),
    ]
    message = MetadataResponse(topics=[MetadataResponseTopic(name="t", partitions=partitions)])
    data = joined(message, version)
    assert codec.read(MetadataResponse, version, data) == (message, len(data))


def test_none_is_written_as_empty_in_versions_before_the_field_could_be_null() -> None:
    from logqueue.protocol.messages.join_group import JoinGroupResponse
    from logqueue.protocol.messages.metadata import MetadataRequest

    assert codec.read(JoinGroupResponse, 6, joined(JoinGroupResponse(protocol_name=None), 6))[0].protocol_name == ""
    assert codec.read(JoinGroupResponse, 7, joined(JoinGroupResponse(protocol_name=None), 7))[0].protocol_name is None
    assert codec.read(MetadataRequest, 0, joined(MetadataRequest(topics=None), 0))[0].topics == []


def test_unknown_tagged_fields_are_skipped(message_type: type[Message], fill: Any) -> None:
    unknown = b"\x02" + uvarint(90) + uvarint(3) + b"abc" + uvarint(5_000) + uvarint(0)
    for version in versions_of(message_type):
        if version >= message_type.flexible_since:
            plain = fill(message_type, version, "null")  # without tagged fields: the last byte is the empty tag buffer
            data = joined(plain, version)
            assert data[-1:] == b"\0"
            read, end = codec.read(message_type, version, data[:-1] + unknown)
            assert (read, end) == (plain, len(data) - 1 + len(unknown)), f"version {version}"


def test_unknown_tags_are_skipped_beside_known_ones() -> None:
    from logqueue.protocol.messages.fetch import FetchRequest

    data = joined(FetchRequest(cluster_id="cluster"), 12)
    known = b"\x01\x00\x08\x08cluster"
    assert data.endswith(known)
    mixed = data[: -len(known)] + b"\x03\x00\x08\x08cluster\x07\x01?\x09\x00"
    assert codec.read(FetchRequest, 12, mixed) == (FetchRequest(cluster_id="cluster"), len(mixed))


def test_a_tagged_field_at_its_default_is_not_sent() -> None:
    from logqueue.protocol.messages.api_versions import ApiVersionsResponse

    assert joined(ApiVersionsResponse(), 3) == b"\0\0" + b"\x01" + b"\0\0\0\0" + b"\0"
    assert joined(ApiVersionsResponse(finalized_features_epoch=0), 3).endswith(b"\x01\x01\x08" + bytes(8))
