"""A member of a consumer group (KIP-848) as its two records describe it: who it is, where it stands. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from logqueue.group.classic.member import Protocol

# Partitions by topic id (16 bytes). Never changed in place; a topic without partitions is left out.
Partitions: TypeAlias = Mapping[bytes, frozenset[int]]

NO_PARTITIONS: Partitions = {}

JOINING_EPOCH = 0  # a heartbeat with it joins, or joins again after having been fenced
LEAVING_EPOCH = -1
LEAVING_STATIC_EPOCH = -2  # a static member goes and means to come back: its partitions are kept for it


class MemberState(IntEnum):
    """Where a member is on its way to its target assignment; the numbers are those of the records.

    | state      | means                                                     | ends when                       |
    |------------|-----------------------------------------------------------|---------------------------------|
    | STABLE     | it has what the target of its epoch gives it              | there is a newer target         |
    | UNREVOKED  | it has to give partitions up, and stays at its old epoch  | it reports to own them no more  |
    | UNRELEASED | it is at the new epoch, but others still hold some of its | they have given them up         |
    | UNKNOWN    | a newer release wrote a state that this one does not know | the member, fenced, joins again |
    """

    STABLE = 0
    UNREVOKED = 1
    UNRELEASED = 2
    UNKNOWN = 127

    @classmethod
    def of(cls, number: int) -> MemberState:
        """The state behind a record's number."""
        return cls(number) if number in cls._value2member_map_ else cls.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassicSide:
    """What a member that speaks the classic protocol said when it joined; most preferred protocol first."""

    session_timeout_ms: int
    protocols: tuple[Protocol, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a member says of itself: its subscription, and how to reach it."""

    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: frozenset[str] = frozenset()
    regex: str = ""  # empty: none
    rebalance_timeout_ms: int = -1
    assignor: str | None = None
    classic: ClassicSide | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a member stands: its epoch, what it holds, and what it still has to give up.

    A partition that is `revoking` stays the member's until it reports to own it no more.
    """

    epoch: int = JOINING_EPOCH
    previous_epoch: int = -1
    state: MemberState = MemberState.STABLE
    assigned: Partitions = field(default_factory=dict)
    revoking: Partitions = field(default_factory=dict)

    def has_reached(self, target_epoch: int) -> bool:
        """Whether nothing is left to do towards the target of this epoch."""
        return self.state is MemberState.STABLE and self.epoch == target_epoch


NEWCOMER = Standing()


@dataclass(frozen=True, slots=True)
class ConsumerMember:
    """A member of a consumer group; it speaks the consumer protocol, or the classic one while a group migrates."""

    member_id: str
    profile: Profile
    standing: Standing

    @property
    def is_classic(self) -> bool:
        """Whether it speaks the classic protocol."""
        return self.profile.classic is not None


def partitions_of(pairs: Iterable[tuple[bytes, Iterable[int]]]) -> Partitions:
    """Partitions from (topic id, partitions), several entries of one topic included."""
    gathered: dict[bytes, set[int]] = {}
    for topic_id, indexes in pairs:
        gathered.setdefault(topic_id, set()).update(indexes)
    return {topic_id: frozenset(indexes) for topic_id, indexes in gathered.items() if indexes}


def is_within(owned: Partitions, assigned: Partitions) -> bool:
    """Whether all of `owned` is in `assigned`."""
    return all(indexes <= assigned.get(topic_id, frozenset()) for topic_id, indexes in owned.items())


def overlaps(one: Partitions, other: Partitions) -> bool:
    """Whether the two share a partition."""
    return any(not indexes.isdisjoint(other.get(topic_id, ())) for topic_id, indexes in one.items())
