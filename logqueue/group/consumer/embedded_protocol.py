"""What classic consumers tell each other inside JoinGroup and SyncGroup, read and written by the coordinator. Pure.

Only for classic members of consumer groups (KIP-848 migration): of a classic group the coordinator knows no more than
the topics (`subscription`).
"""

from __future__ import annotations

from collections.abc import Sequence

from logqueue.coordination.topics import Topics
from logqueue.group.consumer.member import Partitions, partitions_of
from logqueue.protocol import codec
from logqueue.protocol.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
    TopicPartition,
)
from logqueue.protocol.wire import MalformedFrame


def read_subscription(metadata: bytes) -> ConsumerProtocolSubscription:
    """The subscription in a member's join metadata. Raises MalformedFrame."""
    return codec.read_versioned(ConsumerProtocolSubscription, metadata, is_forward_compatible=True)


def version_of(metadata: bytes) -> int:
    """The version of the embedded protocol that a member speaks, at most the newest known; 0 if it does not say."""
    try:
        said = codec.read_version(metadata)
    except MalformedFrame:
        return 0
    return min(max(said, 0), ConsumerProtocolAssignment.versions.max)


def read_assignment(assignment: bytes, topics: Topics) -> tuple[Partitions, bytes]:
    """Partitions of a member's assignment, of topics that exist, and what its assignor added. Raises MalformedFrame."""
    if not assignment:
        return {}, b""
    read = codec.read_versioned(ConsumerProtocolAssignment, assignment, is_forward_compatible=True)
    return by_id(read.assigned_partitions, topics), bytes(read.user_data or b"")


def write_assignment(partitions: Partitions, *, version: int, topics: Topics) -> bytes:
    """An assignment as the member's client reads it; topics that are gone are left out."""
    assigned = [
        TopicPartition(topic=name, partitions=sorted(indexes))
        for topic_id, indexes in partitions.items()
        if (name := topics.name_of(topic_id)) is not None
    ]
    return codec.write_versioned(ConsumerProtocolAssignment(assigned_partitions=assigned), version)


def by_id(owned: Sequence[TopicPartition], topics: Topics) -> Partitions:
    """Partitions named by topic, of topics that exist, by topic id."""
    found = ((topics.id_of(topic.topic), topic.partitions) for topic in owned)
    return partitions_of((topic_id, indexes) for topic_id, indexes in found if topic_id is not None)
