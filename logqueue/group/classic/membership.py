"""SyncGroup, Heartbeat and LeaveGroup: what members of a classic group do between joins."""

from __future__ import annotations

from logqueue.coordination.effects import Caller, Now
from logqueue.errors import ErrorCode, KafkaError
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.rebalance import Rebalance, sync_response
from logqueue.group.classic.states import PREPARING_REBALANCE, STABLE
from logqueue.group.errors import InconsistentProtocol, InvalidGroupId, RebalanceInProgress, UnknownMember
from logqueue.group.ledger import Ledger
from logqueue.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from logqueue.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    MemberResponse,
)
from logqueue.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

NAMES_PROTOCOL_SINCE = 5  # SyncGroup (KIP-559)
NAMES_MEMBERS_SINCE = 3  # LeaveGroup; before, the one member's error was the whole answer's


class Membership:
    """Answers members that hold an id."""

    def __init__(self, groups: dict[str, ClassicGroup], *, ledger: Ledger, rebalance: Rebalance) -> None:
        self._groups = groups
        self._ledger = ledger
        self._rebalance = rebalance

    def _group(self, group_id: str, member_id: str) -> ClassicGroup:
        """The group; to a member of one that does not exist, its own id is what is unknown."""
        if not group_id:
            raise InvalidGroupId
        group = self._groups.get(group_id)
        if group is None:
            raise UnknownMember(group_id, member_id)
        group.check_alive()
        return group

    # SyncGroup

    def sync(self, request: SyncGroupRequest, *, caller: Caller, now: Now) -> None:
        """Park a sync until the leader's; the leader's own stores the assignments of all."""
        try:
            check_names_protocol(request, caller)
            group = self._group(request.group_id, request.member_id)
            member = group.check_member(request.member_id, request.group_instance_id)
            group.check_generation(request.generation_id)
            _check_protocol(group, request)
            if group.state is PREPARING_REBALANCE:
                raise RebalanceInProgress(group.group_id)
        except KafkaError as error:
            self._ledger.reply(caller, SyncGroupResponse(error_code=error.code))
            return
        group.pending_syncs.discard(member.member_id)
        if group.state is STABLE:
            self._ledger.reply(caller, sync_response(group, member))
            return
        self._rebalance.park_sync(member, caller)
        if group.leader == member.member_id:
            assignments = {entry.member_id: entry.assignment for entry in request.assignments}
            self._rebalance.store_assignments(group, assignments, now)

    # Heartbeat

    def heartbeat(self, request: HeartbeatRequest, *, caller: Caller, now: Now) -> None:
        """Keep the member's session, and tell it when it has to join again."""
        error = ErrorCode.NONE
        try:
            group = self._group(request.group_id, request.member_id)
            member = group.check_member(request.member_id, request.group_instance_id)
            group.check_generation(request.generation_id)
            self._rebalance.keep_session(group, member, now)
            if group.state is PREPARING_REBALANCE:
                error = ErrorCode.REBALANCE_IN_PROGRESS
        except KafkaError as refused:
            error = refused.code
        self._ledger.reply(caller, HeartbeatResponse(error_code=error))

    # LeaveGroup

    def leave(self, request: LeaveGroupRequest, *, caller: Caller, now: Now) -> None:
        """Take members out, each with its own answer; an operator names static ones by instance id alone."""
        leavers = request.members
        if caller.version < NAMES_MEMBERS_SINCE:
            leavers = [MemberIdentity(member_id=request.member_id)]
        try:
            group = self._group(request.group_id, request.member_id)
        except UnknownMember as error:
            answer_leave(self._ledger, caller, [left(leaver, error.code) for leaver in leavers])
            return
        except KafkaError as error:
            self._ledger.reply(caller, LeaveGroupResponse(error_code=error.code))
            return
        answers = [left(leaver, self._take_out(group, leaver)) for leaver in leavers]
        if any(answer.error_code == ErrorCode.NONE for answer in answers):
            self._rebalance.after_removal(group, now)
        # An emptied group is written down: the answer waits for that.
        self._ledger.when_idle(group.group_id, now, lambda _: answer_leave(self._ledger, caller, answers))

    def _take_out(self, group: ClassicGroup, leaver: MemberIdentity) -> ErrorCode:
        member_id, instance_id = leaver.member_id, leaver.group_instance_id
        try:
            if not member_id and instance_id is not None:
                member_id = group.static_ids.get(instance_id, "")
            if member_id not in group.pending_joins:
                group.check_member(member_id, instance_id)
        except KafkaError as error:
            return error.code
        self._rebalance.remove(group, member_id)
        return ErrorCode.NONE


def answer_leave(ledger: Ledger, caller: Caller, answers: list[MemberResponse]) -> None:
    """Answer a LeaveGroup, with what became of each member."""
    if caller.version < NAMES_MEMBERS_SINCE:
        ledger.reply(caller, LeaveGroupResponse(error_code=answers[0].error_code))
    else:
        ledger.reply(caller, LeaveGroupResponse(members=answers))


def left(leaver: MemberIdentity, error: ErrorCode) -> MemberResponse:
    """What became of one member."""
    return MemberResponse(member_id=leaver.member_id, group_instance_id=leaver.group_instance_id, error_code=error)


def check_names_protocol(request: SyncGroupRequest, caller: Caller) -> None:
    """Raise InconsistentProtocol for a sync that has to say which protocol it follows, and does not."""
    if caller.version >= NAMES_PROTOCOL_SINCE and None in (request.protocol_type, request.protocol_name):
        raise InconsistentProtocol(request.group_id, "the request does not say which protocol it follows")


def _check_protocol(group: ClassicGroup, request: SyncGroupRequest) -> None:
    """KIP-559: a member that says which protocol it follows must follow the group's."""
    for said, known in ((request.protocol_type, group.protocol_type), (request.protocol_name, group.protocol)):
        if said is not None and known is not None and said != known:
            raise InconsistentProtocol(group.group_id, f"the request follows {said!r}, the group {known!r}")
