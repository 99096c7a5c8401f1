"""Assigns partitions evenly and moves as few as it can, so that running jobs stay where they run. No IO.

What is shared out are units: the same-numbered partitions of all topics of a family, which is a queue's job topic,
the topics of its priority classes, its retry topic and its parked one. So a tenant, whose key has the same number in
each of them, has one owner. Every member tells in its join request which partitions it has. The leader shares out
family by family, since they differ in load; members keep the units they have up to their share, first those that they
name first: where jobs run, the longest first. So a job of an hour outlives rebalances as long as its worker has no more
partitions with running jobs than its share is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from logqueue.ids import TopicPartition

if TYPE_CHECKING:
    from logqueue_consumers.engine import JobEngine

_VERSION = 0
_Owned = list[tuple[str, list[int]]]
Family = Callable[[str], str]
"""Which family a topic belongs to."""
Unit = tuple[TopicPartition, ...]
"""Partitions that go together."""


class StickyAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """One per consumer: it remembers what this member was given last."""

    name = "logqueue-sticky"

    def __init__(
        self,
        family: Family = str,
        busy: Callable[[], Iterable[TopicPartition]] = tuple,
        on_assigned: Callable[[], None] = lambda: None,
    ) -> None:
        """By default each topic is a family of its own. `busy` tells where jobs run, those that run longest first.

        `on_assigned` is called when this member has been given its share, before anything is done with it.
        """
        self._family = family
        self._busy = busy
        self._on_assigned = on_assigned
        self._owned: _Owned = []

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """This member's part of the join request."""
        return ConsumerProtocolMemberMetadata(_VERSION, sorted(topics), msgspec.json.encode(self._claims()))

    def _claims(self) -> _Owned:
        """What this member has, in the order in which it wants to keep it."""
        owned = {TopicPartition(topic, number) for topic, numbers in self._owned for number in numbers}
        busy = [partition for partition in dict.fromkeys(self._busy()) if partition in owned]
        first: _Owned = [(topic, [number]) for topic, number in busy]
        rest = ((topic, [n for n in numbers if (topic, n) not in busy]) for topic, numbers in self._owned)
        return [*first, *((topic, numbers) for topic, numbers in rest if numbers)]

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Remember what this member has from now on."""
        self._owned = [(topic, list(partitions)) for topic, partitions in assignment.assignment]
        self._on_assigned()

    def assign(self, cluster: Any, members: Mapping[str, Any]) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Called on the group's leader with what every member told."""
        subscriptions = {member: set(metadata.subscription) for member, metadata in members.items()}
        partitions = [
            TopicPartition(topic, partition)
            for topic in sorted(set().union(*subscriptions.values()))
            for partition in sorted(cluster.partitions_for_topic(topic) or ())
        ]
        owned = {member: _read_owned(metadata.user_data) for member, metadata in members.items()}
        shares = share_out(partitions, subscriptions, owned, self._family)
        return {member: _assignment(share) for member, share in shares.items()}


def busy_partitions(engine: JobEngine) -> list[TopicPartition]:
    """Where jobs run, the ones that have run longest first."""
    jobs = sorted((job for job, _ in engine.running_jobs()), key=lambda job: job.started_us)
    return [TopicPartition(job.partition.topic, job.partition.partition) for job in jobs]


def share_out(
    partitions: Sequence[TopicPartition],
    subscriptions: Mapping[str, set[str]],
    owned: Mapping[str, Sequence[TopicPartition]],
    family: Family = str,
) -> dict[str, list[TopicPartition]]:
    """Who gets which partition. Every partition some member subscribes to is given to exactly one of these.

    Each family is shared evenly among those who subscribe to all of it, and what is left over goes to those who have
    least so far: where all subscribe alike, the counts of units differ by at most one, in each family and in all. A
    member keeps of every family as many of its units as its share has room for. While nobody subscribes to all topics
    of a family (workers with different releases of an app), its topics are shared out one by one.
    """
    families: dict[str, list[str]] = defaultdict(list)
    for topic in sorted({partition.topic for partition in partitions}):
        families[family(topic)].append(topic)
    groups: list[list[str]] = []
    for topics in families.values():
        is_whole = any(subscription.issuperset(topics) for subscription in subscriptions.values())
        groups += [topics] if is_whole else [[topic] for topic in topics]
    shared = [(units_of(partitions, topics), topics) for topics in groups]
    shares: dict[str, list[Unit]] = {member: [] for member in sorted(subscriptions)}
    for units, topics in sorted(shared, key=lambda group: (-len(group[0]), group[1])):
        able = [member for member in shares if subscriptions[member].issuperset(topics)]
        if able:
            _share_family(units, able, owned, shares)
    return {member: [partition for unit in units for partition in unit] for member, units in shares.items()}


def units_of(partitions: Iterable[TopicPartition], topics: Sequence[str]) -> list[Unit]:
    """The partitions of these topics, those of one number together."""
    numbered: dict[int, list[TopicPartition]] = defaultdict(list)
    for partition in partitions:
        if partition.topic in topics:
            numbered[partition.partition].append(partition)
    return [tuple(numbered[number]) for number in sorted(numbered)]


def _share_family(
    units: Sequence[Unit],
    members: Sequence[str],
    owned: Mapping[str, Sequence[TopicPartition]],
    shares: dict[str, list[Unit]],
) -> None:
    """Add one family's units to the shares of these members."""
    left = dict.fromkeys(units)
    unit_of = {partition: unit for unit in units for partition in unit}
    claims = {
        member: list(dict.fromkeys(unit_of[p] for p in owned.get(member, ()) if p in unit_of)) for member in members
    }
    floor, extra = divmod(len(units), len(members))
    ranked = sorted(members, key=lambda member: (len(shares[member]), -len(claims[member]), member))
    rooms = {member: floor + (place < extra) for place, member in enumerate(ranked)}
    for member in members:
        for unit in claims[member]:
            if rooms[member] and unit in left:
                del left[unit]
                shares[member].append(unit)
                rooms[member] -= 1
    for unit in left:
        member = next(member for member in ranked if rooms[member])
        shares[member].append(unit)
        rooms[member] -= 1


def _read_owned(user_data: bytes) -> list[TopicPartition]:
    try:
        owned = msgspec.json.decode(user_data, type=_Owned)
    except (ValueError, RecursionError):
        return []
    return [TopicPartition(topic, partition) for topic, partitions in owned for partition in partitions]


def _assignment(share: Iterable[TopicPartition]) -> ConsumerProtocolMemberAssignment:
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(share):
        topics.setdefault(topic, []).append(partition)
    return ConsumerProtocolMemberAssignment(_VERSION, sorted(topics.items()), b"")
