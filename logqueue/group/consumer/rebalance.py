"""What follows from a change in a consumer group (KIP-848): epochs, targets, and the next step of a member.

All of it is worked out on a Draft; nothing here sends, waits or keeps time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum

from logqueue.config import BrokerConfig
from logqueue.coordination.effects import Now
from logqueue.coordination.regex import InvalidRegularExpression, check_regex, matching
from logqueue.coordination.topics import Topics
from logqueue.group.consumer.assignors import Assignors
from logqueue.group.consumer.assignors.subscriber import Subscriber
from logqueue.group.consumer.draft import Draft
from logqueue.group.consumer.group import ConsumerGroup
from logqueue.group.consumer.member import ConsumerMember, Partitions, Profile, Standing
from logqueue.group.consumer.metadata_hash import metadata_hash
from logqueue.group.consumer.reconciliation import Situation, reconcile
from logqueue.group.consumer.records import (
    EpochChange,
    ProfileChange,
    RegexChange,
    ResolvedRegex,
    StandingChange,
    TargetChange,
    TargetEpochChange,
)

# Regular expressions of a group are resolved again no sooner than this after the last time.
REGEX_REFRESH_MIN_MS = 10_000


class Subscription(Enum):
    """What a member's new profile does to what it reads."""

    SAME = "same"
    UNRESOLVED = "a regular expression that is not resolved yet"  # the targets have to wait for that
    CHANGED = "changed"


class ConsumerRebalance:
    """The rules of one broker."""

    def __init__(self, config: BrokerConfig, topics: Topics) -> None:
        self.assignors = Assignors(config.group_consumer_assignors)
        self._regex_refresh_max_ms = config.group_consumer_regex_refresh_interval_ms
        self._topics = topics
        self._checked: dict[str, int] = {}  # group -> version of the topics that its hash was last compared with

    # Members

    def subscribe(self, draft: Draft, before: ConsumerMember, profile: Profile) -> Subscription:
        """Give a member a profile. Raises InvalidRegularExpression for a new one that is none."""
        old = before.profile
        group_id, member_id = draft.group.group_id, before.member_id
        known = draft.group.profiles.get(member_id)
        if profile is known:
            return Subscription.SAME
        if profile != known:
            draft.add(ProfileChange(group_id, member_id, profile))
        names_changed = old.topics != profile.topics
        if old.regex != profile.regex:
            resolution = self._change_regex(draft, old.regex, profile.regex)
            return Subscription.CHANGED if names_changed else resolution
        return Subscription.CHANGED if names_changed else Subscription.SAME

    def _change_regex(self, draft: Draft, old: str, new: str) -> Subscription:
        self._forget_unused_regexes(draft)
        if not new:
            return Subscription.CHANGED
        if draft.group.regex_subscribers[new] == 1:  # this member brings it
            check_regex(new)
        return Subscription.CHANGED if new in draft.group.regexes else Subscription.UNRESOLVED

    def _forget_unused_regexes(self, draft: Draft) -> None:
        for regex in draft.group.regexes.keys() - draft.group.regex_subscribers.keys():
            draft.add(RegexChange(draft.group.group_id, regex, None))

    def replace_static(self, draft: Draft, old: ConsumerMember, new_id: str) -> ConsumerMember:
        """Give the place of a static member to a new member id, which begins at epoch 0 with what the old one has."""
        group_id, target = draft.group.group_id, draft.group.target(old.member_id)
        standing = Standing(
            epoch=0,
            previous_epoch=0,
            state=old.standing.state,
            assigned=old.standing.assigned,
            revoking=old.standing.revoking,
        )
        self._drop(draft, old.member_id)
        draft.add(
            ProfileChange(group_id, new_id, old.profile),
            TargetChange(group_id, new_id, target),
            StandingChange(group_id, new_id, standing),
        )
        return ConsumerMember(new_id, old.profile, standing)

    def remove(self, draft: Draft, member_ids: Collection[str]) -> None:
        """Take members out; what they held is free, and the others are assigned anew at their next heartbeat."""
        for member_id in member_ids:
            self._drop(draft, member_id)
        self._forget_unused_regexes(draft)
        self.bump(draft)

    def _drop(self, draft: Draft, member_id: str) -> None:
        group_id = draft.group.group_id
        draft.add(
            StandingChange(group_id, member_id, None),
            TargetChange(group_id, member_id, None),
            ProfileChange(group_id, member_id, None),
        )

    # Epochs

    def is_unchecked(self, group: ConsumerGroup) -> bool:
        """Whether topics have changed since the group was last compared with them."""
        return self._checked.get(group.group_id) != self._topics.version

    @property
    def topics_version(self) -> int:
        """What to give `has_checked` later: the topics that a draft is made with."""
        return self._topics.version

    def has_checked(self, group_id: str, version: int) -> None:
        """The group, as it is now durably, has been compared with this version of the topics."""
        self._checked[group_id] = version

    def forget(self, group_id: str) -> None:
        """The group is gone."""
        self._checked.pop(group_id, None)

    def bump(self, draft: Draft, *, if_topics_changed: bool = False) -> None:
        """Begin a new group epoch; with `if_topics_changed` only if the topics are not what they were."""
        group = draft.group
        present = metadata_hash(group.subscribed_topics(), self._topics)
        if not if_topics_changed or present != group.metadata_hash:
            draft.add(EpochChange(group.group_id, group.epoch + 1, present))

    def assign(self, draft: Draft) -> None:
        """Work out the targets of the group's epoch, if they are of an older one."""
        group = draft.group
        if group.epoch <= group.target_epoch:
            return
        subscribers = {
            member.member_id: Subscriber(
                topics=group.topic_ids_of(member.profile, self._topics),
                instance_id=member.profile.instance_id,
                present=group.target(member.member_id),
            )
            for member in group.members()
        }
        counts = {
            topic_id: self._count(topic_id) for subscriber in subscribers.values() for topic_id in subscriber.topics
        }
        targets = self.assignors.assign(group.assignor_votes(), subscribers, counts)
        for member_id, partitions in targets.items():
            if group.targets.get(member_id) != partitions:
                draft.add(TargetChange(group.group_id, member_id, partitions))
        draft.add(TargetEpochChange(group.group_id, group.epoch))

    def _count(self, topic_id: bytes) -> int:
        return self._topics.partition_count(self._topics.name_of(topic_id) or "")

    # A member's next step

    def advance(
        self, draft: Draft, member_id: str, *, has_new_subscription: bool, owned: Partitions | None
    ) -> ConsumerMember:
        """Bring a member one step nearer to its target. Raises FencedMemberEpoch."""
        group = draft.group
        member = group.require(member_id)
        if has_new_subscription or not member.standing.has_reached(group.target_epoch):
            situation = Situation(
                target_epoch=group.target_epoch,
                target=group.target(member_id),
                subscribed=group.topic_ids_of(member.profile, self._topics),
                has_new_subscription=has_new_subscription,
                owned=owned,
                owner=group.owner,
            )
            standing = reconcile(member, situation)
            if standing != member.standing:
                draft.add(StandingChange(group.group_id, member_id, standing))
                return draft.group.require(member_id)
        return member

    # Regular expressions

    def wants_refresh(self, group: ConsumerGroup, now: Now) -> bool:
        """Whether the group's regular expressions have to be resolved (again)."""
        if not group.regex_subscribers:
            return False
        last_ms = max((resolved.time_ms for resolved in group.regexes.values()), default=None)
        if last_ms is None:
            return True
        if now.time_ms <= last_ms + REGEX_REFRESH_MIN_MS:
            return False
        return (
            group.regex_subscribers.keys() != group.regexes.keys()
            or any(resolved.version != self._topics.version for resolved in group.regexes.values())
            or now.time_ms > last_ms + self._regex_refresh_max_ms
        )

    def refresh_regexes(self, draft: Draft, sees: Callable[[str], bool] | None, now: Now) -> None:
        """Resolve every regular expression that members subscribe by; a new epoch if that changes what they read.

        As in Kafka the rights of the member whose heartbeat asked for it decide which topics all of them see.
        """
        group_id, names = draft.group.group_id, list(filter(sees, self._topics.names()))
        is_changed = False
        for regex in list(draft.group.regex_subscribers):
            try:
                topics = matching(regex, names)
            except InvalidRegularExpression:  # stored by a release that read it otherwise
                topics = frozenset()
            known = draft.group.regexes.get(regex)
            is_changed = is_changed or topics != (frozenset() if known is None else known.topics)
            draft.add(RegexChange(group_id, regex, ResolvedRegex(topics, self._topics.version, now.time_ms)))
        self.bump(draft, if_topics_changed=not is_changed)
