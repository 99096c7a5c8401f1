"""Assigns partitions evenly and moves as few as it can, so that running jobs stay where they run. No IO.

Every member tells in its join request which partitions it has. The leader shares out topic by topic, since topics
differ in load; members keep what they have up to their share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from logqueue.ids import TopicPartition

_VERSION = 0
_Owned = list[tuple[str, list[int]]]


class StickyAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """One per consumer: it remembers what this member was given last."""

    name = "logqueue-sticky"

    def __init__(self) -> None:
        self._owned: _Owned = []

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """This member's part of the join request."""
        return ConsumerProtocolMemberMetadata(_VERSION, sorted(topics), msgspec.json.encode(self._owned))

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Remember what this member has from now on."""
        self._owned = [(topic, list(partitions)) for topic, partitions in assignment.assignment]

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Called on the group's leader with what every member told."""
        subscriptions = {member: set(metadata.subscription) for member, metadata in members.items()}
        partitions = [
            TopicPartition(topic, partition)
            for topic in sorted(set().union(*subscriptions.values()))
            for partition in sorted(cluster.partitions_for_topic(topic) or ())
        ]
        owned = {member: _read_owned(metadata.user_data) for member, metadata in members.items()}
        shares = share_out(partitions, subscriptions, owned)
        return {member: _assignment(share) for member, share in shares.items()}


def share_out(
    partitions: Sequence[TopicPartition],
    subscriptions: Mapping[str, set[str]],
    owned: Mapping[str, Sequence[TopicPartition]],
) -> dict[str, list[TopicPartition]]:
    """Who gets which partition. Every partition some member subscribes to is given to exactly one of these.

    Each topic is shared evenly among those who subscribe to it, and what is left over of a topic goes to those who have
    least so far: where all subscribe alike, all counts differ by at most one, in each topic and in all. A member keeps
    of every topic as many of its partitions as its share has room for.
    """
    shares: dict[str, list[TopicPartition]] = {member: [] for member in sorted(subscriptions)}
    topics: dict[str, list[TopicPartition]] = {}
    for partition in partitions:
        topics.setdefault(partition.topic, []).append(partition)
    for topic in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        able = [member for member in shares if topic in subscriptions[member]]
        if able:
            _share_topic(topics[topic], able, owned, shares)
    return shares


def _share_topic(
    partitions: Sequence[TopicPartition],
    members: Sequence[str],
    owned: Mapping[str, Sequence[TopicPartition]],
    shares: dict[str, list[TopicPartition]],
) -> None:
    """Add one topic's partitions to the shares of these members."""
    left = dict.fromkeys(partitions)
    claims = {member: [p for p in dict.fromkeys(owned.get(member, ())) if p in left] for member in members}
    floor, extra = divmod(len(partitions), len(members))
    ranked = sorted(members, key=lambda member: (len(shares[member]), -len(claims[member]), member))
    rooms = {member: floor + (place < extra) for place, member in enumerate(ranked)}
    for member in members:
        for partition in claims[member]:
            if rooms[member] and partition in left:
                del left[partition]
                shares[member].append(partition)
                rooms[member] -= 1
    for partition in left:
        member = next(member for member in ranked if rooms[member])
        shares[member].append(partition)
        rooms[member] -= 1


def _read_owned(user_data: bytes) -> list[TopicPartition]:
    try:
        owned = msgspec.json.decode(user_data, type=_Owned)
    except msgspec.MsgspecError:
        return []
    return [TopicPartition(topic, partition) for topic, partitions in owned for partition in partitions]


def _assignment(share: Iterable[TopicPartition]) -> ConsumerProtocolMemberAssignment:
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(share):
        topics.setdefault(topic, []).append(partition)
    return ConsumerProtocolMemberAssignment(_VERSION, sorted(topics.items()), b"")
