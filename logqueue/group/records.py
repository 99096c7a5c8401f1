"""The records of `__consumer_offsets`, and their bytes: here the two kinds a classic group leaves.

Key version 1: a committed offset; key version 2: a group. Kafka 4 writes values as version 3, and version 1 where an
old client gave its commit a time to live. A tombstone removes what its key names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias, Union

from logqueue.coordination.effects import LogRecord
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.member import Member, Protocol
from logqueue.group.classic.states import EMPTY, STABLE
from logqueue.ids import TopicPartition
from logqueue.protocol import codec
from logqueue.protocol.messages.consumer_offsets import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
    read_key,
)
from logqueue.protocol.wire import STRING_BYTES_MAX

if TYPE_CHECKING:
    from logqueue.group.consumer.records import ConsumerChange

OFFSET_KEY_VERSION = 1
GROUP_KEY_VERSION = 2
CONSUMER_KEY_VERSIONS = frozenset({3, 5, 6, 7, 8, 16})  # KIP-848, see consumer_records
VALUE_VERSION = 3
EXPIRING_OFFSET_VALUE_VERSION = 1

NO_EXPIRY = -1


class CommittedOffset(NamedTuple):
    """A position a group has committed, with what the client wrote beside it."""

    offset: int
    leader_epoch: int
    metadata: str
    commit_time_ms: int
    expire_time_ms: int = NO_EXPIRY  # set by clients older than OffsetCommit v5 only


class OffsetChange(NamedTuple):
    """A committed offset, or with None its removal."""

    group_id: str
    position: TopicPartition
    committed: CommittedOffset | None


class GroupChange(NamedTuple):
    """A group as of a generation, or with None its removal."""

    group_id: str
    value: GroupMetadataValue | None


Change: TypeAlias = Union[OffsetChange, GroupChange, "ConsumerChange"]


def is_storable(text: str | None) -> bool:
    """Whether a string fits into a record."""
    return text is None or len(text) * 4 <= STRING_BYTES_MAX or len(text.encode()) <= STRING_BYTES_MAX


def encode(change: Change) -> LogRecord:
    """The bytes of a change."""
    match change:
        case OffsetChange(group_id, (topic, partition), committed):
            offset_key = OffsetCommitKey(group=group_id, topic=topic, partition=partition)
            key = codec.write_versioned(offset_key, OFFSET_KEY_VERSION)
            return LogRecord(key, None if committed is None else _encode_offset(committed))
        case GroupChange(group_id, value):
            key = codec.write_versioned(GroupMetadataKey(group=group_id), GROUP_KEY_VERSION)
            return LogRecord(key, None if value is None else codec.write_versioned(value, VALUE_VERSION))
        case _:
            from logqueue.group.consumer import records as consumer_records

            return consumer_records.encode(change)


def decode(key: bytes, value: bytes | None) -> Change | None:
    """The change behind a record; None for kinds that belong to other coordinators. Raises MalformedFrame.

    Kinds of a later version are passed over as Kafka does after a downgrade (KIP-915).
    """
    match read_key(key):
        case OffsetCommitKey(group=group_id, topic=topic, partition=partition):
            committed = None if value is None else _decode_offset(value)
            return OffsetChange(group_id, TopicPartition(topic, partition), committed)
        case GroupMetadataKey(group=group_id):
            return GroupChange(group_id, None if value is None else codec.read_versioned(GroupMetadataValue, value))
        case None:
            return _decode_consumer_record(key, value)


def _decode_consumer_record(key: bytes, value: bytes | None) -> ConsumerChange | None:
    kind = codec.read_version(key)
    if kind not in CONSUMER_KEY_VERSIONS:
        return None
    from logqueue.group.consumer import (
        records as consumer_records,  # not needed, nor imported, where there are classic groups only
    )

    return consumer_records.decode(kind, key, value)


def _encode_offset(committed: CommittedOffset) -> bytes:
    value = OffsetCommitValue(
        offset=committed.offset,
        leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
        commit_timestamp=committed.commit_time_ms,
        expire_timestamp=committed.expire_time_ms,
    )
    expires = committed.expire_time_ms != NO_EXPIRY
    return codec.write_versioned(value, EXPIRING_OFFSET_VALUE_VERSION if expires else VALUE_VERSION)


def _decode_offset(data: bytes) -> CommittedOffset:
    value = codec.read_versioned(OffsetCommitValue, data)
    return CommittedOffset(
        value.offset, value.leader_epoch, value.metadata, value.commit_timestamp, value.expire_timestamp
    )


def group_value(group: ClassicGroup, assignments: dict[str, bytes]) -> GroupMetadataValue:
    """What is stored of a group: its generation, and every member with its subscription and assignment."""
    members = [
        MemberMetadata(
            member_id=member.member_id,
            group_instance_id=member.instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            rebalance_timeout=member.rebalance_timeout_ms,
            session_timeout=member.session_timeout_ms,
            subscription=b"" if group.protocol is None else member.metadata(group.protocol),
            assignment=assignments.get(member.member_id, b""),
        )
        for member in group.members.values()
    ]
    return GroupMetadataValue(
        protocol_type=group.protocol_type or "",
        generation=group.generation,
        protocol=group.protocol,
        leader=group.leader,
        current_state_timestamp=group.state_time_ms,
        members=members,
    )


def group_from_value(group_id: str, value: GroupMetadataValue) -> ClassicGroup:
    """The group that a stored value describes: Stable when it has members, else Empty."""
    group = ClassicGroup(
        group_id,
        state=STABLE if value.members else EMPTY,
        state_time_ms=value.current_state_timestamp,
        generation=value.generation,
        protocol_type=value.protocol_type or None,
        protocol=value.protocol,
        leader=value.leader,
    )
    for stored in value.members:
        unset = stored.rebalance_timeout == -1
        group.add(
            Member(
                member_id=stored.member_id,
                instance_id=stored.group_instance_id,
                client_id=stored.client_id,
                client_host=stored.client_host,
                rebalance_timeout_ms=stored.session_timeout if unset else stored.rebalance_timeout,
                session_timeout_ms=stored.session_timeout,
                protocols=(Protocol(value.protocol or "", stored.subscription),),
                assignment=stored.assignment,
            )
        )
    group.refresh_topics()
    return group
