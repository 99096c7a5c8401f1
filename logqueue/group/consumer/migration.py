"""Groups that change their protocol while they work (KIP-848): classic to consumer, and back. Pure conversions.

A classic group becomes a consumer group when its first member with the consumer protocol joins, and a classic one again
when its last such member goes (`group.consumer.migration.policy`). Only groups of the embedded consumer protocol can.
Nobody loses partitions by it: what the members hold is carried over as their assignment of the group's generation.
"""

from __future__ import annotations

from collections.abc import Collection

from logqueue.config import BrokerConfig
from logqueue.coordination.effects import Now
from logqueue.coordination.topics import Topics
from logqueue.errors import KafkaError
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.member import Member
from logqueue.group.classic.states import STABLE
from logqueue.group.classic.subscription import CONSUMER_PROTOCOL_TYPE
from logqueue.group.consumer import embedded_protocol
from logqueue.group.consumer.draft import Draft
from logqueue.group.consumer.errors import NotAConsumerGroup
from logqueue.group.consumer.group import ConsumerGroup
from logqueue.group.consumer.member import ClassicSide, MemberState, Partitions, Profile, Standing
from logqueue.group.consumer.metadata_hash import metadata_hash
from logqueue.group.consumer.records import (
    EpochChange,
    ProfileChange,
    StandingChange,
    TargetChange,
    TargetEpochChange,
)
from logqueue.group.records import GroupChange


class Migration:
    """Conversions under one broker's policy."""

    def __init__(self, config: BrokerConfig, topics: Topics) -> None:
        policy = config.group_consumer_migration_policy.lower()
        self._may_upgrade = policy in ("upgrade", "bidirectional")
        self._may_downgrade = policy in ("downgrade", "bidirectional")
        self._consumer_size_max = config.group_consumer_max_size
        self._classic_size_max = config.group_max_size
        self._topics = topics

    # Classic to consumer

    def upgrade(self, classic: ClassicGroup) -> Draft:
        """The classic group as a consumer group at the epoch of its generation. Raises NotAConsumerGroup."""
        self._check_upgrade(classic)
        draft = Draft(ConsumerGroup(classic.group_id), before=[GroupChange(classic.group_id, None)], is_new=True)
        group_id, generation = classic.group_id, classic.generation
        for member in classic.members.values():
            profile, held = self._read_member(classic, member)
            standing = Standing(
                epoch=generation, previous_epoch=generation, state=MemberState.STABLE, assigned=held, revoking={}
            )
            if any(draft.group.owner(topic_id, index) for topic_id, indexes in held.items() for index in indexes):
                raise NotAConsumerGroup(
                    f"Cannot upgrade classic group {group_id} to consumer group because members share a partition."
                )
            draft.add(
                ProfileChange(group_id, member.member_id, profile),
                TargetChange(group_id, member.member_id, held),
                StandingChange(group_id, member.member_id, standing),
            )
        present = metadata_hash(draft.group.subscribed_topics(), self._topics)
        draft.add(EpochChange(group_id, generation, present), TargetEpochChange(group_id, generation))
        return draft

    def _check_upgrade(self, classic: ClassicGroup) -> None:
        reason = None
        if not self._may_upgrade:
            reason = "online upgrade is disabled"
        elif classic.protocol_type != CONSUMER_PROTOCOL_TYPE:
            reason = "the group does not use the consumer embedded protocol"
        elif len(classic.members) > self._consumer_size_max:
            reason = "the group size exceeds the consumer group maximum size"
        if reason is not None:
            raise NotAConsumerGroup(
                f"Cannot upgrade classic group {classic.group_id} to consumer group because {reason}."
            )

    def _read_member(self, classic: ClassicGroup, member: Member) -> tuple[Profile, Partitions]:
        # All protocols of a member name the same topics; while the group gathers, it may not speak the last common one.
        metadata = next((m for name, m in member.protocols if name == classic.protocol), member.protocols[0].metadata)
        try:
            subscription = embedded_protocol.read_subscription(metadata)
            held, user_data = embedded_protocol.read_assignment(member.assignment, self._topics)
        except KafkaError as error:
            raise NotAConsumerGroup(
                f"Cannot upgrade classic group {classic.group_id} to consumer group because the embedded consumer "
                "protocol is malformed."
            ) from error
        if user_data:
            raise NotAConsumerGroup(
                f"Cannot upgrade classic group {classic.group_id} to consumer group because an unsupported custom "
                "assignor is in use. Please refer to the documentation or switch to a default assignor before "
                "re-attempting the upgrade."
            )
        profile = Profile(
            instance_id=member.instance_id,
            rack_id=subscription.rack_id or None,
            client_id=member.client_id,
            client_host=member.client_host,
            topics=frozenset(subscription.topics),
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            classic=ClassicSide(session_timeout_ms=member.session_timeout_ms, protocols=member.protocols),
        )
        return profile, held

    # Consumer to classic

    def can_downgrade(self, group: ConsumerGroup, *, without: Collection[str] = ()) -> bool:
        """Whether the group, with some members gone, has members of the classic protocol only and may be theirs."""
        staying = [profile for member_id, profile in group.profiles.items() if member_id not in without]
        return (
            self._may_downgrade
            and bool(staying)
            and all(profile.classic is not None for profile in staying)
            and len(staying) <= self._classic_size_max
        )

    def downgrade(self, group: ConsumerGroup, *, without: Collection[str] = (), now: Now) -> ClassicGroup:
        """The group as a Stable classic one at the generation of its epoch; members hold what was their target."""
        classic = ClassicGroup(
            group.group_id,
            state=STABLE,
            state_time_ms=now.time_ms,
            generation=group.epoch,
            protocol_type=CONSUMER_PROTOCOL_TYPE,
        )
        for member_id, profile in group.profiles.items():
            if member_id not in without:
                classic.add(_classic_member(member_id, profile))
        classic.protocol = classic.select_protocol()
        for member in classic.members.values():
            version = embedded_protocol.version_of(member.metadata(classic.protocol))
            member.assignment = embedded_protocol.write_assignment(
                group.target(member.member_id), version=version, topics=self._topics
            )
        classic.refresh_topics()
        return classic


def _classic_member(member_id: str, profile: Profile) -> Member:
    assert profile.classic is not None
    return Member(
        member_id=member_id,
        instance_id=profile.instance_id,
        client_id=profile.client_id,
        client_host=profile.client_host,
        rebalance_timeout_ms=profile.rebalance_timeout_ms,
        session_timeout_ms=profile.classic.session_timeout_ms,
        protocols=profile.classic.protocols,
    )
