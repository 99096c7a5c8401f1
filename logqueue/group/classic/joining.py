"""JoinGroup: how members enter a classic group, get their ids (KIP-394) and keep their place (KIP-345)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from logqueue.config import BrokerConfig
from logqueue.coordination.effects import Caller, Now
from logqueue.errors import ErrorCode, KafkaError
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.member import Member, Protocol
from logqueue.group.classic.rebalance import (
    NEW_MEMBER_JOIN_TIMEOUT_MS,
    Rebalance,
    failed_join,
    join_response,
    joined_members,
)
from logqueue.group.classic.states import COMPLETING_REBALANCE, PREPARING_REBALANCE, STABLE
from logqueue.group.errors import (
    GroupIsFull,
    InconsistentProtocol,
    InvalidGroupId,
    InvalidSessionTimeout,
    MemberIdRequired,
    NameTooLong,
    UnknownMember,
)
from logqueue.group.ledger import Ledger
from logqueue.group.records import GroupChange, group_value, is_storable
from logqueue.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from logqueue.protocol.wire import STRING_BYTES_MAX

REQUIRES_MEMBER_ID_SINCE = 4  # KIP-394
SKIPS_ASSIGNMENT_SINCE = 9  # KIP-814
RANDOM_ID_BYTES = 64  # more than a member id is longer than the client or instance id it begins with


class Joining:
    """Answers JoinGroup, or parks it until the generation is complete."""

    def __init__(
        self,
        groups: dict[str, ClassicGroup],
        *,
        config: BrokerConfig,
        ledger: Ledger,
        rebalance: Rebalance,
        random_id: Callable[[], str],
    ) -> None:
        self._groups = groups
        self._config = config
        self._ledger = ledger
        self._rebalance = rebalance
        self._random_id = random_id

    def join(self, request: JoinGroupRequest, *, caller: Caller, now: Now) -> None:
        """Let a member in, or say why not. The id goes back with a refusal, so that the client may keep it."""
        try:
            self.check(request, caller=caller)
            group = self._group_for(request, now)
            self._groups[group.group_id] = group  # as in Kafka, a refused first member leaves an empty group
            self._check_room(group, request.member_id)
            group.check_alive()
            names = {protocol.name for protocol in request.protocols}
            if not group.supports(request.protocol_type, names):
                raise InconsistentProtocol(group.group_id, f"{request.protocol_type} {sorted(names)} do not fit")
            if request.member_id:
                self._join_known(group, request, caller, now)
            else:
                self._join_unknown(group, request, caller, now)
        except MemberIdRequired as required:
            code = ErrorCode.MEMBER_ID_REQUIRED
            self._ledger.reply(caller, failed_join(code, required.member_id, version=caller.version))
        except GroupIsFull as full:
            self._ledger.reply(caller, failed_join(full.code, version=caller.version))
        except KafkaError as error:
            self.refuse(request, error.code, caller=caller)

    def check(self, request: JoinGroupRequest, *, caller: Caller) -> None:
        """Raise KafkaError for a request that no group would let in."""
        check_request(request, self._config)
        check_names(request, caller)

    def refuse(self, request: JoinGroupRequest, error: ErrorCode, *, caller: Caller) -> None:
        """Answer with an error."""
        self._ledger.reply(caller, failed_join(error, request.member_id, version=caller.version))

    def _group_for(self, request: JoinGroupRequest, now: Now) -> ClassicGroup:
        group = self._groups.get(request.group_id)
        if group is None:
            if request.member_id:
                raise UnknownMember(request.group_id, request.member_id)
            group = ClassicGroup(request.group_id, state_time_ms=now.time_ms)
        return group

    def _check_room(self, group: ClassicGroup, member_id: str) -> None:
        """Raise GroupIsFull for one too many. While members rejoin, only those who have come back count."""
        limit = self._config.group_max_size
        member = group.members.get(member_id)
        if group.state is PREPARING_REBALANCE:
            has_room = (member is not None and member.parked_join is not None) or group.waiting_joins < limit
        else:
            has_room = member is not None or len(group.members) < limit
        if not has_room:
            group.remove(member_id)
            raise GroupIsFull(group.group_id, limit)

    # Members without an id

    def _join_unknown(self, group: ClassicGroup, request: JoinGroupRequest, caller: Caller, now: Now) -> None:
        instance_id = request.group_instance_id
        member_id = f"{caller.client_id if instance_id is None else instance_id}-{self._random_id()}"
        if instance_id is not None and instance_id in group.static_ids:
            self._replace_static(group, group.static_ids[instance_id], member_id, request, caller, now)
        elif instance_id is None and caller.version >= REQUIRES_MEMBER_ID_SINCE:
            group.pending_joins.add(member_id)
            self._rebalance.expect_member(group, member_id, request.session_timeout_ms, now)
            raise MemberIdRequired(group.group_id, member_id)
        else:
            self._add(group, member_id, request, caller, now)

    def _add(self, group: ClassicGroup, member_id: str, request: JoinGroupRequest, caller: Caller, now: Now) -> None:
        member = Member(
            member_id=member_id,
            instance_id=request.group_instance_id,
            client_id=caller.client_id,
            client_host=caller.host,
            rebalance_timeout_ms=rebalance_timeout_ms(request),
            session_timeout_ms=request.session_timeout_ms,
            protocols=protocols_of(request),
        )
        member.is_new = True
        if group.is_initial_rebalance:
            group.has_newcomer = True
        if not group.members:
            group.protocol_type = request.protocol_type
        group.add(member)
        self._rebalance.park_join(member, caller)
        self._rebalance.expect_member(group, member_id, NEW_MEMBER_JOIN_TIMEOUT_MS, now)
        self._rebalance.prepare_or_complete(group, now)

    # Members with an id

    def _join_known(self, group: ClassicGroup, request: JoinGroupRequest, caller: Caller, now: Now) -> None:
        if request.member_id in group.pending_joins and request.group_instance_id is None:
            self._add(group, request.member_id, request, caller, now)
            return
        member = group.check_member(request.member_id, request.group_instance_id)
        is_unchanged = member.protocols == protocols_of(request)
        is_leader = group.leader == member.member_id
        if is_unchanged and (group.state is COMPLETING_REBALANCE or (group.state is STABLE and not is_leader)):
            # The answer got lost, or a follower looks after itself: the generation goes on. A leader that joins
            # a stable group wants a rebalance: it may have seen new partitions.
            self._ledger.reply(caller, join_response(group, member))
            return
        self._update(group, member, request, caller)
        self._rebalance.prepare_or_complete(group, now)

    def _update(self, group: ClassicGroup, member: Member, request: JoinGroupRequest, caller: Caller) -> None:
        group.update_protocols(member, protocols_of(request))
        member.rebalance_timeout_ms = rebalance_timeout_ms(request)
        member.session_timeout_ms = request.session_timeout_ms
        self._rebalance.park_join(member, caller)

    # Static members that come back

    def _replace_static(
        self, group: ClassicGroup, old_id: str, new_id: str, request: JoinGroupRequest, caller: Caller, now: Now
    ) -> None:
        """KIP-345: the place, and in a stable group the assignment, goes to the newcomer; the old id is fenced."""
        before = group.members[old_id]
        old_leader = group.leader
        self._rebalance.fence(group, before)
        member = group.rename_static(old_id, new_id)
        self._rebalance.keep_session(group, member, now)
        self._update(group, member, request, caller)
        if group.state is not STABLE:
            # In CompletingRebalance the leader may already be assigning to the old id: begin anew.
            self._rebalance.prepare_or_complete(group, now)
        elif group.select_protocol() != group.protocol:
            self._rebalance.prepare(group, now)
        else:
            assignments = {m.member_id: m.assignment for m in group.members.values()}
            change = GroupChange(group.group_id, group_value(group, assignments))
            settled = partial(self._on_replacement_stored, group, before, member, caller, old_leader)
            self._ledger.append(group.group_id, (change,), settled)

    def _on_replacement_stored(
        self,
        group: ClassicGroup,
        before: Member,
        member: Member,
        caller: Caller,
        old_leader: str | None,
        error: ErrorCode,
        now: Now,
    ) -> None:
        if member.parked_join is not caller or group.state is not STABLE:
            return  # a rebalance that began meanwhile answers it
        if error is ErrorCode.NONE:
            response = _replaced_response(group, member, caller, old_leader)
        else:
            response = failed_join(error, version=caller.version)
            response.generation_id = group.generation
        self._rebalance.answer_join(group, member, response)
        if error is ErrorCode.NONE:
            self._rebalance.keep_session(group, member, now)  # it may have run out unnoticed while the join waited
        else:
            group.update_protocols(member, before.protocols)
            member.rebalance_timeout_ms = before.rebalance_timeout_ms
            member.session_timeout_ms = before.session_timeout_ms
            restored = group.rename_static(member.member_id, before.member_id)
            self._rebalance.keep_session(group, restored, now)


def _replaced_response(
    group: ClassicGroup, member: Member, caller: Caller, old_leader: str | None
) -> JoinGroupResponse:
    """From v9 on a leader is told that it leads but needs to assign nothing; before, that somebody else leads."""
    response = join_response(group, member)
    is_leader = group.leader == member.member_id
    if caller.version >= SKIPS_ASSIGNMENT_SINCE:
        response.members = joined_members(group) if is_leader else []
        response.skip_assignment = is_leader
    else:
        response.leader = old_leader or ""
        response.members = []
    return response


def check_request(request: JoinGroupRequest, config: BrokerConfig) -> None:
    """Raise InvalidGroupId or InvalidSessionTimeout."""
    if not request.group_id or not is_storable(request.group_id):
        raise InvalidGroupId
    low, high = config.group_min_session_timeout_ms, config.group_max_session_timeout_ms
    if not low <= request.session_timeout_ms <= high:
        raise InvalidSessionTimeout(request.session_timeout_ms, low=low, high=high)


def check_names(request: JoinGroupRequest, caller: Caller) -> None:
    """Raise NameTooLong for a name that no record can hold."""
    names = [request.protocol_type, *(protocol.name for protocol in request.protocols)]
    id_bytes = max(len(name.encode()) for name in (caller.client_id, request.group_instance_id or ""))
    if not all(map(is_storable, names)) or id_bytes + RANDOM_ID_BYTES > STRING_BYTES_MAX:
        raise NameTooLong(request.group_id)


def protocols_of(request: JoinGroupRequest) -> tuple[Protocol, ...]:
    """The protocols a member speaks, most preferred first."""
    return tuple(Protocol(protocol.name, protocol.metadata) for protocol in request.protocols)


def rebalance_timeout_ms(request: JoinGroupRequest) -> int:
    """Version 0 has none: the session timeout stands in."""
    return request.rebalance_timeout_ms if request.rebalance_timeout_ms >= 0 else request.session_timeout_ms
