"""Assigns partitions evenly and moves as few as it can, so that running jobs stay where they run. No IO.

Every member tells in its join request which partitions it has. The leader gives each member an equal share of all
partitions (counts differ by at most one), keeps what members have up to their share, and hands out the rest. Partitions
of one topic are spread as well, since topics differ in load.
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

    Where all subscribe alike the counts differ by at most one, and no partition leaves a member that has room for it.
    """
    members = sorted(subscriptions)
    shares: dict[str, list[TopicPartition]] = {member: [] for member in members}
    if not members:
        return shares
    known, taken = set(partitions), set()
    floor, extra = divmod(len(known), len(members))
    # Those with most keep the extra ones, so that the least moves.
    by_count = sorted(members, key=lambda member: (-len(owned.get(member, ())), member))
    quota = {member: floor + (index < extra) for index, member in enumerate(by_count)}
    for member in members:
        for partition in owned.get(member, ()):
            fits = partition in known and partition not in taken and partition.topic in subscriptions[member]
            if fits and len(shares[member]) < quota[member]:
                shares[member].append(partition)
                taken.add(partition)
    for partition in partitions:
        if partition in taken:
            continue
        able = [member for member in members if partition.topic in subscriptions[member]]
        if not able:
            continue
        open_ = [member for member in able if len(shares[member]) < quota[member]] or able
        topic = partition.topic
        chosen = min(open_, key=lambda m: (sum(p.topic == topic for p in shares[m]), len(shares[m]), m))
        shares[chosen].append(partition)
        taken.add(partition)
    return shares


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
