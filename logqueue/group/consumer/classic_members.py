"""Classic clients inside a consumer group (KIP-848 migration): JoinGroup, SyncGroup, Heartbeat and LeaveGroup.

The group's epochs stand in for generations, and the coordinator for the leader: a join is one step of reconciliation, a
sync fetches what the member holds by now, and a heartbeat tells it to join again whenever there is a next step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from logqueue.config import BrokerConfig
from logqueue.coordination.effects import Caller, Now
from logqueue.coordination.topics import Topics
from logqueue.errors import ErrorCode, KafkaError
from logqueue.group.classic.joining import (
    REQUIRES_MEMBER_ID_SINCE,
    check_names,
    check_request,
    protocols_of,
    rebalance_timeout_ms,
)
from logqueue.group.classic.membership import NAMES_MEMBERS_SINCE, answer_leave, check_names_protocol, left
from logqueue.group.classic.rebalance import failed_join
from logqueue.group.classic.subscription import CONSUMER_PROTOCOL_TYPE
from logqueue.group.consumer import embedded_protocol
from logqueue.group.consumer.departures import Departures
from logqueue.group.consumer.draft import Draft
from logqueue.group.consumer.errors import ConsumerGroupIsFull, InconsistentMember, NotAMember
from logqueue.group.consumer.group import ConsumerGroup
from logqueue.group.consumer.member import (
    NEWCOMER,
    ClassicSide,
    ConsumerMember,
    MemberState,
    Partitions,
    Profile,
)
from logqueue.group.consumer.migration import Migration
from logqueue.group.consumer.rebalance import ConsumerRebalance, Subscription
from logqueue.group.consumer.timers import ConsumerTimers
from logqueue.group.consumer.turns import Turns
from logqueue.group.errors import IllegalGeneration, InvalidSessionTimeout, MemberIdRequired, RebalanceInProgress
from logqueue.group.ledger import Ledger
from logqueue.protocol.messages.consumer_protocol import ConsumerProtocolSubscription
from logqueue.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from logqueue.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from logqueue.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from logqueue.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from logqueue.protocol.wire import MalformedFrame


class ClassicMembers:
    """Answers classic clients of consumer groups that have members. Call only in the group's turn."""

    def __init__(
        self,
        *,
        config: BrokerConfig,
        topics: Topics,
        ledger: Ledger,
        turns: Turns,
        rules: ConsumerRebalance,
        migration: Migration,
        departures: Departures,
        timers: ConsumerTimers,
        random_id: Callable[[], str],
    ) -> None:
        self._config = config
        self._topics = topics
        self._ledger = ledger
        self._turns = turns
        self._rules = rules
        self._migration = migration
        self._departures = departures
        self._timers = timers
        self._random_id = random_id

    # JoinGroup

    def join(self, group: ConsumerGroup, request: JoinGroupRequest, *, caller: Caller, now: Now) -> None:
        """Let a classic client in, or one step further."""
        try:
            check_request(request, self._config)
            check_names(request, caller)
            self._join(group, request, caller, now)
        except MemberIdRequired as required:
            self._ledger.reply(caller, failed_join(required.code, required.member_id, version=caller.version))
        except InvalidSessionTimeout as error:
            self._ledger.reply(caller, failed_join(error.code, request.member_id, version=caller.version))
        except KafkaError as error:
            self._ledger.reply(caller, failed_join(error.code, version=caller.version))

    def _join(self, group: ConsumerGroup, request: JoinGroupRequest, caller: Caller, now: Now) -> None:
        member_id = self._admit(group, request, caller)
        draft, topics_version = Draft(group), self._rules.topics_version
        holder = None if request.group_instance_id is None else group.static_member(request.group_instance_id)
        before = self._find_member(draft, request, member_id, holder)
        subscription = _read_subscription(request)
        change = self._rules.subscribe(draft, before, _profile(before.profile, request, subscription, caller))
        is_new = change is not Subscription.SAME
        # The last member of the consumer protocol was static, and this client takes its place.
        is_last = holder is not None and not holder.is_classic and self._migration.can_downgrade(draft.group)
        if not is_last and (is_new or self._rules.is_unchecked(group)):
            self._rules.bump(draft, if_topics_changed=not is_new)
        owned = embedded_protocol.by_id(subscription.owned_partitions, self._topics)
        after = self._advance(draft, member_id, is_last=is_last, is_new=is_new, owned=owned)
        response = JoinGroupResponse(
            member_id=member_id,
            generation_id=after.standing.epoch,
            protocol_type=CONSUMER_PROTOCOL_TYPE,
            protocol_name=request.protocols[0].name,
        )

        def settle(error: ErrorCode, later: Now) -> None:
            if error is not ErrorCode.NONE:
                self._ledger.reply(caller, failed_join(error, version=caller.version))
                return
            if holder is not None and holder.member_id != member_id:
                self._timers.forget(group.group_id, holder.member_id)
            if not is_last:
                self._rules.has_checked(group.group_id, topics_version)
                self.keep_session(group.group_id, after, later)
                self._timers.expect_sync(group.group_id, after, later)
            self._ledger.reply(caller, response)

        if is_last:
            self._departures.downgrade(draft, is_disturbed=is_new, now=now, then=settle)
        elif draft.changes:
            self._turns.append(group.group_id, tuple(draft.changes), settle)
        else:
            settle(ErrorCode.NONE, now)

    def _admit(self, group: ConsumerGroup, request: JoinGroupRequest, caller: Caller) -> str:
        """The member id to join with. Raises KafkaError, MemberIdRequired among others (KIP-394)."""
        member_id = request.member_id or self._random_id()
        limit = self._config.group_consumer_max_size
        if member_id not in group.profiles and len(group.profiles) >= limit:
            raise ConsumerGroupIsFull(limit)
        _check_protocols(group, request)
        is_unknown = not request.member_id and request.group_instance_id is None
        if is_unknown and caller.version >= REQUIRES_MEMBER_ID_SINCE:
            raise MemberIdRequired(group.group_id, member_id)
        return member_id

    def _advance(
        self, draft: Draft, member_id: str, *, is_last: bool, is_new: bool, owned: Partitions
    ) -> ConsumerMember:
        """One step of reconciliation. Before a downgrade that calls everybody to join again there is none."""
        if is_last and is_new:
            return draft.group.require(member_id)
        if not is_last:
            self._rules.assign(draft)
        return self._rules.advance(draft, member_id, has_new_subscription=is_new, owned=owned)

    def _find_member(
        self, draft: Draft, request: JoinGroupRequest, member_id: str, holder: ConsumerMember | None
    ) -> ConsumerMember:
        """The member as it was: itself, a new one, or the static one whose place it takes (KIP-345)."""
        group, instance_id = draft.group, request.group_instance_id
        if instance_id is not None and request.member_id:
            return group.require_static(instance_id, member_id)
        if holder is not None:
            return self._rules.replace_static(draft, holder, member_id)
        return group.member(member_id) or ConsumerMember(member_id, Profile(), NEWCOMER)

    # SyncGroup

    def sync(self, group: ConsumerGroup, request: SyncGroupRequest, *, caller: Caller, now: Now) -> None:
        """Give a member what it holds."""
        try:
            check_names_protocol(request, caller)
            member, classic = self._member(group, request.member_id, request.group_instance_id)
            _check_generation(group, member, request.generation_id)
            _check_protocol(classic, request)
            if group.epoch > member.standing.epoch and member.standing.state is not MemberState.UNREVOKED:
                self._timers.expect_rejoin(group.group_id, member, now)
                raise RebalanceInProgress(group.group_id)
        except KafkaError as error:
            self._ledger.reply(caller, SyncGroupResponse(error_code=error.code))
            return
        self._timers.has_synced(group.group_id, member.member_id)
        self.keep_session(group.group_id, member, now)
        version = embedded_protocol.version_of(classic.protocols[0].metadata)
        assignment = embedded_protocol.write_assignment(member.standing.assigned, version=version, topics=self._topics)
        self._ledger.reply(
            caller,
            SyncGroupResponse(
                protocol_type=request.protocol_type, protocol_name=request.protocol_name, assignment=assignment
            ),
        )

    # Heartbeat

    def heartbeat(self, group: ConsumerGroup, request: HeartbeatRequest, *, caller: Caller, now: Now) -> None:
        """Keep the session, and tell the member to join again when there is a step to take."""
        error = ErrorCode.NONE
        try:
            member, _ = self._member(group, request.member_id, request.group_instance_id)
            _check_generation(group, member, request.generation_id)
            self.keep_session(group.group_id, member, now)
            if _has_a_step_to_take(group, member):
                self._timers.expect_rejoin(group.group_id, member, now)
                error = ErrorCode.REBALANCE_IN_PROGRESS
        except KafkaError as refused:
            error = refused.code
        self._ledger.reply(caller, HeartbeatResponse(error_code=error))

    def keep_session(self, group_id: str, member: ConsumerMember, now: Now) -> None:
        """The classic member is alive."""
        assert member.profile.classic is not None
        timeout_ms = member.profile.classic.session_timeout_ms
        self._timers.keep_session(group_id, member.member_id, timeout_ms=timeout_ms, now=now)

    # LeaveGroup

    def leave(self, group: ConsumerGroup, request: LeaveGroupRequest, *, caller: Caller, now: Now) -> None:
        """Take members out, of either protocol; an operator names static ones by instance id alone."""
        leavers = request.members
        if caller.version < NAMES_MEMBERS_SINCE:
            leavers = [MemberIdentity(member_id=request.member_id)]
        found = [_find_leaver(group, leaver) for leaver in leavers]
        answers = [
            left(leaver, each if isinstance(each, ErrorCode) else ErrorCode.NONE)
            for leaver, each in zip(leavers, found, strict=True)
        ]
        going: Collection[str] = dict.fromkeys(each for each in found if not isinstance(each, ErrorCode))
        if not going:
            answer_leave(self._ledger, caller, answers)
            return

        def settle(error: ErrorCode, _: Now) -> None:
            if error is not ErrorCode.NONE:
                for answer in answers:
                    answer.error_code = answer.error_code or error
            answer_leave(self._ledger, caller, answers)

        self._departures.take_out(Draft(group), going, now, settle)

    def _member(
        self, group: ConsumerGroup, member_id: str, instance_id: str | None
    ) -> tuple[ConsumerMember, ClassicSide]:
        member = group.require(member_id) if instance_id is None else group.require_static(instance_id, member_id)
        if member.profile.classic is None:
            raise NotAMember(f"Member {member_id} does not use the classic protocol.")
        return member, member.profile.classic


def _find_leaver(group: ConsumerGroup, leaver: MemberIdentity) -> str | ErrorCode:
    try:
        if leaver.group_instance_id is None:
            return group.require(leaver.member_id).member_id
        return group.require_static(leaver.group_instance_id, leaver.member_id or None).member_id
    except KafkaError as error:
        return error.code


def _has_a_step_to_take(group: ConsumerGroup, member: ConsumerMember) -> bool:
    standing = member.standing
    if standing.epoch < group.epoch or standing.state is MemberState.UNREVOKED:
        return True
    return standing.state is MemberState.UNRELEASED and not _waits_for_others(group, member)


def _waits_for_others(group: ConsumerGroup, member: ConsumerMember) -> bool:
    """Whether a partition of its target, which it does not have, is somebody's still."""
    nothing: frozenset[int] = frozenset()
    held: Partitions = member.standing.assigned
    return any(
        group.owner(topic_id, index) is not None
        for topic_id, indexes in group.target(member.member_id).items()
        for index in indexes - held.get(topic_id, nothing)
    )


def _check_protocols(group: ConsumerGroup, request: JoinGroupRequest) -> None:
    """Raise InconsistentMember unless the client shares a protocol with every classic member there is."""
    if request.protocol_type == CONSUMER_PROTOCOL_TYPE and request.protocols:
        sides = [profile.classic for profile in group.profiles.values() if profile.classic is not None]
        common = {protocol.name for protocol in request.protocols}
        for side in sides:
            common &= {protocol.name for protocol in side.protocols}
        if common:
            return
    raise InconsistentMember(f"Member {request.member_id}'s protocols are not supported.")


def _read_subscription(request: JoinGroupRequest) -> ConsumerProtocolSubscription:
    """What the client wants to read: all its protocols say the same, so the first one is read."""
    try:
        return embedded_protocol.read_subscription(request.protocols[0].metadata)
    except MalformedFrame:
        raise InconsistentMember("Malformed embedded consumer protocol in subscription deserialization.") from None


def _profile(
    before: Profile, request: JoinGroupRequest, subscription: ConsumerProtocolSubscription, caller: Caller
) -> Profile:
    return Profile(
        instance_id=before.instance_id if request.group_instance_id is None else request.group_instance_id,
        rack_id=subscription.rack_id or before.rack_id,
        client_id=caller.client_id,
        client_host=caller.host,
        topics=frozenset(subscription.topics),
        rebalance_timeout_ms=rebalance_timeout_ms(request),
        assignor=before.assignor,
        classic=ClassicSide(session_timeout_ms=request.session_timeout_ms, protocols=protocols_of(request)),
    )


def _check_generation(group: ConsumerGroup, member: ConsumerMember, generation: int) -> None:
    if generation != member.standing.epoch:
        raise IllegalGeneration(group.group_id, expected=member.standing.epoch, got=generation)


def _check_protocol(classic: ClassicSide, request: SyncGroupRequest) -> None:
    """KIP-559: a member that says which protocol it follows must follow the one it was told when it joined."""
    if request.protocol_type not in (None, CONSUMER_PROTOCOL_TYPE):
        raise InconsistentMember(f"The group's protocol type is {CONSUMER_PROTOCOL_TYPE}.")
    if request.protocol_name not in (None, classic.protocols[0].name):
        raise InconsistentMember(f"The member was told to follow {classic.protocols[0].name}.")
