"""How a classic group gets from one generation to the next: who joins in time, who syncs in time, who is lost.

    prepare --(all joined, or rebalance timeout)--> complete_join --(leader's SyncGroup, durable)--> Stable

Requests park in the members; this file answers them. A deadline that comes while the group is being upgraded (KIP-848)
waits for the group's turn: its records must not stand behind the upgrade's.

Source: Apache Kafka's GroupMetadataManager, classic half.
"""

from __future__ import annotations

from functools import partial

from logqueue.config import BrokerConfig
from logqueue.coordination.effects import Caller, Now
from logqueue.coordination.timers import Timers
from logqueue.errors import ErrorCode
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.member import Member
from logqueue.group.classic.states import COMPLETING_REBALANCE, EMPTY, PREPARING_REBALANCE, STABLE
from logqueue.group.consumer.turns import Turns
from logqueue.group.ledger import Ledger
from logqueue.group.records import GroupChange, group_value
from logqueue.protocol.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from logqueue.protocol.messages.sync_group import SyncGroupResponse

# A first join parks longer than a session, but not for ever: the client may have gone and come back under a new id.
NEW_MEMBER_JOIN_TIMEOUT_MS = 300_000

# Shortest wait before a rebalance that nobody has joined is tried again, whatever timeout the members asked for.
MIN_RETRY_MS = 1_000


class Rebalance:
    """The moves of every classic group, with their deadlines."""

    def __init__(
        self, groups: dict[str, ClassicGroup], *, config: BrokerConfig, timers: Timers, ledger: Ledger, turns: Turns
    ) -> None:
        self._groups = groups
        self._initial_delay_ms = config.group_initial_rebalance_delay_ms
        self._timers = timers
        self._ledger = ledger
        self._turns = turns

    # Towards a new generation

    def prepare_or_complete(self, group: ClassicGroup, now: Now) -> None:
        """Something changed: begin a rebalance, or see whether the one under way is complete."""
        if group.can_rebalance:
            self.prepare(group, now)
        else:
            self.complete_join_if_all_came(group, now)

    def prepare(self, group: ClassicGroup, now: Now) -> None:
        """Call every member to join again."""
        if group.state is COMPLETING_REBALANCE:
            self._fail_syncs(group, ErrorCode.REBALANCE_IN_PROGRESS, now)
        group.pending_syncs.clear()
        self._timers.cancel(("sync", group.group_id))
        is_first = group.state is EMPTY
        group.move_to(PREPARING_REBALANCE, now_ms=now.time_ms)
        if is_first:
            delay_ms = self._initial_delay_ms
            left_ms = max(group.rebalance_timeout_ms - delay_ms, 0)
            self._wait_for_first_members(group, delay_ms=delay_ms, left_ms=left_ms, now=now)
        elif group.has_all_joined or not group.members:
            # Ids that were given out keep nobody waiting: there is no member whose timeout they could wait for.
            self.complete_join(group, now)
        else:
            self._at("join", group, group.rebalance_timeout_ms, now, partial(self._on_join_timeout, group))

    def complete_join_if_all_came(self, group: ClassicGroup, now: Now) -> None:
        """End the gathering early when nobody is missing; the first gathering always lasts its delay."""
        if group.state is PREPARING_REBALANCE and not group.is_initial_rebalance and group.has_all_joined:
            self.complete_join(group, now)

    def _wait_for_first_members(self, group: ClassicGroup, *, delay_ms: int, left_ms: int, now: Now) -> None:
        group.has_newcomer = False
        action = partial(self._on_initial_delay, group, delay_ms, left_ms)
        self._at("join", group, delay_ms, now, action)

    def _on_initial_delay(self, group: ClassicGroup, delay_ms: int, left_ms: int, now: Now) -> None:
        if not self._is_current(group):
            return
        if group.has_newcomer and left_ms:
            next_delay_ms = min(self._initial_delay_ms, left_ms)
            self._wait_for_first_members(group, delay_ms=next_delay_ms, left_ms=max(left_ms - delay_ms, 0), now=now)
        else:
            self.complete_join(group, now)

    def _on_join_timeout(self, group: ClassicGroup, now: Now) -> None:
        if self._is_current(group) and group.state is PREPARING_REBALANCE:
            self.complete_join(group, now)

    def complete_join(self, group: ClassicGroup, now: Now) -> None:
        """Begin the next generation with those who joined; dynamic stragglers are out, static ones keep their place."""
        self._timers.cancel(("join", group.group_id))
        for member in [m for m in group.members.values() if m.parked_join is None and not m.is_static]:
            self._forget(group, member)
        if group.members and not group.elect_joined_leader():
            # Only absent static members are left: wait until they return or their sessions end.
            retry_ms = max(group.rebalance_timeout_ms, MIN_RETRY_MS)
            self._at("join", group, retry_ms, now, partial(self._on_join_timeout, group))
            return
        group.begin_generation(now_ms=now.time_ms)
        if group.state is EMPTY:
            # If this record is lost, its predecessor stands after a restart: its members then time out. That is safe.
            change = GroupChange(group.group_id, group_value(group, {}))
            self._ledger.append(group.group_id, (change,), lambda error, now: None)
            return
        for member in group.members.values():
            self.answer_join(group, member, join_response(group, member))
            self.keep_session(group, member, now)
            member.is_new = False
            group.pending_syncs.add(member.member_id)
        self._at(
            "sync", group, group.rebalance_timeout_ms, now, partial(self._on_sync_timeout, group, group.generation)
        )

    # Towards Stable

    def store_assignments(self, group: ClassicGroup, assignments: dict[str, bytes], now: Now) -> None:
        """Write what the leader decided; the group is Stable, and the members are told, once it is durable."""
        change = GroupChange(group.group_id, group_value(group, assignments))
        self._ledger.append(
            group.group_id, (change,), partial(self._on_assignments_stored, group, group.generation, assignments)
        )

    def _on_assignments_stored(
        self, group: ClassicGroup, generation: int, assignments: dict[str, bytes], error: ErrorCode, now: Now
    ) -> None:
        if group.state is not COMPLETING_REBALANCE or group.generation != generation:
            return  # another rebalance has begun meanwhile, and has called everybody to join again
        if error is not ErrorCode.NONE:
            self._fail_syncs(group, error, now)
            self.prepare(group, now)
            return
        for member in group.members.values():
            member.assignment = assignments.get(member.member_id, b"")
        group.move_to(STABLE, now_ms=now.time_ms)
        for member in group.members.values():
            self._answer_sync(group, member, sync_response(group, member), now)

    def _fail_syncs(self, group: ClassicGroup, error: ErrorCode, now: Now) -> None:
        for member in group.members.values():
            member.assignment = b""
            self._answer_sync(group, member, SyncGroupResponse(error_code=error), now)

    def _on_sync_timeout(self, group: ClassicGroup, generation: int, now: Now) -> None:
        is_waiting = group.state in (COMPLETING_REBALANCE, STABLE) and group.generation == generation
        if not self._is_current(group) or not is_waiting or not group.pending_syncs:
            return
        for member_id in sorted(group.pending_syncs):
            self._forget(group, group.members[member_id])
        self.prepare(group, now)

    # Sessions

    def keep_session(self, group: ClassicGroup, member: Member, now: Now) -> None:
        """The member is alive: its session starts anew."""
        self.expect_member(group, member.member_id, member.session_timeout_ms, now)

    def expect_member(self, group: ClassicGroup, member_id: str, timeout_ms: int, now: Now) -> None:
        """Remove the member, or the id given out, unless there is a sign of it within the timeout."""
        action = partial(self._on_session_timeout, group, member_id)
        self._set(("session", group.group_id, member_id), timeout_ms, now, action)

    def _on_session_timeout(self, group: ClassicGroup, member_id: str, now: Now) -> None:
        if not self._is_current(group):
            return
        member = group.members.get(member_id)
        if member is None:
            group.pending_joins.discard(member_id)
            self.complete_join_if_all_came(group, now)
        elif not member.is_waiting:
            self._forget(group, member)
            self.after_removal(group, now)

    def remove(self, group: ClassicGroup, member_id: str) -> None:
        """Take a member or a given-out id out; call `after_removal` when all who leave are out."""
        member = group.members.get(member_id)
        if member is not None:
            self._forget(group, member)
        else:
            group.remove(member_id)
            self._timers.cancel(("session", group.group_id, member_id))

    def after_removal(self, group: ClassicGroup, now: Now) -> None:
        """Members have left: those who stay share the work anew."""
        if group.state in (STABLE, COMPLETING_REBALANCE):
            self.prepare(group, now)
        else:
            self.complete_join_if_all_came(group, now)

    def _forget(self, group: ClassicGroup, member: Member) -> None:
        """Remove a member; should its client still wait, it is told to join anew."""
        error = ErrorCode.UNKNOWN_MEMBER_ID
        if member.parked_join is not None:
            self.answer_join(group, member, failed_join(error, version=member.parked_join.version))
        if member.parked_sync is not None:
            self._ledger.reply(member.parked_sync, SyncGroupResponse(error_code=error))
            member.parked_sync = None
        group.remove(member.member_id)
        self._timers.cancel(("session", group.group_id, member.member_id))

    # Another protocol

    def turn_away(self, group: ClassicGroup, now: Now) -> None:
        """The group is about to become a consumer group (KIP-848): whoever waits in it has to join that."""
        for member in group.members.values():
            error = ErrorCode.REBALANCE_IN_PROGRESS
            if member.parked_join is not None:
                version = member.parked_join.version
                self.answer_join(group, member, failed_join(error, member.member_id, version=version))
            self._answer_sync(group, member, SyncGroupResponse(error_code=error), now)

    def release(self, group: ClassicGroup) -> None:
        """The group is a classic one no more: none of its deadlines holds."""
        for member_id in (*group.members, *group.pending_joins):
            self._timers.cancel(("session", group.group_id, member_id))
        self._timers.cancel(("join", group.group_id))
        self._timers.cancel(("sync", group.group_id))

    # Answers

    def park_join(self, member: Member, caller: Caller) -> None:
        """Let a join wait for the others; an earlier one of the same member was given up by its client."""
        if member.parked_join is not None:
            code = ErrorCode.REBALANCE_IN_PROGRESS
            version = member.parked_join.version
            self._ledger.reply(member.parked_join, failed_join(code, member.member_id, version=version))
        member.parked_join = caller

    def park_sync(self, member: Member, caller: Caller) -> None:
        """Let a sync wait for the leader's; an earlier one of the same member was given up by its client."""
        if member.parked_sync is not None:
            self._ledger.reply(member.parked_sync, SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS))
        member.parked_sync = caller

    def fence(self, group: ClassicGroup, member: Member) -> None:
        """Another process has taken over the member's instance id: whatever it waits for ends here."""
        error = ErrorCode.FENCED_INSTANCE_ID
        if member.parked_join is not None:
            self.answer_join(group, member, failed_join(error, member.member_id, version=member.parked_join.version))
        if member.parked_sync is not None:
            self._ledger.reply(member.parked_sync, SyncGroupResponse(error_code=error))
            member.parked_sync = None
        self._timers.cancel(("session", group.group_id, member.member_id))

    def answer_join(self, group: ClassicGroup, member: Member, response: JoinGroupResponse) -> None:
        """Answer the member's parked join, if there is one."""
        if member.parked_join is not None:
            self._ledger.reply(member.parked_join, response)
            member.parked_join = None

    def _answer_sync(self, group: ClassicGroup, member: Member, response: SyncGroupResponse, now: Now) -> None:
        if member.parked_sync is not None:
            self._ledger.reply(member.parked_sync, response)
            member.parked_sync = None
            # Its session may have run out unnoticed while it waited.
            self.keep_session(group, member, now)

    # Deadlines

    def _at(self, kind: str, group: ClassicGroup, delay_ms: int, now: Now, action: partial[None]) -> None:
        self._set((kind, group.group_id), delay_ms, now, action)

    def _set(self, key: tuple[str, ...], delay_ms: int, now: Now, action: partial[None]) -> None:
        self._timers.set(key, now.monotonic + delay_ms / 1000, partial(self._on_deadline, key, action))

    def _on_deadline(self, key: tuple[str, ...], action: partial[None], now: Now) -> None:
        group_id = key[1]

        def act(later: Now) -> None:
            if not self._timers.has(key):  # set anew by a request that stood before this in the line
                action(later)

        self._turns.take(group_id, now, act)

    def _is_current(self, group: ClassicGroup) -> bool:
        """Whether the group still exists: a deadline outlives a deleted group."""
        return self._groups.get(group.group_id) is group


def join_response(group: ClassicGroup, member: Member) -> JoinGroupResponse:
    """The current generation, as the member is told of it: only the leader gets the list of members."""
    is_leader = group.leader == member.member_id
    return JoinGroupResponse(
        generation_id=group.generation,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol or "",
        leader=group.leader or "",
        member_id=member.member_id,
        members=joined_members(group) if is_leader else [],
    )


def joined_members(group: ClassicGroup) -> list[JoinGroupResponseMember]:
    """Every member with what it says of itself in the group's protocol."""
    assert group.protocol is not None
    return [
        JoinGroupResponseMember(
            member_id=member.member_id,
            group_instance_id=member.instance_id,
            metadata=member.metadata(group.protocol),
        )
        for member in group.members.values()
    ]


def failed_join(error: ErrorCode, member_id: str = "", *, version: int) -> JoinGroupResponse:
    """A refused join; the protocol name may be null from version 7 on only."""
    return JoinGroupResponse(error_code=error, member_id=member_id, protocol_name=None if version >= 7 else "")


def sync_response(group: ClassicGroup, member: Member) -> SyncGroupResponse:
    """The member's assignment in the current generation."""
    return SyncGroupResponse(
        protocol_type=group.protocol_type, protocol_name=group.protocol, assignment=member.assignment
    )
