"""ListGroups and DescribeGroups: what operators see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from logqueue.coordination.effects import Caller
from logqueue.errors import ErrorCode
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.member import Member
from logqueue.group.classic.states import DEAD, STABLE
from logqueue.group.classic.subscription import CONSUMER_PROTOCOL_TYPE
from logqueue.group.errors import GroupNotFound
from logqueue.group.ledger import Ledger
from logqueue.protocol.messages.describe_groups import (
    DescribedGroup,
    DescribedGroupMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from logqueue.protocol.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse

if TYPE_CHECKING:
    from logqueue.group.consumer.group import ConsumerGroup

CLASSIC = "classic"
CONSUMER = "consumer"
NOT_FOUND_SINCE = 6  # DescribeGroups (KIP-1043); before, an unknown group was described as a dead one

# Without an authorizer everybody may do everything: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS (KIP-430).
ALL_OPERATIONS = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11


class Listing:
    """Answers from the groups as they are."""

    def __init__(
        self, groups: dict[str, ClassicGroup], consumer_groups: Mapping[str, ConsumerGroup], *, ledger: Ledger
    ) -> None:
        self._groups = groups
        self._consumer_groups = consumer_groups
        self._ledger = ledger

    def list_groups(self, request: ListGroupsRequest, *, caller: Caller) -> None:
        """Every group that passes the filters, which ignore case; an empty filter passes all."""
        states = {state.strip().lower() for state in request.states_filter}
        types = {group_type.strip().lower() for group_type in request.types_filter}
        every = [
            ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type or "",
                group_state=group.state.value,
                group_type=CLASSIC,
            )
            for group in self._groups.values()
        ]
        every += [
            ListedGroup(
                group_id=group_id,
                protocol_type=CONSUMER_PROTOCOL_TYPE,
                group_state=consumer_group.state.value,
                group_type=CONSUMER,
            )
            for group_id, consumer_group in self._consumer_groups.items()
        ]
        listed = [
            group
            for group in every
            if (not states or group.group_state.lower() in states) and (not types or group.group_type in types)
        ]
        self._ledger.reply(caller, ListGroupsResponse(groups=listed))

    def describe(self, request: DescribeGroupsRequest, *, caller: Caller) -> None:
        """State and members of each group asked for."""
        described = [self._describe(group_id, caller) for group_id in request.groups]
        if request.include_authorized_operations:
            for answer in described:
                if answer.error_code == ErrorCode.NONE:
                    answer.authorized_operations = ALL_OPERATIONS
        self._ledger.reply(caller, DescribeGroupsResponse(groups=described))

    def _describe(self, group_id: str, caller: Caller) -> DescribedGroup:
        group = self._groups.get(group_id)
        if group is None or group.state is DEAD:
            answer = DescribedGroup(group_id=group_id, group_state=DEAD.value)
            if caller.version >= NOT_FOUND_SINCE:
                missing = GroupNotFound(group_id)
                answer.error_code, answer.error_message = missing.code, missing.detail
                if group_id in self._consumer_groups:
                    answer.error_message = f"Group {group_id} is not a classic group."
            return answer
        # Protocol and metadata are told of a generation that has settled only.
        protocol = group.protocol if group.state is STABLE else None
        return DescribedGroup(
            group_id=group_id,
            group_state=group.state.value,
            protocol_type=group.protocol_type or "",
            protocol_data=protocol or "",
            members=[_described(member, protocol) for member in group.members.values()],
        )


def _described(member: Member, protocol: str | None) -> DescribedGroupMember:
    return DescribedGroupMember(
        member_id=member.member_id,
        group_instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        member_metadata=b"" if protocol is None else member.metadata(protocol),
        member_assignment=member.assignment,
    )
