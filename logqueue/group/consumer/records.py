"""The records a consumer group (KIP-848) leaves in `__consumer_offsets`, and their bytes. Values are version 0.

| key | change             | what it stores                                    |
|-----|--------------------|---------------------------------------------------|
| 3   | EpochChange        | the group's epoch; its removal removes the group  |
| 5   | ProfileChange      | a member's subscription; its removal the member   |
| 6   | TargetEpochChange  | the epoch of the target assignment                |
| 7   | TargetChange       | what a member is to hold                          |
| 8   | StandingChange     | what a member holds, and at which epoch           |
| 16  | RegexChange        | the topics that a regular expression matched      |

Key 4 (metadata of the subscribed topics, Kafka 4.0) is passed over: Kafka 4.1 writes a hash in key 3 instead.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from logqueue.coordination.effects import LogRecord
from logqueue.group.classic.member import Protocol
from logqueue.group.consumer.member import ClassicSide, MemberState, Partitions, Profile, Standing, partitions_of
from logqueue.protocol import codec
from logqueue.protocol.messages import consumer_group_records as schema
from logqueue.protocol.schema import Message

VALUE_VERSION = 0


class EpochChange(NamedTuple):
    """The group's epoch, with the hash of its topics' metadata; None removes the group."""

    group_id: str
    epoch: int | None
    metadata_hash: int = 0


class ProfileChange(NamedTuple):
    """What a member says of itself; None removes the member."""

    group_id: str
    member_id: str
    profile: Profile | None


class TargetEpochChange(NamedTuple):
    """The group epoch that the targets were worked out for."""

    group_id: str
    epoch: int | None


class TargetChange(NamedTuple):
    """What a member is to hold."""

    group_id: str
    member_id: str
    partitions: Partitions | None


class StandingChange(NamedTuple):
    """Where a member stands."""

    group_id: str
    member_id: str
    standing: Standing | None


class ResolvedRegex(NamedTuple):
    """Topics that a regular expression matched, and when; `version` counts changes of the topics."""

    topics: frozenset[str]
    version: int
    time_ms: int


class RegexChange(NamedTuple):
    """What a regular expression matches."""

    group_id: str
    regex: str
    resolved: ResolvedRegex | None


ConsumerChange: TypeAlias = (
    EpochChange | ProfileChange | TargetEpochChange | TargetChange | StandingChange | RegexChange
)

_KEYS: dict[int, type[Message]] = {
    3: schema.ConsumerGroupMetadataKey,
    5: schema.ConsumerGroupMemberMetadataKey,
    6: schema.ConsumerGroupTargetAssignmentMetadataKey,
    7: schema.ConsumerGroupTargetAssignmentMemberKey,
    8: schema.ConsumerGroupCurrentMemberAssignmentKey,
    16: schema.ConsumerGroupRegularExpressionKey,
}


def is_removal(change: ConsumerChange) -> bool:
    """Whether the change is a tombstone."""
    return (change.epoch if isinstance(change, EpochChange) else change[-1]) is None


def encode(change: ConsumerChange) -> LogRecord:
    """The bytes of a change."""
    key, value = _messages(change)
    key_bytes = codec.write_versioned(key, key.versions.max)
    return LogRecord(key_bytes, None if value is None else codec.write_versioned(value, VALUE_VERSION))


def _messages(change: ConsumerChange) -> tuple[Message, Message | None]:
    match change:
        case EpochChange(group_id, epoch, metadata_hash):
            value = None
            if epoch is not None:
                value = schema.ConsumerGroupMetadataValue(epoch=epoch, metadata_hash=metadata_hash)
            return schema.ConsumerGroupMetadataKey(group_id=group_id), value
        case ProfileChange(group_id, member_id, profile):
            member_key = schema.ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member_id)
            return member_key, None if profile is None else _profile_value(profile)
        case TargetEpochChange(group_id, epoch):
            epoch_key = schema.ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id)
            if epoch is None:
                return epoch_key, None
            return epoch_key, schema.ConsumerGroupTargetAssignmentMetadataValue(assignment_epoch=epoch)
        case TargetChange(group_id, member_id, partitions):
            target_key = schema.ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id)
            return target_key, None if partitions is None else _target_value(partitions)
        case StandingChange(group_id, member_id, standing):
            standing_key = schema.ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member_id)
            return standing_key, None if standing is None else _standing_value(standing)
        case RegexChange(group_id, regex, resolved):
            regex_key = schema.ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=regex)
            return regex_key, None if resolved is None else _regex_value(resolved)


def _profile_value(profile: Profile) -> Message:
    classic = None
    if profile.classic is not None:
        classic = schema.ClassicMemberMetadata(
            session_timeout_ms=profile.classic.session_timeout_ms,
            supported_protocols=[
                schema.ClassicProtocol(name=name, metadata=metadata) for name, metadata in profile.classic.protocols
            ],
        )
    return schema.ConsumerGroupMemberMetadataValue(
        instance_id=profile.instance_id,
        rack_id=profile.rack_id,
        client_id=profile.client_id,
        client_host=profile.client_host,
        subscribed_topic_names=sorted(profile.topics),
        subscribed_topic_regex=profile.regex,
        rebalance_timeout_ms=profile.rebalance_timeout_ms,
        server_assignor=profile.assignor,
        classic_member_metadata=classic,
    )


def _target_value(partitions: Partitions) -> Message:
    return schema.ConsumerGroupTargetAssignmentMemberValue(
        topic_partitions=[
            schema.TopicPartition(topic_id=topic_id, partitions=sorted(indexes))
            for topic_id, indexes in partitions.items()
        ]
    )


def _standing_value(standing: Standing) -> Message:
    return schema.ConsumerGroupCurrentMemberAssignmentValue(
        member_epoch=standing.epoch,
        previous_member_epoch=standing.previous_epoch,
        state=standing.state,
        assigned_partitions=_topic_partitions(standing.assigned),
        partitions_pending_revocation=_topic_partitions(standing.revoking),
    )


def _topic_partitions(partitions: Partitions) -> list[schema.TopicPartitions]:
    return [
        schema.TopicPartitions(topic_id=topic_id, partitions=sorted(indexes))
        for topic_id, indexes in partitions.items()
    ]


def _regex_value(resolved: ResolvedRegex) -> Message:
    return schema.ConsumerGroupRegularExpressionValue(
        topics=sorted(resolved.topics), version=resolved.version, timestamp=resolved.time_ms
    )


def decode(kind: int, key: bytes, value: bytes | None) -> ConsumerChange:
    """The change behind a record whose key has version `kind`. Raises MalformedFrame."""
    match codec.read_versioned(_KEYS[kind], key):
        case schema.ConsumerGroupMetadataKey(group_id=group_id):
            if value is None:
                return EpochChange(group_id, None)
            epoch = codec.read_versioned(schema.ConsumerGroupMetadataValue, value)
            return EpochChange(group_id, epoch.epoch, epoch.metadata_hash)
        case schema.ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member_id):
            return ProfileChange(group_id, member_id, None if value is None else _read_profile(value))
        case schema.ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id):
            if value is None:
                return TargetEpochChange(group_id, None)
            stored = codec.read_versioned(schema.ConsumerGroupTargetAssignmentMetadataValue, value)
            return TargetEpochChange(group_id, stored.assignment_epoch)
        case schema.ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id):
            if value is None:
                return TargetChange(group_id, member_id, None)
            target = codec.read_versioned(schema.ConsumerGroupTargetAssignmentMemberValue, value)
            pairs = ((topic.topic_id, topic.partitions) for topic in target.topic_partitions)
            return TargetChange(group_id, member_id, partitions_of(pairs))
        case schema.ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member_id):
            return StandingChange(group_id, member_id, None if value is None else _read_standing(value))
        case schema.ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=regex):
            if value is None:
                return RegexChange(group_id, regex, None)
            resolved = codec.read_versioned(schema.ConsumerGroupRegularExpressionValue, value)
            kept = ResolvedRegex(frozenset(resolved.topics), resolved.version, resolved.timestamp)
            return RegexChange(group_id, regex, kept)
        case other:
            raise AssertionError(f"{other!r} is no key of a consumer group")


def _read_profile(data: bytes) -> Profile:
    value = codec.read_versioned(schema.ConsumerGroupMemberMetadataValue, data)
    classic = None
    if value.classic_member_metadata is not None:
        stored = value.classic_member_metadata
        protocols = tuple(Protocol(protocol.name, protocol.metadata) for protocol in stored.supported_protocols)
        classic = ClassicSide(session_timeout_ms=stored.session_timeout_ms, protocols=protocols)
    return Profile(
        instance_id=value.instance_id,
        rack_id=value.rack_id,
        client_id=value.client_id,
        client_host=value.client_host,
        topics=frozenset(value.subscribed_topic_names),
        regex=value.subscribed_topic_regex or "",
        rebalance_timeout_ms=value.rebalance_timeout_ms,
        assignor=value.server_assignor,
        classic=classic,
    )


def _read_standing(data: bytes) -> Standing:
    value = codec.read_versioned(schema.ConsumerGroupCurrentMemberAssignmentValue, data)
    return Standing(
        epoch=value.member_epoch,
        previous_epoch=value.previous_member_epoch,
        state=MemberState.of(value.state),
        assigned=partitions_of((topic.topic_id, topic.partitions) for topic in value.assigned_partitions),
        revoking=partitions_of((topic.topic_id, topic.partitions) for topic in value.partitions_pending_revocation),
    )
