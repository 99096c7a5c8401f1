"""The consumer-group coordinator of one broker: requests, outcomes and deadlines in, effects out. Sans-IO.

How a shell runs it:

1. At start, `replay(key, value)` for every record of each partition of `__consumer_offsets` in order, then `on_loaded`.
2. Each request goes to the method of its API. Every call returns effects; the shell carries them out in order:
   `Append` -> write and fsync, then `on_appended(ticket)` or `on_append_failed(ticket)`; `Reply` -> answer.
3. When `next_deadline()` (seconds of the monotonic clock; it may have moved after any call) has come, `on_deadline`.

Only `replay` and durable appends change the offsets. The soft state of a classic group (who has joined, who waits) is
not in the log, as in Kafka: after a restart a group is what its last record says, and members that are gone time out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

from logqueue.config import BrokerConfig
from logqueue.config.group import GroupConfig
from logqueue.coordination.effects import Caller, Effect, Now, Producer
from logqueue.coordination.partitioning import partition_of
from logqueue.coordination.timers import Timers
from logqueue.coordination.topics import Topics
from logqueue.errors import ErrorCode, KafkaError
from logqueue.group.classic.group import ClassicGroup
from logqueue.group.classic.joining import Joining
from logqueue.group.classic.membership import Membership
from logqueue.group.classic.rebalance import Rebalance
from logqueue.group.consumer.turns import OnBug, Turns, raise_bug
from logqueue.group.errors import UnknownMember, reply_code_for_failed_append
from logqueue.group.ledger import Ledger
from logqueue.group.listing import Listing
from logqueue.group.offsets.commits import Commits
from logqueue.group.offsets.committed import Offsets
from logqueue.group.offsets.fetching import Fetching
from logqueue.group.records import Change, GroupChange, OffsetChange, decode, group_from_value
from logqueue.group.removal import Removal
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.delete_groups import DeleteGroupsRequest
from logqueue.protocol.messages.describe_groups import DescribeGroupsRequest
from logqueue.protocol.messages.heartbeat import HeartbeatRequest
from logqueue.protocol.messages.join_group import JoinGroupRequest
from logqueue.protocol.messages.leave_group import LeaveGroupRequest
from logqueue.protocol.messages.list_groups import ListGroupsRequest
from logqueue.protocol.messages.offset_commit import OffsetCommitRequest
from logqueue.protocol.messages.offset_delete import OffsetDeleteRequest
from logqueue.protocol.messages.offset_fetch import OffsetFetchRequest
from logqueue.protocol.messages.sync_group import SyncGroupRequest
from logqueue.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest

if TYPE_CHECKING:
    from logqueue.group.consumer.coordinator import ConsumerCoordinator
    from logqueue.group.consumer.group import ConsumerGroup
    from logqueue.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
    from logqueue.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest


class GroupCoordinator:
    """All groups of the broker; `partition_for` says where in `__consumer_offsets` each one lives.

    An id names a classic group or a consumer group (KIP-848), never both. `group_config` tells the settings that a
    group has of its own; `on_bug` is told what a request failed with that had waited behind others of its group.
    """

    def __init__(
        self,
        config: BrokerConfig,
        topics: Topics,
        *,
        group_config: Callable[[str], GroupConfig] | None = None,
        random_id: Callable[[], str] = lambda: str(uuid4()),
        on_bug: OnBug = raise_bug,
    ) -> None:
        self._config = config
        self._topics = topics
        defaults = GroupConfig.defaults(config)
        self._group_config = group_config or (lambda _: defaults)
        self._random_id = random_id
        self._partitions = config.offsets_topic_num_partitions
        self._groups: dict[str, ClassicGroup] = {}
        self._consumer_groups: dict[str, ConsumerGroup] = {}
        self._consumer_side: ConsumerCoordinator | None = None
        self._offsets = Offsets()
        self._timers = Timers()
        self._ledger = ledger = Ledger(self._partitions)
        self._turns = turns = Turns(ledger, on_bug=on_bug)
        groups, consumer_groups = self._groups, self._consumer_groups
        offsets, timers = self._offsets, self._timers
        self._rebalance = rebalance = Rebalance(groups, config=config, timers=timers, ledger=ledger, turns=turns)
        self._joining = Joining(groups, config=config, ledger=ledger, rebalance=rebalance, random_id=random_id)
        self._membership = Membership(groups, ledger=ledger, rebalance=rebalance)
        self._commits = Commits(
            groups, consumer_groups, config=config, ledger=ledger, rebalance=rebalance, topics=topics
        )
        self._fetching = Fetching(groups, consumer_groups, offsets=offsets, ledger=ledger, topics=topics)
        self._listing = Listing(groups, consumer_groups, ledger=ledger)
        self._removal = Removal(
            groups,
            consumer_groups,
            config=config,
            offsets=offsets,
            timers=timers,
            ledger=ledger,
            turns=turns,
            topics=topics,
        )

    def partition_for(self, group_id: str) -> int:
        """The partition of `__consumer_offsets` that holds the group."""
        return partition_of(group_id, self._partitions)

    @property
    def _consumers(self) -> ConsumerCoordinator:
        """The side of consumer groups, imported and made when it is first needed: start-up is imports."""
        if self._consumer_side is None:
            from logqueue.group.consumer.coordinator import ConsumerCoordinator

            self._consumer_side = ConsumerCoordinator(
                self._consumer_groups,
                self._groups,
                config=self._config,
                config_of=self._group_config,
                topics=self._topics,
                ledger=self._ledger,
                turns=self._turns,
                timers=self._timers,
                classic_rebalance=self._rebalance,
                random_id=self._random_id,
            )
        return self._consumer_side

    # Requests

    def join_group(self, request: JoinGroupRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """JoinGroup 0-9. The reply may take up to the rebalance timeout."""
        self._turns.take(request.group_id, now, lambda later: self._join(request, caller, later))
        return self._ledger.drain()

    def _join(self, request: JoinGroupRequest, caller: Caller, now: Now) -> None:
        group = self._consumer_groups.get(request.group_id)
        if group is None:
            self._joining.join(request, caller=caller, now=now)
        elif group.profiles:
            self._consumers.classic_members.join(group, request, caller=caller, now=now)
        else:
            self._join_empty(group, request, caller)

    def _join_empty(self, group: ConsumerGroup, request: JoinGroupRequest, caller: Caller) -> None:
        """A group without members changes its protocol, whatever the migration policy; its offsets stay."""

        def settle(error: ErrorCode, now: Now) -> None:
            if error is ErrorCode.NONE:
                self._groups[group.group_id] = ClassicGroup(group.group_id, state_time_ms=now.time_ms)
                self._joining.join(request, caller=caller, now=now)
            else:
                self._joining.refuse(request, error, caller=caller)

        try:
            self._joining.check(request, caller=caller)
            if request.member_id:
                raise UnknownMember(group.group_id, request.member_id)
        except KafkaError as error:
            self._joining.refuse(request, error.code, caller=caller)
        else:
            self._consumers.make_way(group, settle)

    def sync_group(self, request: SyncGroupRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """SyncGroup 0-5. The reply may take up to the rebalance timeout."""
        self._turns.take(request.group_id, now, lambda later: self._sync(request, caller, later))
        return self._ledger.drain()

    def _sync(self, request: SyncGroupRequest, caller: Caller, now: Now) -> None:
        group = self._consumer_groups.get(request.group_id)
        if group is None:
            self._membership.sync(request, caller=caller, now=now)
        else:
            self._consumers.classic_members.sync(group, request, caller=caller, now=now)

    def heartbeat(self, request: HeartbeatRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """Heartbeat 0-4."""
        if request.group_id in self._consumer_groups or self._turns.is_taken(request.group_id):
            self._turns.take(request.group_id, now, lambda later: self._heartbeat(request, caller, later))
        else:
            self._membership.heartbeat(request, caller=caller, now=now)
        return self._ledger.drain()

    def _heartbeat(self, request: HeartbeatRequest, caller: Caller, now: Now) -> None:
        group = self._consumer_groups.get(request.group_id)
        if group is None:
            self._membership.heartbeat(request, caller=caller, now=now)
        else:
            self._consumers.classic_members.heartbeat(group, request, caller=caller, now=now)

    def leave_group(self, request: LeaveGroupRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """LeaveGroup 0-5."""
        self._turns.take(request.group_id, now, lambda later: self._leave(request, caller, later))
        return self._ledger.drain()

    def _leave(self, request: LeaveGroupRequest, caller: Caller, now: Now) -> None:
        group = self._consumer_groups.get(request.group_id)
        if group is None:
            self._membership.leave(request, caller=caller, now=now)
        else:
            self._consumers.classic_members.leave(group, request, caller=caller, now=now)

    def consumer_heartbeat(self, request: ConsumerGroupHeartbeatRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """ConsumerGroupHeartbeat 0-1. The reply follows the append, if there is one."""
        self._consumers.heartbeat(request, caller=caller, now=now)
        return self._ledger.drain()

    def describe_consumer_groups(
        self, request: ConsumerGroupDescribeRequest, *, caller: Caller, now: Now
    ) -> list[Effect]:
        """ConsumerGroupDescribe 0-1."""
        self._consumers.describe(request, caller=caller)
        return self._ledger.drain()

    def commit_offsets(self, request: OffsetCommitRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """OffsetCommit 2-10. The reply follows the append."""
        self._commits.commit(request, caller=caller, now=now)
        return self._ledger.drain()

    def commit_offsets_in_transaction(
        self, request: TxnOffsetCommitRequest, *, verified: ErrorCode, caller: Caller, now: Now
    ) -> list[Effect]:
        """TxnOffsetCommit 0-5; `verified` is what the transaction coordinator says. The reply follows the append."""
        self._commits.commit_in_transaction(request, verified=verified, caller=caller, now=now)
        return self._ledger.drain()

    def fetch_offsets(self, request: OffsetFetchRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """OffsetFetch 1-10."""
        self._fetching.fetch(request, caller=caller, now=now)
        return self._ledger.drain()

    def describe_groups(self, request: DescribeGroupsRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """DescribeGroups 0-6."""
        self._listing.describe(request, caller=caller)
        return self._ledger.drain()

    def list_groups(self, request: ListGroupsRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """ListGroups 0-5."""
        self._listing.list_groups(request, caller=caller)
        return self._ledger.drain()

    def delete_groups(self, request: DeleteGroupsRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """DeleteGroups 0-2. The reply follows the appends."""
        self._removal.delete_groups(request, caller=caller, now=now)
        return self._ledger.drain()

    def delete_offsets(self, request: OffsetDeleteRequest, *, caller: Caller, now: Now) -> list[Effect]:
        """OffsetDelete 0. The reply follows the append."""
        self._removal.delete_offsets(request, caller=caller, now=now)
        return self._ledger.drain()

    # State

    def committed_offsets(self) -> Iterator[tuple[str, TopicPartition, int]]:
        """Every offset that counts: group, partition, offset."""
        for group_id in list(self._offsets.groups()):
            for position, committed in list(self._offsets.of_group(group_id).items()):
                yield group_id, position, committed.offset

    # Events

    def on_marker(self, partition: int, producer_id: int, *, commit: bool) -> None:
        """A transaction has ended in a partition of `__consumer_offsets`, durably or in replay."""
        self._offsets.decide((partition, producer_id), commit=commit)

    def on_topics_deleted(self, topics: Collection[str], *, now: Now) -> list[Effect]:
        """Topics are gone: so are the offsets committed for them."""
        self._removal.on_topics_deleted(topics, now)
        return self._ledger.drain()

    def on_appended(self, ticket: int, *, now: Now) -> list[Effect]:
        """An append is durable."""
        return self._settle(ticket, ErrorCode.NONE, now)

    def on_append_failed(self, ticket: int, error: ErrorCode, *, now: Now) -> list[Effect]:
        """An append did not happen; `error` is the log's own reason."""
        assert error is not ErrorCode.NONE
        return self._settle(ticket, reply_code_for_failed_append(error), now)

    def _settle(self, ticket: int, error: ErrorCode, now: Now) -> list[Effect]:
        pending = self._ledger.take(ticket)
        if error is ErrorCode.NONE:
            for change in pending.changes:
                self._apply(change, now, pending.producer)
        pending.then(error, now)
        self._ledger.release(pending.group_id, now)
        return self._ledger.drain()

    def _apply(self, change: Change, now: Now, producer: Producer | None = None) -> None:
        """A durable record holds. Of a live group only its end is news: its state is ahead of its records."""
        match change:
            case OffsetChange(group_id, position, committed):
                if producer is None or committed is None:
                    self._offsets.apply(group_id, position, committed)
                else:
                    key = (self.partition_for(group_id), producer.producer_id)
                    self._offsets.hold(key, group_id, position, committed)
                if committed is not None and group_id not in self._groups and group_id not in self._consumer_groups:
                    self._groups[group_id] = ClassicGroup(group_id, state_time_ms=now.time_ms)
            case GroupChange(group_id, None):
                self._groups.pop(group_id, None)
            case GroupChange():
                pass
            case _:
                self._consumers.apply(change)

    # Start

    def replay(self, key: bytes, value: bytes | None, *, now: Now, producer: Producer | None = None) -> None:
        """Take in one record of `__consumer_offsets`, of a `producer` if it was written in a transaction.

        Raises MalformedFrame for bytes that are no such record.
        """
        change = decode(key, value)
        if change is None:
            return
        self._apply(change, now, producer)
        # Each of the two kinds of group ends the other, whatever tombstones compaction has left between them.
        if isinstance(change, GroupChange) and change.value is not None:
            self._consumer_groups.pop(change.group_id, None)
            self._groups[change.group_id] = group_from_value(change.group_id, change.value)
        elif change.group_id in self._consumer_groups:
            self._groups.pop(change.group_id, None)

    def on_loaded(self, *, now: Now) -> list[Effect]:
        """Everything is replayed: sessions of the members run from now, and expiry begins."""
        for group in self._groups.values():
            for member in group.members.values():
                self._rebalance.keep_session(group, member, now)
        if self._consumer_groups:
            self._consumers.on_loaded(now)
        self._removal.schedule_expiry(now)
        return self._ledger.drain()

    # Time

    def next_deadline(self) -> float | None:
        """When `on_deadline` is due, in seconds of the monotonic clock; None for never."""
        return self._timers.next_deadline()

    def on_deadline(self, *, now: Now) -> list[Effect]:
        """Do what has become due."""
        while (action := self._timers.take_due(now.monotonic)) is not None:
            action(now)
        return self._ledger.drain()
