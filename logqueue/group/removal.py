"""How groups and offsets end: DeleteGroups, OffsetDelete, expiry (KIP-211), and topics that are deleted.

Tombstones are written only while nothing of the group is under way, so that no commit slips behind them. Those of
deleted topics are written at once: a commit behind them is for a topic that has been created again. Classic groups and
consumer groups (KIP-848) end alike; they differ in their tombstones and in when their offsets expire.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, Union

from logqueue.config import BrokerConfig
from logqueue.coordination.effects import Caller, Now
from logqueue.coordination.timers import Timers
from logqueue.coordination.topics import Topics
from logqueue.errors import ErrorCode
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.states import DEAD, EMPTY, STABLE
from logqueue.group.classic.subscription import CONSUMER_PROTOCOL_TYPE
from logqueue.group.consumer.turns import Turns
from logqueue.group.errors import GroupNotEmpty, GroupNotFound
from logqueue.group.ledger import Ledger, Outcome
from logqueue.group.offsets.committed import Offsets
from logqueue.group.records import NO_EXPIRY, Change, CommittedOffset, GroupChange, OffsetChange
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.delete_groups import DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse
from logqueue.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)

if TYPE_CHECKING:
    from logqueue.group.consumer.group import ConsumerGroup

_MINUTE_MS = 60_000

Group: TypeAlias = Union[ClassicGroup, "ConsumerGroup"]
Settle: TypeAlias = Callable[[DeletableGroupResult, ErrorCode, Now], None]


class Removal:
    """Writes the tombstones."""

    def __init__(
        self,
        groups: dict[str, ClassicGroup],
        consumer_groups: Mapping[str, ConsumerGroup],
        *,
        config: BrokerConfig,
        offsets: Offsets,
        timers: Timers,
        ledger: Ledger,
        turns: Turns,
        topics: Topics,
    ) -> None:
        self._groups = groups
        self._consumer_groups = consumer_groups
        self._retention_ms = config.offsets_retention_minutes * _MINUTE_MS
        self._expiry_interval_ms = config.offsets_retention_check_interval_ms
        self._offsets = offsets
        self._timers = timers
        self._ledger = ledger
        self._turns = turns
        self._topics = topics

    def _find(self, group_id: str) -> Group | None:
        """The group, unless its tombstone is being written."""
        group: Group | None = self._groups.get(group_id) or self._consumer_groups.get(group_id)
        return None if group is None or group.is_dead else group

    # DeleteGroups

    def delete_groups(self, request: DeleteGroupsRequest, *, caller: Caller, now: Now) -> None:
        """Delete groups that have no members, with their offsets; the answer comes when all are settled.

        One that is named twice is deleted once: a second look would find it gone.
        """
        response = DeleteGroupsResponse()
        response.results = [DeletableGroupResult(group_id=group_id) for group_id in dict.fromkeys(request.groups_names)]
        open_results = len(response.results)

        def settle(result: DeletableGroupResult, error: ErrorCode, _: Now) -> None:
            nonlocal open_results
            result.error_code = error
            open_results -= 1
            if not open_results:
                self._ledger.reply(caller, response)

        if not response.results:
            self._ledger.reply(caller, response)
        for result in response.results:
            self._ledger.when_idle(result.group_id, now, partial(self._delete, result, settle))

    def _delete(self, result: DeletableGroupResult, settle: Settle, now: Now) -> None:
        group = self._find(result.group_id)
        if group is None:
            settle(result, GroupNotFound.code, now)
        elif not group.is_empty:
            settle(result, GroupNotEmpty.code, now)
        else:
            self._bury(group, self._offsets.positions_of(group.group_id), partial(settle, result), now)

    def _bury(self, group: Group, positions: Iterable[TopicPartition], then: Outcome, now: Now) -> None:
        """Write an Empty group and its offsets off; it is Dead meanwhile, and Empty again if that fails."""
        tombstones: list[Change] = [OffsetChange(group.group_id, position, None) for position in positions]
        if isinstance(group, ClassicGroup):
            self._bury_classic(group, tombstones, then, now)
            return
        group.is_dead = True
        tombstones += group.tombstones()

        def settle(error: ErrorCode, later: Now) -> None:
            group.is_dead = False
            then(error, later)

        self._turns.append(group.group_id, tuple(tombstones), settle)

    def _bury_classic(self, group: ClassicGroup, tombstones: list[Change], then: Outcome, now: Now) -> None:
        empty_since_ms = group.state_time_ms
        group.move_to(DEAD, now_ms=now.time_ms)
        tombstones.append(GroupChange(group.group_id, None))

        def settle(error: ErrorCode, later: Now) -> None:
            if error is not ErrorCode.NONE:
                group.move_to(EMPTY, now_ms=empty_since_ms)
            then(error, later)

        self._ledger.append(group.group_id, tuple(tombstones), settle)

    # OffsetDelete

    def delete_offsets(self, request: OffsetDeleteRequest, *, caller: Caller, now: Now) -> None:
        """Forget offsets of topics that no member reads."""
        self._ledger.when_idle(request.group_id, now, partial(self._delete_offsets, request, caller))

    def _delete_offsets(self, request: OffsetDeleteRequest, caller: Caller, now: Now) -> None:
        group = self._find(request.group_id)
        refusal = _refusal(request.group_id, group)
        if group is None or refusal is not ErrorCode.NONE:
            self._ledger.reply(caller, OffsetDeleteResponse(error_code=refusal))
            return
        response = OffsetDeleteResponse(topics=[self._judged(group, topic) for topic in request.topics])
        stored = set(self._offsets.positions_of(group.group_id))
        doomed = [
            position
            for topic in response.topics
            for partition in topic.partitions
            if partition.error_code == ErrorCode.NONE
            and (position := TopicPartition(topic.name, partition.partition_index)) in stored
        ]

        def settle(error: ErrorCode, _: Now) -> None:
            answer = response if error is ErrorCode.NONE else OffsetDeleteResponse(error_code=error)
            self._ledger.reply(caller, answer)

        if doomed:
            self._forget(group.group_id, doomed, settle)
        else:
            settle(ErrorCode.NONE, now)

    def _judged(self, group: Group, topic: OffsetDeleteRequestTopic) -> OffsetDeleteResponseTopic:
        answer = OffsetDeleteResponseTopic(name=topic.name)
        for partition in topic.partitions:
            error = ErrorCode.NONE
            if not self._topics.has_partition(topic.name, partition.partition_index):
                error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            elif group.is_subscribed_to(topic.name):
                error = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
            index = partition.partition_index
            answer.partitions.append(OffsetDeleteResponsePartition(partition_index=index, error_code=error))
        return answer

    def _forget(self, group_id: str, positions: Iterable[TopicPartition], then: Outcome) -> None:
        self._ledger.append(group_id, tuple(OffsetChange(group_id, position, None) for position in positions), then)

    # Deleted topics

    def on_topics_deleted(self, topics: Collection[str], now: Now) -> None:
        """Forget what groups committed for topics that are gone, commits under way included: they stand before this."""
        doomed: dict[str, dict[TopicPartition, None]] = {}
        for group_id in self._offsets.groups():
            stored = [position for position in self._offsets.positions_of(group_id) if position.topic in topics]
            if stored:
                doomed[group_id] = dict.fromkeys(stored)
        for change in self._ledger.changes_under_way():
            if isinstance(change, OffsetChange) and change.committed is not None and change.position.topic in topics:
                doomed.setdefault(change.group_id, {})[change.position] = None
        for group_id, positions in doomed.items():
            # A failure leaves offsets that nobody can use; expiry takes them later.
            self._forget(group_id, positions, _whatever)

    # Expiry

    def schedule_expiry(self, now: Now) -> None:
        """Look for what has expired after the next interval, and so on."""
        self._timers.set(("expiry",), now.monotonic + self._expiry_interval_ms / 1000, self._expire)

    def _expire(self, now: Now) -> None:
        self.schedule_expiry(now)
        groups: list[Group] = [*self._groups.values(), *self._consumer_groups.values()]
        for group in groups:
            if not self._ledger.is_busy(group.group_id):
                self._expire_group(group, now)

    def _expire_group(self, group: Group, now: Now) -> None:
        """Remove expired offsets; an Empty group that keeps none goes too. A failure is made good next time."""
        stored = self._offsets.of_group(group.group_id)
        expired = [
            position
            for position, committed in stored.items()
            if self._has_expired(group, position, committed, now)
            and not self._offsets.is_pending(group.group_id, position)
        ]
        has_nothing_left = len(expired) == len(stored) and not self._offsets.has_pending(group.group_id)
        is_expected = isinstance(group, ClassicGroup) and bool(group.pending_joins)
        if group.is_empty and has_nothing_left and not is_expected:
            self._bury(group, expired, _whatever, now)
        elif expired:
            self._forget(group.group_id, expired, _whatever)

    def _has_expired(self, group: Group, position: TopicPartition, committed: CommittedOffset, now: Now) -> bool:
        since_ms = _unused_since_ms(group, committed)
        if since_ms is None or group.is_subscribed_to(position.topic):
            return False
        if committed.expire_time_ms != NO_EXPIRY:
            return now.time_ms >= committed.expire_time_ms
        return now.time_ms - since_ms >= self._retention_ms


def _refusal(group_id: str, group: Group | None) -> ErrorCode:
    if not group_id:
        return ErrorCode.INVALID_GROUP_ID
    if group is None:
        return GroupNotFound.code
    if isinstance(group, ClassicGroup) and not group.is_empty and group.protocol_type != CONSUMER_PROTOCOL_TYPE:
        return GroupNotEmpty.code
    return ErrorCode.NONE


def _unused_since_ms(group: Group, committed: CommittedOffset) -> int | None:
    """From when retention counts (KIP-211); None while the group's offsets do not expire.

    An Empty group: from when it became so. A Stable one whose topics are known: from the commit (the caller spares
    subscribed topics). A simple group, or a consumer group (KIP-848): from the commit.
    """
    if not isinstance(group, ClassicGroup) or group.protocol_type is None:
        return committed.commit_time_ms
    if group.state is EMPTY:
        return group.state_time_ms if group.state_time_ms >= 0 else committed.commit_time_ms
    if group.state is STABLE and group.topics is not None:
        return committed.commit_time_ms
    return None


def _whatever(error: ErrorCode, now: Now) -> None:
    """Nobody waits for the outcome: what could not be removed is found again by the next expiry."""
