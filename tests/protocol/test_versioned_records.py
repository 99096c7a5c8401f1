"""Messages inside records: consumer offsets, and what consumers tell each other."""

from __future__ import annotations

import pytest

from logqueue.protocol import MalformedFrame, UnsupportedVersion
from logqueue.protocol.codec import read_version, read_versioned, write_versioned
from logqueue.protocol.messages.consumer_offsets import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
    read_key,
)
from logqueue.protocol.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    TopicPartition,
)


def test_offset_keys_and_values_have_the_bytes_of_kafka() -> None:
    key = OffsetCommitKey(group="g", topic="t", partition=3)
    assert write_versioned(key, 1) == bytes.fromhex("0001 0001 67 0001 74 00000003")
    value = OffsetCommitValue(offset=5, leader_epoch=2, metadata="m", commit_timestamp=9)
    assert write_versioned(value, 3) == bytes.fromhex("0003 0000000000000005 00000002 0001 6d 0000000000000009")
    assert read_versioned(OffsetCommitValue, write_versioned(value, 3)) == value


def test_group_metadata_survives_and_tells_its_version() -> None:
    member = MemberMetadata(member_id="m", group_instance_id=None, client_id="c", client_host="/1", session_timeout=9)
    value = GroupMetadataValue(protocol_type="consumer", generation=4, protocol="range", leader="m", members=[member])
    data = write_versioned(value, 3)
    assert (read_version(data), read_versioned(GroupMetadataValue, data)) == (3, value)


@pytest.mark.parametrize(
    ("key", "version"),
    [
        (OffsetCommitKey(group="g", topic="t", partition=1), 0),
        (OffsetCommitKey(group="g", topic="t", partition=1), 1),
        (GroupMetadataKey(group="g"), 2),
    ],
)
def test_the_version_of_a_key_is_its_kind(key: OffsetCommitKey | GroupMetadataKey, version: int) -> None:
    assert read_key(write_versioned(key, version)) == key


def test_keys_of_kinds_that_are_not_ours_are_left_alone() -> None:
    assert read_key(bytes.fromhex("0003 0001 67")) is None


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\1", b"\0\1\0\5abc"])
def test_damaged_keys_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedFrame):
        read_key(data)


def test_a_value_of_a_version_from_the_future_is_unsupported() -> None:
    with pytest.raises(UnsupportedVersion, match="OffsetCommitValue has versions 0 to 4"):
        read_versioned(OffsetCommitValue, bytes.fromhex("0009 00"))


def test_a_subscription_of_a_newer_version_is_read_as_the_newest_known_one() -> None:
    owned = [TopicPartition(topic="t", partitions=[1, 2])]
    subscription = ConsumerProtocolSubscription(
        topics=["t"], user_data=b"u", owned_partitions=owned, generation_id=3, rack_id="r"
    )
    newer = b"\0\7" + write_versioned(subscription, 3)[2:] + b"fields of version 7"
    assert read_versioned(ConsumerProtocolSubscription, newer, is_forward_compatible=True) == subscription
    with pytest.raises(UnsupportedVersion):
        read_versioned(ConsumerProtocolSubscription, newer)


def test_an_assignment_has_the_bytes_of_kafka() -> None:
    assignment = ConsumerProtocolAssignment(assigned_partitions=[TopicPartition(topic="t", partitions=[0])])
    assert write_versioned(assignment, 0) == bytes.fromhex("0000 00000001 0001 74 00000001 00000000 ffffffff")
