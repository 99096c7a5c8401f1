"""ConsumerGroupHeartbeat (KIP-848): joining, staying, changing one's mind and leaving, all in one request.

A heartbeat upserts the member; a changed subscription or changed topics begin a new group epoch; targets of an older
epoch are worked out anew; and the member takes one step towards its own. The answer follows the records of all that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from logqueue.config import BrokerConfig
from logqueue.config.group import GroupConfig
from logqueue.coordination.effects import Caller, Now
from logqueue.errors import ErrorCode, KafkaError
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.states import DEAD, EMPTY
from logqueue.group.consumer.departures import Departures
from logqueue.group.consumer.draft import Draft
from logqueue.group.consumer.errors import (
    ConsumerGroupIsFull,
    FencedMemberEpoch,
    InvalidHeartbeat,
    NotAConsumerGroup,
    UnreleasedInstance,
    UnsupportedAssignor,
)
from logqueue.group.consumer.group import ConsumerGroup
from logqueue.group.consumer.member import (
    JOINING_EPOCH,
    LEAVING_EPOCH,
    LEAVING_STATIC_EPOCH,
    NEWCOMER,
    NO_PARTITIONS,
    ConsumerMember,
    Partitions,
    Profile,
    is_within,
    partitions_of,
)
from logqueue.group.consumer.migration import Migration
from logqueue.group.consumer.rebalance import ConsumerRebalance, Subscription
from logqueue.group.consumer.records import StandingChange
from logqueue.group.consumer.timers import ConsumerTimers
from logqueue.group.consumer.turns import Turns
from logqueue.group.errors import GroupIsDead, InvalidGroupId, NameTooLong
from logqueue.group.ledger import Ledger
from logqueue.group.records import GroupChange, is_storable
from logqueue.protocol.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

CLIENT_MAKES_MEMBER_ID_SINCE = 1  # KIP-1082
NOT_GIVEN = -1  # a rebalance timeout that the request does not change


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat on its way through the steps."""

    request: ConsumerGroupHeartbeatRequest
    caller: Caller
    member_id: str
    owned: Partitions | None
    topics_version: int  # topics may change before the records are durable


class ConsumerHeartbeats:
    """Answers ConsumerGroupHeartbeat."""

    def __init__(
        self,
        groups: dict[str, ConsumerGroup],
        classic_groups: dict[str, ClassicGroup],
        *,
        config: BrokerConfig,
        config_of: Callable[[str], GroupConfig],
        ledger: Ledger,
        turns: Turns,
        rules: ConsumerRebalance,
        migration: Migration,
        departures: Departures,
        timers: ConsumerTimers,
        end_classic: Callable[[ClassicGroup, Now], None],
        release_classic: Callable[[ClassicGroup], None],
        random_id: Callable[[], str],
    ) -> None:
        """`end_classic` answers what waits in a group about to be upgraded, `release_classic` ends its deadlines."""
        self._groups = groups
        self._classic_groups = classic_groups
        self._size_max = config.group_consumer_max_size
        self._config_of = config_of
        self._ledger = ledger
        self._turns = turns
        self._rules = rules
        self._migration = migration
        self._departures = departures
        self._timers = timers
        self._end_classic = end_classic
        self._release_classic = release_classic
        self._random_id = random_id

    def heartbeat(self, request: ConsumerGroupHeartbeatRequest, *, caller: Caller, now: Now) -> None:
        """Serve one heartbeat, in the group's turn."""
        try:
            self._check(request, caller)
        except KafkaError as error:
            self._refuse(caller, error)
            return
        self._turns.take(request.group_id, now, lambda later: self._serve(request, caller, later))

    def _serve(self, request: ConsumerGroupHeartbeatRequest, caller: Caller, now: Now) -> None:
        try:
            if request.member_epoch == LEAVING_STATIC_EPOCH:
                self._pause(request, caller)
            elif request.member_epoch == LEAVING_EPOCH:
                self._leave(request, caller, now)
            else:
                self._beat(request, caller, now)
        except KafkaError as error:
            self._refuse(caller, error)

    def _refuse(self, caller: Caller, error: KafkaError) -> None:
        self._ledger.reply(
            caller, ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.detail or None)
        )

    # Checks

    def _check(self, request: ConsumerGroupHeartbeatRequest, caller: Caller) -> None:
        epoch = request.member_epoch
        if caller.version >= CLIENT_MAKES_MEMBER_ID_SINCE or epoch > 0 or epoch == LEAVING_EPOCH:
            _refuse_blank(request.member_id, "MemberId")
        _refuse_blank(request.group_id, "GroupId")
        _refuse_blank(request.instance_id, "InstanceId")
        _refuse_blank(request.rack_id, "RackId")
        if epoch == JOINING_EPOCH:
            _check_joining(request)
        elif epoch == LEAVING_STATIC_EPOCH and request.instance_id is None:
            raise InvalidHeartbeat("InstanceId can't be null.")
        elif epoch < LEAVING_STATIC_EPOCH:
            raise InvalidHeartbeat("MemberEpoch is invalid.")
        assignors = self._rules.assignors
        if request.server_assignor is not None and request.server_assignor not in assignors:
            raise UnsupportedAssignor(request.server_assignor, assignors.names)
        if not is_storable(request.group_id):
            raise InvalidGroupId
        texts = (request.member_id, request.instance_id, request.rack_id, caller.client_id)
        if not all(map(is_storable, texts)):
            raise NameTooLong(request.group_id)

    # Staying

    def _beat(self, request: ConsumerGroupHeartbeatRequest, caller: Caller, now: Now) -> None:
        draft, classic = self._draft_for(request)
        group = draft.group
        if request.member_id not in group.profiles and len(group.profiles) >= self._size_max:
            raise ConsumerGroupIsFull(self._size_max)
        owned = None
        if request.topic_partitions is not None:
            owned = partitions_of((topic.topic_id, topic.partitions) for topic in request.topic_partitions)
        beat = Beat(request, caller, request.member_id or self._random_id(), owned, self._rules.topics_version)
        before = self._find_member(draft, beat)
        subscription = self._rules.subscribe(draft, before, _updated(before.profile, beat))
        if draft.group.epoch == 0 or subscription is Subscription.CHANGED:
            self._rules.bump(draft)
        elif self._rules.is_unchecked(group):
            self._rules.bump(draft, if_topics_changed=True)
        self._rules.assign(draft)
        after = self._rules.advance(
            draft, beat.member_id, has_new_subscription=subscription is not Subscription.SAME, owned=owned
        )
        response = self._response(beat, before, after)
        if not draft.changes:
            self._settle(draft, beat, after, response, now)
            return
        if classic is not None:
            self._end_classic(classic, now)

        def settle(error: ErrorCode, later: Now) -> None:
            if error is not ErrorCode.NONE:
                self._ledger.reply(caller, ConsumerGroupHeartbeatResponse(error_code=error))
                return
            if classic is not None:
                self._release_classic(classic)
                self._keep_classic_sessions(draft.group, later)
            if before.member_id != beat.member_id:
                self._timers.forget(draft.group.group_id, before.member_id)
            self._settle(draft, beat, after, response, later)

        self._turns.append(draft.group.group_id, tuple(draft.changes), settle)

    def _settle(
        self,
        draft: Draft,
        beat: Beat,
        after: ConsumerMember,
        response: ConsumerGroupHeartbeatResponse,
        now: Now,
    ) -> None:
        """Everything is durable: answer, and keep time."""
        group_id = draft.group.group_id
        self._rules.has_checked(group_id, beat.topics_version)
        timeout_ms = self._config_of(group_id).consumer_session_timeout_ms
        self._timers.keep_session(group_id, beat.member_id, timeout_ms=timeout_ms, now=now)
        if draft.changes:
            self._timers.watch_revocation(group_id, after, now)
        if not self._timers.is_resolving(group_id) and self._rules.wants_refresh(draft.group, now):
            self._timers.resolve_regexes(group_id, beat.caller.sees, now)
        self._ledger.reply(beat.caller, response)

    def _draft_for(self, request: ConsumerGroupHeartbeatRequest) -> tuple[Draft, ClassicGroup | None]:
        """The group to work on; a classic one that has to become it."""
        group_id = request.group_id
        group = self._groups.get(group_id)
        if group is not None:
            return Draft(group), None
        may_create = request.member_epoch == JOINING_EPOCH
        classic = self._classic_groups.get(group_id)
        if classic is None:
            if not may_create:
                raise NotAConsumerGroup(f"Consumer group {group_id} not found.")
            return Draft(ConsumerGroup(group_id), is_new=True), None
        if classic.state is DEAD:
            raise GroupIsDead(group_id)
        if not may_create:
            raise NotAConsumerGroup(f"Group {group_id} is not a consumer group.")
        if classic.state is EMPTY:
            draft = Draft(ConsumerGroup(group_id), before=[GroupChange(group_id, None)], is_new=True)
            return draft, classic
        return self._migration.upgrade(classic), classic

    def _find_member(self, draft: Draft, beat: Beat) -> ConsumerMember:
        """The member as it was: itself, a new one, or the static one whose place it takes."""
        group, request = draft.group, beat.request
        is_joining = request.member_epoch == JOINING_EPOCH
        if request.instance_id is None:
            member = group.member(beat.member_id) if is_joining else group.require(beat.member_id)
            if member is None:
                return ConsumerMember(beat.member_id, Profile(), NEWCOMER)
        elif is_joining:
            holder = group.static_member(request.instance_id)
            if holder is None:
                return group.member(beat.member_id) or ConsumerMember(beat.member_id, Profile(), NEWCOMER)
            if not holder.is_classic and holder.standing.epoch != LEAVING_STATIC_EPOCH:
                raise UnreleasedInstance(request.instance_id, owner=holder.member_id, member_id=beat.member_id)
            return self._rules.replace_static(draft, holder, beat.member_id)
        else:
            member = group.require_static(request.instance_id, beat.member_id)
        if not is_joining:
            _check_epoch(member, request.member_epoch, beat.owned)
        return member

    def _response(self, beat: Beat, before: ConsumerMember, after: ConsumerMember) -> ConsumerGroupHeartbeatResponse:
        """The member's epoch, and its assignment if it is new to it or if it asks for all (KIP-848)."""
        request = beat.request
        response = ConsumerGroupHeartbeatResponse(
            member_id=after.member_id,
            member_epoch=after.standing.epoch,
            heartbeat_interval_ms=self._config_of(request.group_id).consumer_heartbeat_interval_ms,
        )
        is_full = (
            request.rebalance_timeout_ms != NOT_GIVEN
            and (request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None)
            and request.topic_partitions is not None
        )
        has_changed = before.standing.assigned != after.standing.assigned
        if request.member_epoch == JOINING_EPOCH or is_full or has_changed:
            response.assignment = Assignment(
                topic_partitions=[
                    TopicPartitions(topic_id=topic_id, partitions=sorted(indexes))
                    for topic_id, indexes in after.standing.assigned.items()
                ]
            )
        return response

    def _keep_classic_sessions(self, group: ConsumerGroup, now: Now) -> None:
        """The members of an upgraded group keep their session timeouts."""
        for member in group.members():
            if member.profile.classic is not None:
                timeout_ms = member.profile.classic.session_timeout_ms
                self._timers.keep_session(group.group_id, member.member_id, timeout_ms=timeout_ms, now=now)

    # Leaving

    def _group_to_leave(self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroup:
        group = self._groups.get(request.group_id)
        if group is None:
            known = request.group_id in self._classic_groups
            raise NotAConsumerGroup(
                f"Group {request.group_id} is not a consumer group."
                if known
                else f"Group {request.group_id} not found."
            )
        return group

    def _leave(self, request: ConsumerGroupHeartbeatRequest, caller: Caller, now: Now) -> None:
        group = self._group_to_leave(request)
        if request.instance_id is None:
            member = group.require(request.member_id)
        else:
            member = group.require_static(request.instance_id, request.member_id)
        response = ConsumerGroupHeartbeatResponse(member_id=request.member_id, member_epoch=request.member_epoch)
        self._departures.take_out(Draft(group), [member.member_id], now, self._answer(caller, response))

    def _pause(self, request: ConsumerGroupHeartbeatRequest, caller: Caller) -> None:
        """A static member goes and means to come back: until its session ends nobody else gets what it holds."""
        group = self._group_to_leave(request)
        assert request.instance_id is not None
        member = group.require_static(request.instance_id, request.member_id)
        draft = Draft(group)
        standing = replace(member.standing, epoch=LEAVING_STATIC_EPOCH, revoking=NO_PARTITIONS)
        draft.add(StandingChange(group.group_id, member.member_id, standing))
        response = ConsumerGroupHeartbeatResponse(member_id=member.member_id, member_epoch=LEAVING_STATIC_EPOCH)
        self._turns.append(group.group_id, tuple(draft.changes), self._answer(caller, response))

    def _answer(self, caller: Caller, response: ConsumerGroupHeartbeatResponse) -> Callable[[ErrorCode, Now], None]:
        def settle(error: ErrorCode, _: Now) -> None:
            failed = ConsumerGroupHeartbeatResponse(error_code=error)
            self._ledger.reply(caller, response if error is ErrorCode.NONE else failed)

        return settle


def _check_joining(request: ConsumerGroupHeartbeatRequest) -> None:
    if request.rebalance_timeout_ms == NOT_GIVEN:
        raise InvalidHeartbeat("RebalanceTimeoutMs must be provided in first request.")
    if request.topic_partitions is None or request.topic_partitions:
        raise InvalidHeartbeat("TopicPartitions must be empty when (re-)joining.")
    if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
        raise InvalidHeartbeat(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining."
        )


def _refuse_blank(text: str | None, name: str) -> None:
    if text is not None and not text.strip():
        raise InvalidHeartbeat(f"{name} can't be empty.")


def _check_epoch(member: ConsumerMember, epoch: int, owned: Partitions | None) -> None:
    """Raise FencedMemberEpoch unless the client is at the member's epoch.

    The one before is accepted too, if the client owns nothing it should not: the answer that told the new one got lost.
    """
    standing = member.standing
    if epoch > standing.epoch:
        relation = "greater"
    elif epoch < standing.epoch and not (
        epoch == standing.previous_epoch and owned is not None and is_within(owned, standing.assigned)
    ):
        relation = "smaller"
    else:
        return
    raise FencedMemberEpoch(
        f"The consumer group member has a {relation} member epoch ({epoch}) than the one known by the group "
        f"coordinator ({standing.epoch})."
    )


def _updated(before: Profile, beat: Beat) -> Profile:
    """The profile with what the heartbeat says; what it leaves out stays."""
    request = beat.request
    if _says_nothing_of_itself(request) and (before.client_id, before.client_host, before.classic) == (
        beat.caller.client_id,
        beat.caller.host,
        None,
    ):
        return before
    names, regex = request.subscribed_topic_names, request.subscribed_topic_regex
    timeout_ms = request.rebalance_timeout_ms
    return Profile(
        instance_id=before.instance_id if request.instance_id is None else request.instance_id,
        rack_id=before.rack_id if request.rack_id is None else request.rack_id,
        client_id=beat.caller.client_id,
        client_host=beat.caller.host,
        topics=before.topics if names is None else frozenset(names),
        regex=before.regex if regex is None else regex,
        rebalance_timeout_ms=before.rebalance_timeout_ms if timeout_ms == NOT_GIVEN else timeout_ms,
        assignor=before.assignor if request.server_assignor is None else request.server_assignor,
    )


def _says_nothing_of_itself(request: ConsumerGroupHeartbeatRequest) -> bool:
    """Whether it is the short heartbeat of a member that has not changed."""
    return (
        request.rebalance_timeout_ms == NOT_GIVEN
        and request.instance_id is None
        and request.rack_id is None
        and request.subscribed_topic_names is None
        and request.subscribed_topic_regex is None
        and request.server_assignor is None
    )
