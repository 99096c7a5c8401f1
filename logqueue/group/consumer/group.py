"""A consumer group (KIP-848): nothing but the fold of its records. Decides nothing, sends nothing, keeps no time.

Three epochs tell how far it is: the group's (bumped when members, subscriptions or topics change), that of the target
assignment, and each member's own. Each follows the one before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from enum import Enum
from typing import Self, TypeVar

from logqueue.coordination.topics import Topics
from logqueue.group.consumer.errors import FencedStaticMember, NotAMember, StaleMemberEpoch, TooOldCommit
from logqueue.group.consumer.member import NEWCOMER, NO_PARTITIONS, ConsumerMember, Partitions, Profile, Standing
from logqueue.group.consumer.records import (
    ConsumerChange,
    EpochChange,
    ProfileChange,
    RegexChange,
    ResolvedRegex,
    StandingChange,
    TargetChange,
    TargetEpochChange,
)
from logqueue.group.errors import GroupIsDead, IllegalGeneration

V = TypeVar("V")

EPOCH_IN_COMMITS_SINCE = 9  # OffsetCommit


class ConsumerGroupState(Enum):
    """A state as ListGroups and ConsumerGroupDescribe show it; it follows from the epochs."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"  # the target is of an older epoch than the group
    RECONCILING = "Reconciling"  # a member has not reached its target
    STABLE = "Stable"


class ConsumerGroup:
    """The group as its records say. `apply` is the only thing that changes it."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = 0
        self.metadata_hash = 0
        self.target_epoch = 0
        self.profiles: dict[str, Profile] = {}  # member id -> what it says of itself; in the order of joining
        self.standings: dict[str, Standing] = {}
        self.targets: dict[str, Partitions] = {}
        self.static_ids: dict[str, str] = {}  # instance id -> member id
        self.regexes: dict[str, ResolvedRegex] = {}
        self.owners: dict[tuple[bytes, int], str] = {}  # partition -> member that holds it or still gives it up
        self.regex_subscribers: Counter[str] = Counter()  # regular expression -> members that subscribe by it
        self.is_dead = False  # its tombstones are being written

    def copy(self) -> Self:
        """A group to try changes on."""
        other = type(self)(self.group_id)
        other.epoch, other.metadata_hash, other.target_epoch = self.epoch, self.metadata_hash, self.target_epoch
        other.profiles, other.standings = dict(self.profiles), dict(self.standings)
        other.targets, other.static_ids = dict(self.targets), dict(self.static_ids)
        other.regexes, other.owners = dict(self.regexes), dict(self.owners)
        other.regex_subscribers = self.regex_subscribers.copy()
        return other

    # Records

    def apply(self, change: ConsumerChange) -> None:
        """Take in one record. In any order that compaction leaves: a member's standing may come before its profile."""
        match change:
            case EpochChange(_, epoch, metadata_hash):
                self.epoch, self.metadata_hash = epoch or 0, metadata_hash
            case TargetEpochChange(_, epoch):
                self.target_epoch = epoch or 0
            case TargetChange(_, member_id, partitions):
                _set(self.targets, member_id, partitions)
            case RegexChange(_, regex, resolved):
                _set(self.regexes, regex, resolved)
            case ProfileChange(_, member_id, profile):
                self._set_profile(member_id, profile)
            case StandingChange(_, member_id, standing):
                self._set_standing(member_id, standing)

    def _set_profile(self, member_id: str, profile: Profile | None) -> None:
        old = self.profiles.get(member_id)
        if old is not None:
            self._forget_profile(member_id, old)
        if profile is None:
            self.profiles.pop(member_id, None)
            return
        self.profiles[member_id] = profile
        if profile.regex:
            self.regex_subscribers[profile.regex] += 1
        if profile.instance_id is not None:
            self.static_ids[profile.instance_id] = member_id

    def _forget_profile(self, member_id: str, profile: Profile) -> None:
        if profile.regex:
            self.regex_subscribers[profile.regex] -= 1
            if not self.regex_subscribers[profile.regex]:
                del self.regex_subscribers[profile.regex]
        if profile.instance_id is not None and self.static_ids.get(profile.instance_id) == member_id:
            del self.static_ids[profile.instance_id]

    def _set_standing(self, member_id: str, standing: Standing | None) -> None:
        old = self.standings.pop(member_id, NEWCOMER)
        for partition in _each(old.assigned, old.revoking):
            if self.owners.get(partition) == member_id:
                del self.owners[partition]
        if standing is None:
            return
        self.standings[member_id] = standing
        for partition in _each(standing.assigned, standing.revoking):
            self.owners[partition] = member_id

    def tombstones(self) -> list[ConsumerChange]:
        """Changes that remove the group and everything in it."""
        group_id, members = self.group_id, list(self.profiles)
        changes: list[ConsumerChange] = [StandingChange(group_id, member_id, None) for member_id in members]
        changes += [TargetChange(group_id, member_id, None) for member_id in members]
        changes.append(TargetEpochChange(group_id, None))
        changes += [ProfileChange(group_id, member_id, None) for member_id in members]
        changes += [RegexChange(group_id, regex, None) for regex in self.regexes]
        changes.append(EpochChange(group_id, None))
        return changes

    # Members

    def member(self, member_id: str) -> ConsumerMember | None:
        """The member, if there is one."""
        profile = self.profiles.get(member_id)
        if profile is None:
            return None
        return ConsumerMember(member_id, profile, self.standings.get(member_id, NEWCOMER))

    def members(self) -> Iterable[ConsumerMember]:
        """All members."""
        for member_id, profile in self.profiles.items():
            yield ConsumerMember(member_id, profile, self.standings.get(member_id, NEWCOMER))

    def require(self, member_id: str) -> ConsumerMember:
        """The member, or NotAMember."""
        member = self.member(member_id)
        if member is None:
            raise NotAMember(f"Member {member_id} is not a member of group {self.group_id}.")
        return member

    def static_member(self, instance_id: str) -> ConsumerMember | None:
        """The member that has the instance id."""
        member_id = self.static_ids.get(instance_id)
        return None if member_id is None else self.member(member_id)

    def require_static(self, instance_id: str, member_id: str | None) -> ConsumerMember:
        """The member that has the instance id, or NotAMember; FencedStaticMember if it is not `member_id`."""
        member = self.static_member(instance_id)
        if member is None:
            raise NotAMember(f"Instance id {instance_id} is unknown.")
        if member_id is not None and member.member_id != member_id:
            raise FencedStaticMember(instance_id, owner=member.member_id, member_id=member_id)
        return member

    def target(self, member_id: str) -> Partitions:
        """What a member is to hold."""
        return self.targets.get(member_id, NO_PARTITIONS)

    def owner(self, topic_id: bytes, partition: int) -> str | None:
        """Who holds a partition or still gives it up."""
        return self.owners.get((topic_id, partition))

    @property
    def is_empty(self) -> bool:
        """Whether it has no members."""
        return not self.profiles

    @property
    def state(self) -> ConsumerGroupState:
        """How far the group is."""
        if not self.profiles:
            return ConsumerGroupState.EMPTY
        if self.epoch > self.target_epoch:
            return ConsumerGroupState.ASSIGNING
        if all(member.standing.has_reached(self.target_epoch) for member in self.members()):
            return ConsumerGroupState.STABLE
        return ConsumerGroupState.RECONCILING

    def assignor_votes(self) -> Counter[str]:
        """How many members ask for each assignor."""
        return Counter(profile.assignor for profile in self.profiles.values() if profile.assignor is not None)

    # Subscriptions

    def topics_of(self, profile: Profile) -> Collection[str]:
        """Names that a member subscribes to; a regular expression not resolved yet counts as none."""
        resolved = self.regexes.get(profile.regex) if profile.regex else None
        return profile.topics if resolved is None else profile.topics | resolved.topics

    def topic_ids_of(self, profile: Profile, topics: Topics) -> frozenset[bytes]:
        """Ids of the topics that a member subscribes to and that exist."""
        found = (topics.id_of(name) for name in self.topics_of(profile))
        return frozenset(topic_id for topic_id in found if topic_id is not None)

    def subscribed_topics(self) -> set[str]:
        """Every topic that the group subscribes to."""
        names: set[str] = set()
        for profile in self.profiles.values():
            names |= profile.topics
        for resolved in self.regexes.values():
            names |= resolved.topics
        return names

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member subscribes to the topic."""
        return any(topic in profile.topics for profile in self.profiles.values()) or any(
            topic in resolved.topics for resolved in self.regexes.values()
        )

    # Checks of other requests

    def check_commit(
        self,
        *,
        member_id: str,
        instance_id: str | None,
        epoch: int,
        version: int = EPOCH_IN_COMMITS_SINCE,
        is_transactional: bool = False,
    ) -> None:
        """Raise unless this caller may commit offsets now; epoch -1 is a tool, or a consumer that assigns itself."""
        if self.is_dead:
            raise GroupIsDead(self.group_id)
        if epoch < 0 and not self.profiles:
            return
        if is_transactional and epoch == -1 and not member_id and instance_id is None:
            return
        member = self.require(member_id)
        if not is_transactional and not member.is_classic and version < EPOCH_IN_COMMITS_SINCE:
            raise TooOldCommit
        self._check_epoch(member, epoch)

    def check_fetch(self, *, member_id: str | None, epoch: int) -> None:
        """Raise unless this caller may read offsets now; without a member id and epoch everybody may."""
        if member_id is None and epoch < 0:
            return
        self._check_epoch(self.require(member_id or ""), epoch)

    def _check_epoch(self, member: ConsumerMember, epoch: int) -> None:
        expected = member.standing.epoch
        if epoch != expected:
            if member.is_classic:
                raise IllegalGeneration(self.group_id, expected=expected, got=epoch)
            raise StaleMemberEpoch(expected=expected, got=epoch)


def _each(*held: Partitions) -> Iterable[tuple[bytes, int]]:
    for partitions in held:
        for topic_id, indexes in partitions.items():
            for index in indexes:
                yield topic_id, index


def _set(values: dict[str, V], key: str, value: V | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value
