"""ConsumerGroupDescribe (KIP-848): what operators see of a consumer group."""

from __future__ import annotations

from collections.abc import Collection

from logqueue.coordination.effects import Caller
from logqueue.coordination.topics import Topics
from logqueue.errors import ErrorCode
from logqueue.group.consumer.assignors import Assignors
from logqueue.group.consumer.group import ConsumerGroup
from logqueue.group.consumer.member import ConsumerMember, Partitions
from logqueue.group.ledger import Ledger
from logqueue.group.listing import ALL_OPERATIONS
from logqueue.protocol.messages.consumer_group_describe import (
    Assignment,
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
    TopicPartitions,
)
from logqueue.protocol.messages.consumer_group_describe import Member as DescribedMember

SPEAKS_CLASSIC, SPEAKS_CONSUMER = 0, 1


class ConsumerListing:
    """Answers from the groups as they are."""

    def __init__(
        self,
        groups: dict[str, ConsumerGroup],
        classic_groups: Collection[str],
        *,
        ledger: Ledger,
        topics: Topics,
        assignors: Assignors,
    ) -> None:
        self._groups = groups
        self._classic_groups = classic_groups
        self._ledger = ledger
        self._topics = topics
        self._assignors = assignors

    def describe(self, request: ConsumerGroupDescribeRequest, *, caller: Caller) -> None:
        """State, epochs and members of each group asked for."""
        described = [self._describe(group_id) for group_id in request.group_ids]
        if request.include_authorized_operations:
            for answer in described:
                if answer.error_code == ErrorCode.NONE:
                    answer.authorized_operations = ALL_OPERATIONS
        self._ledger.reply(caller, ConsumerGroupDescribeResponse(groups=described))

    def _describe(self, group_id: str) -> DescribedGroup:
        answer = DescribedGroup(group_id=group_id)
        group = self._groups.get(group_id)
        if not group_id:
            answer.error_code = ErrorCode.INVALID_GROUP_ID
        elif group is None:
            answer.error_code = ErrorCode.GROUP_ID_NOT_FOUND
            is_classic = group_id in self._classic_groups
            reason = "is not a consumer group" if is_classic else "not found"
            answer.error_message = f"Group {group_id} {reason}."
        else:
            answer.group_state = group.state.value
            answer.group_epoch = group.epoch
            answer.assignment_epoch = group.target_epoch
            answer.assignor_name = self._assignors.elect(group.assignor_votes())
            answer.members = [self._member(member, group.target(member.member_id)) for member in group.members()]
        return answer

    def _member(self, member: ConsumerMember, target: Partitions) -> DescribedMember:
        profile = member.profile
        return DescribedMember(
            member_id=member.member_id,
            instance_id=profile.instance_id,
            rack_id=profile.rack_id,
            member_epoch=member.standing.epoch,
            client_id=profile.client_id,
            client_host=profile.client_host,
            subscribed_topic_names=sorted(profile.topics),
            subscribed_topic_regex=profile.regex,
            assignment=self._assignment(member.standing.assigned),
            target_assignment=self._assignment(target),
            member_type=SPEAKS_CLASSIC if member.is_classic else SPEAKS_CONSUMER,
        )

    def _assignment(self, partitions: Partitions) -> Assignment:
        return Assignment(
            topic_partitions=[
                TopicPartitions(topic_id=topic_id, topic_name=name, partitions=sorted(indexes))
                for topic_id, indexes in partitions.items()
                if (name := self._topics.name_of(topic_id)) is not None
            ]
        )
