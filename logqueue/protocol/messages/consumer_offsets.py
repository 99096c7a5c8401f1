"""Records of `__consumer_offsets` for classic groups. A key's version is its kind; a missing value is a tombstone.

Keys: 0 and 1 offset commits (0 is legacy), 2 group metadata; the rest are KIP-848, share and streams groups. Kafka 4
writes offset values and group values as version 3 (version 4 is flexible, KIP-915).
"""

from __future__ import annotations

from logqueue.protocol.codec import read_version, read_versioned
from logqueue.protocol.fields import array, bytes_, int32, int64, string, uuid
from logqueue.protocol.schema import Message, Struct
from logqueue.protocol.wire import Buffer


class OffsetCommitKey(Message, versions=(0, 1)):
    group: str = string()
    topic: str = string()
    partition: int = int32()


class OffsetCommitValue(Message, versions=(0, 4), flexible=4):
    offset: int = int64()
    leader_epoch: int = int32(since=3, default=-1)
    metadata: str = string()
    commit_timestamp: int = int64()
    expire_timestamp: int = int64(since=1, until=1, default=-1)
    topic_id: bytes = uuid(since=4, tag=0)


class GroupMetadataKey(Message, versions=(2, 2)):
    group: str = string()


class MemberMetadata(Struct):
    member_id: str = string()
    group_instance_id: str | None = string(since=3, nullable=0)
    client_id: str = string()
    client_host: str = string()
    rebalance_timeout: int = int32(since=1, default=-1)
    session_timeout: int = int32()
    subscription: bytes = bytes_()
    assignment: bytes = bytes_()


class GroupMetadataValue(Message, versions=(0, 4), flexible=4):
    protocol_type: str = string()
    generation: int = int32()
    protocol: str | None = string(nullable=0)
    leader: str | None = string(nullable=0)
    current_state_timestamp: int = int64(since=2, default=-1)
    members: list[MemberMetadata] = array(MemberMetadata)


KEYS: dict[int, type[Message]] = {0: OffsetCommitKey, 1: OffsetCommitKey, 2: GroupMetadataKey}


def read_key(buf: Buffer) -> OffsetCommitKey | GroupMetadataKey | None:
    """The key of a record; None for kinds that are not ours to read. Raises MalformedFrame."""
    kind = KEYS.get(read_version(buf))
    if kind is None:
        return None
    key = read_versioned(kind, buf)
    assert isinstance(key, OffsetCommitKey | GroupMetadataKey)
    return key
