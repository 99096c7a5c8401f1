"""A classic consumer group: its members, leader, protocol and generation. Sends nothing, keeps no time."""

from __future__ import annotations

from collections import Counter

from logqueue.group.classic.member import Member, Protocol
from logqueue.group.classic.states import (
    COMPLETING_REBALANCE,
    DEAD,
    EMPTY,
    MOVES,
    PREPARING_REBALANCE,
    STABLE,
    GroupState,
)
from logqueue.group.classic.subscription import CONSUMER_PROTOCOL_TYPE, subscribed_topics
from logqueue.group.errors import FencedInstance, GroupIsDead, IllegalGeneration, RebalanceInProgress, UnknownMember


class ClassicGroup:
    """The group that members agree on through JoinGroup and SyncGroup.

    A group without a protocol type and without members is a simple group: it only holds offsets.
    """

    def __init__(
        self,
        group_id: str,
        *,
        state: GroupState = EMPTY,
        state_time_ms: int = -1,
        generation: int = 0,
        protocol_type: str | None = None,
        protocol: str | None = None,
        leader: str | None = None,
    ) -> None:
        self.group_id = group_id
        self.state = state
        self.previous_state = DEAD
        self.state_time_ms = state_time_ms  # when the state was entered; -1: an old record did not say
        self.generation = generation
        self.protocol_type = protocol_type
        self.protocol = protocol
        self.leader = leader
        self.members: dict[str, Member] = {}
        self.static_ids: dict[str, str] = {}  # instance id -> member id
        self.pending_joins: set[str] = set()  # ids given out with MEMBER_ID_REQUIRED (KIP-394)
        self.pending_syncs: set[str] = set()  # members of this generation that have not sent SyncGroup
        self.has_newcomer = False  # someone joined since the initial delay was last extended
        self.topics: frozenset[str] | None = None  # subscribed topics, where they can be told
        self._speakers: Counter[str] = Counter()  # protocol -> members that speak it

    # Membership

    def add(self, member: Member) -> None:
        """Take a member in; the first one leads."""
        assert member.member_id not in self.members
        if member.instance_id is not None:
            assert member.instance_id not in self.static_ids
            self.static_ids[member.instance_id] = member.member_id
        if self.leader is None:
            self.leader = member.member_id
        self.members[member.member_id] = member
        self._speakers.update(member.protocol_names)
        self.pending_joins.discard(member.member_id)

    def remove(self, member_id: str) -> None:
        """Forget a member or a pending id; another member leads if it was the leader."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self._speakers.subtract(member.protocol_names)
            if member.instance_id is not None:
                del self.static_ids[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        self.pending_joins.discard(member_id)
        self.pending_syncs.discard(member_id)

    def rename_static(self, old_id: str, new_id: str) -> Member:
        """Give a static member's place to a new member id."""
        old = self.members.pop(old_id)
        assert old.instance_id is not None
        member = old.renamed(new_id)
        self.members[new_id] = member
        self.static_ids[old.instance_id] = new_id
        if self.leader == old_id:
            self.leader = new_id
        if old_id in self.pending_syncs:
            self.pending_syncs.remove(old_id)
            self.pending_syncs.add(new_id)
        return member

    def update_protocols(self, member: Member, protocols: tuple[Protocol, ...]) -> None:
        """A member speaks other protocols, or says other things in them, from now on."""
        self._speakers.subtract(member.protocol_names)
        member.protocols = protocols
        self._speakers.update(member.protocol_names)

    @property
    def has_all_joined(self) -> bool:
        """Whether every member has a join parked and no id given out is still expected."""
        return not self.pending_joins and all(m.parked_join is not None for m in self.members.values())

    @property
    def waiting_joins(self) -> int:
        """Number of members with a parked join."""
        return sum(m.parked_join is not None for m in self.members.values())

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest time a member may take to rejoin."""
        return max((m.rebalance_timeout_ms for m in self.members.values()), default=0)

    def elect_joined_leader(self) -> bool:
        """Make sure that the leader is one who has joined; False when nobody has."""
        if self.leader is None:
            return False
        if self.members[self.leader].parked_join is not None:
            return True
        joined = next((m.member_id for m in self.members.values() if m.parked_join is not None), None)
        if joined is None:
            return False
        self.leader = joined
        return True

    # Protocol

    def common_protocols(self) -> set[str]:
        """Protocols that every member speaks."""
        return {name for name, speakers in self._speakers.items() if speakers == len(self.members)}

    def supports(self, protocol_type: str, names: set[str]) -> bool:
        """Whether a member with these protocols may join."""
        if self.state is EMPTY:
            return bool(protocol_type) and bool(names)
        fits = not names.isdisjoint(self.common_protocols()) if self.members else bool(names)
        return protocol_type == self.protocol_type and fits

    def select_protocol(self) -> str:
        """The common protocol with most votes; each member votes for the first of its list. Ties: first voted for."""
        common = self.common_protocols()
        votes = Counter(member.vote(common) for member in self.members.values())
        return votes.most_common(1)[0][0]

    def refresh_topics(self) -> None:
        """Work out the subscribed topics from the members' metadata."""
        self.topics = self._subscribed_topics()

    def _subscribed_topics(self) -> frozenset[str] | None:
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            return None
        if not self.members:
            return frozenset()
        if self.protocol is None:
            return None
        each = [subscribed_topics(member.metadata(self.protocol)) for member in self.members.values()]
        known = [topics for topics in each if topics is not None]
        return frozenset().union(*known) if len(known) == len(each) else None

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member reads the topic; a consumer group that cannot be read counts as subscribed to all."""
        if self.topics is None:
            return self.protocol_type == CONSUMER_PROTOCOL_TYPE
        return topic in self.topics

    # Life

    @property
    def is_empty(self) -> bool:
        """Whether it has no members, and nobody gathers to be one."""
        return self.state is EMPTY

    @property
    def is_dead(self) -> bool:
        """Whether its tombstone is being written."""
        return self.state is DEAD

    # Moves

    def move_to(self, state: GroupState, *, now_ms: int) -> None:
        """Enter a state that the table allows."""
        assert state in MOVES[self.state], f"group {self.group_id} cannot go from {self.state} to {state}"
        self.previous_state = self.state
        self.state = state
        self.state_time_ms = now_ms

    @property
    def can_rebalance(self) -> bool:
        """Whether a new rebalance may begin."""
        return PREPARING_REBALANCE in MOVES[self.state]

    @property
    def is_initial_rebalance(self) -> bool:
        """Whether the group gathers its first members, with its own delay."""
        return self.state is PREPARING_REBALANCE and self.previous_state is EMPTY

    def begin_generation(self, *, now_ms: int) -> None:
        """All who would join have joined: agree on the protocol, or be empty."""
        self.generation += 1
        self.pending_syncs.clear()
        self.protocol = self.select_protocol() if self.members else None
        self.refresh_topics()
        self.move_to(COMPLETING_REBALANCE if self.members else EMPTY, now_ms=now_ms)

    # Checks

    def check_alive(self) -> None:
        """Raise GroupIsDead while the group is being deleted."""
        if self.state is DEAD:
            raise GroupIsDead(self.group_id)

    def check_member(self, member_id: str, instance_id: str | None) -> Member:
        """The member, or UnknownMember, or FencedInstance when its instance id belongs to another id."""
        if instance_id is not None:
            owner = self.static_ids.get(instance_id)
            if owner is None:
                raise UnknownMember(self.group_id, member_id)
            if owner != member_id:
                raise FencedInstance(self.group_id, instance_id, owner=owner, member_id=member_id)
        member = self.members.get(member_id)
        if member is None:
            raise UnknownMember(self.group_id, member_id)
        return member

    def check_generation(self, generation: int) -> None:
        """Raise IllegalGeneration unless it is the present one."""
        if generation != self.generation:
            raise IllegalGeneration(self.group_id, expected=self.generation, got=generation)

    def check_commit(self, *, member_id: str, instance_id: str | None, generation: int) -> None:
        """Raise unless this caller may commit offsets now.

        Generation -1 is a tool or a consumer without group management: allowed while the group is Empty.
        """
        self.check_alive()
        if generation < 0 and self.state is EMPTY:
            return
        if generation < 0 and not member_id and instance_id is None:
            raise UnknownMember(self.group_id, member_id)
        self.check_member(member_id, instance_id)
        self.check_generation(generation)
        if self.state is COMPLETING_REBALANCE:
            raise RebalanceInProgress(self.group_id)

    def check_transactional_commit(self, *, member_id: str, instance_id: str | None, generation: int) -> None:
        """Raise unless this caller may commit offsets in a transaction now (KIP-447).

        Whoever names a member or a generation must be right about it; older producers name neither. A rebalance does
        not keep them out.
        """
        self.check_alive()
        if generation < 0 and (self.state is EMPTY or (not member_id and instance_id is None)):
            return
        self.check_member(member_id, instance_id)
        self.check_generation(generation)

    @property
    def keeps_session_on_commit(self) -> bool:
        """Whether a commit counts as a sign of life."""
        return self.state in (STABLE, PREPARING_REBALANCE)
