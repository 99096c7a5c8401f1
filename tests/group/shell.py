"""A shell for the group coordinator without loop, socket or disk: a log in memory and a clock moved by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

from logqueue.clock import ManualClock
from logqueue.config import BrokerConfig
from logqueue.config.group import GroupConfig
from logqueue.coordination.effects import Append, Caller, Effect, LogRecord, Now, Reply
from logqueue.errors import ErrorCode
from logqueue.group.coordinator import GroupCoordinator
from logqueue.protocol import codec
from logqueue.protocol.messages.consumer_protocol import ConsumerProtocolSubscription
from logqueue.protocol.messages.delete_groups import DeleteGroupsRequest
from logqueue.protocol.messages.describe_groups import DescribedGroup, DescribeGroupsRequest
from logqueue.protocol.messages.heartbeat import HeartbeatRequest
from logqueue.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from logqueue.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from logqueue.protocol.messages.list_groups import ListGroupsRequest
from logqueue.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logqueue.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from logqueue.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from logqueue.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from logqueue.protocol.schema import Message

GROUP = "g"
SESSION_MS = 10_000
REBALANCE_MS = 60_000


class FixedTopics:
    """Topics t (id 1) and u (id 2), four partitions each, until a test changes them."""

    def __init__(self) -> None:
        self.ids = {"t": b"\1" * 16, "u": b"\2" * 16}
        self.counts = {"t": 4, "u": 4}
        self.version = 2
        self.all_ids = dict(self.ids)  # of deleted topics too; the newest of each name
        self._names = {topic_id: name for name, topic_id in self.ids.items()}

    def create(self, topic: str, partitions: int) -> None:
        self.version += 1
        self.ids[topic] = self.all_ids[topic] = topic_id = self.version.to_bytes(16, "big")
        self._names[topic_id] = topic
        self.counts[topic] = partitions

    def grow(self, topic: str, partitions: int) -> None:
        self.version += 1
        self.counts[topic] = partitions

    def delete(self, topic: str) -> None:
        self.version += 1
        del self.ids[topic], self.counts[topic]

    def has_partition(self, topic: str, partition: int) -> bool:
        return 0 <= partition < self.partition_count(topic)

    def any_name_of(self, topic_id: bytes) -> str:
        return self._names[topic_id]

    def partition_count(self, topic: str) -> int:
        return self.counts.get(topic, 0)

    def names(self) -> Iterable[str]:
        return list(self.ids)

    def name_of(self, topic_id: bytes) -> str | None:
        return next((name for name, known in self.ids.items() if known == topic_id), None)

    def id_of(self, topic: str) -> bytes | None:
        return self.ids.get(topic)


class Shell:
    """Runs one coordinator. Appends are durable at once unless `holds_appends`; then `settle` or `fail` ends them."""

    def __init__(
        self,
        *,
        clock: ManualClock | None = None,
        log: Iterable[LogRecord] = (),
        properties: dict[str, str] | None = None,
        ids: Iterator[int] | None = None,
        topics: FixedTopics | None = None,
        group_configs: dict[str, dict[str, str]] | None = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.topics = topics or FixedTopics()
        self.properties = properties or {}
        self.log: list[LogRecord] = list(log)
        self.held: list[Append] = []
        self.holds_appends = False
        self.replies: dict[int, Any] = {}
        self.asked: dict[int, float] = {}  # token -> when
        self._versions: dict[int, int] = {}
        self._tokens = count(1)
        self.ids = ids or count(1)
        config = BrokerConfig.from_properties(self.properties)
        self.group_configs = group_configs or {}
        self.coordinator = GroupCoordinator(
            config,
            self.topics,
            group_config=(lambda group_id: GroupConfig.of(self.group_configs.get(group_id, {}), config))
            if self.group_configs
            else None,
            random_id=lambda: f"id{next(self.ids)}",
        )
        for key, value in self.log:
            self.coordinator.replay(key, value, now=self.now)
        self.carry_out(self.coordinator.on_loaded(now=self.now))

    def restarted(self) -> Shell:
        """A new coordinator on what the log holds: the process died."""
        return Shell(clock=self.clock, log=self.log, properties=self.properties, ids=self.ids, topics=self.topics)

    @property
    def now(self) -> Now:
        return Now.of(self.clock)

    # Effects

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply(token, response):
                    assert isinstance(token, int)
                    assert token not in self.replies, "a request is answered once"
                    codec.write(response, self._versions[token])  # it must fit the version that was asked
                    self.replies[token] = response
                case Append():
                    self.held.append(effect)
        if not self.holds_appends:
            self.settle()

    def settle(self) -> None:
        """What was held back is durable."""
        while self.held:
            append = self.held.pop(0)
            self.log.extend(append.records)
            self.carry_out(self.coordinator.on_appended(append.ticket, now=self.now))

    def fail(self, error: ErrorCode = ErrorCode.NOT_ENOUGH_REPLICAS) -> None:
        """The oldest append held back did not happen."""
        append = self.held.pop(0)
        self.carry_out(self.coordinator.on_append_failed(append.ticket, error, now=self.now))

    def advance(self, seconds: float) -> None:
        """Let time pass, stopping at every deadline on the way."""
        end = self.clock.monotonic() + seconds
        while (deadline := self.coordinator.next_deadline()) is not None and deadline <= end:
            self.clock.advance(max(deadline - self.clock.monotonic(), 0))
            self.carry_out(self.coordinator.on_deadline(now=self.now))
        self.clock.advance(max(end - self.clock.monotonic(), 0))

    # Requests

    def send(
        self,
        call: Callable[..., list[Effect]],
        request: Message,
        version: int,
        client_id: str = "c",
        sees: Callable[[str], bool] | None = None,
    ) -> int:
        token = next(self._tokens)
        self._versions[token] = version
        self.asked[token] = self.clock.monotonic()
        caller = Caller(token=token, version=version, client_id=client_id, host="/127.0.0.1", sees=sees)
        self.carry_out(call(request, caller=caller, now=self.now))
        return token

    def join(
        self,
        member_id: str = "",
        *,
        version: int = 5,
        protocols: dict[str, bytes] | None = None,
        instance: str | None = None,
        group: str = GROUP,
        session_ms: int = SESSION_MS,
        rebalance_ms: int = REBALANCE_MS,
        protocol_type: str = "consumer",
    ) -> int:
        spoken = {"range": subscription("t")} if protocols is None else protocols
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocols=[JoinGroupRequestProtocol(name=name, metadata=data) for name, data in spoken.items()],
        )
        return self.send(self.coordinator.join_group, request, version)

    def member(self, **join: Any) -> tuple[str, int]:
        """Join as a newcomer does from version 4 on: get an id, join with it. (member id, token of the second join)."""
        if join.get("instance") is not None:
            raise ValueError("static members join in one step")
        first = self.join(**join)
        assert self.replies[first].error_code == ErrorCode.MEMBER_ID_REQUIRED
        member_id: str = self.replies[first].member_id
        return member_id, self.join(member_id, **join)

    def sync(
        self,
        member_id: str,
        generation: int,
        assignments: dict[str, bytes] | None = None,
        *,
        version: int = 4,
        instance: str | None = None,
        protocol_type: str | None = None,
        protocol_name: str | None = None,
    ) -> int:
        request = SyncGroupRequest(
            group_id=GROUP,
            generation_id=generation,
            member_id=member_id,
            group_instance_id=instance,
            assignments=[SyncGroupRequestAssignment(member_id=m, assignment=a) for m, a in (assignments or {}).items()],
            protocol_type=protocol_type,
            protocol_name=protocol_name,
        )
        return self.send(self.coordinator.sync_group, request, version)

    def heartbeat(self, member_id: str, generation: int, *, instance: str | None = None, group: str = GROUP) -> int:
        request = HeartbeatRequest(
            group_id=group, generation_id=generation, member_id=member_id, group_instance_id=instance
        )
        return self.send(self.coordinator.heartbeat, request, 4)

    def leave(self, *members: tuple[str, str | None], version: int = 5) -> int:
        request = LeaveGroupRequest(group_id=GROUP)
        if version < 3:
            request.member_id = members[0][0]
        else:
            request.members = [MemberIdentity(member_id=m, group_instance_id=i) for m, i in members]
        return self.send(self.coordinator.leave_group, request, version)

    def commit(
        self,
        offsets: dict[tuple[str, int], int],
        *,
        member_id: str = "",
        generation: int = -1,
        metadata: str | None = "",
        group: str = GROUP,
        version: int = 8,
        retention_ms: int = -1,
        instance: str | None = None,
    ) -> int:
        topics = {
            topic: OffsetCommitRequestTopic(name=topic, topic_id=self.topics.ids.get(topic, b"\xff" * 16))
            for topic, _ in offsets
        }
        for (topic, partition), offset in offsets.items():
            topics[topic].partitions.append(
                OffsetCommitRequestPartition(
                    partition_index=partition, committed_offset=offset, committed_metadata=metadata
                )
            )
        request = OffsetCommitRequest(
            group_id=group,
            generation_id_or_member_epoch=generation,
            member_id=member_id,
            group_instance_id=instance,
            retention_time_ms=retention_ms,
            topics=list(topics.values()),
        )
        return self.send(self.coordinator.commit_offsets, request, version)

    def fetch(
        self, *positions: tuple[str, int], group: str = GROUP, version: int = 8, require_stable: bool = False
    ) -> int:
        """Fetch the positions; none means all."""
        request = OffsetFetchRequest(require_stable=require_stable)
        if version < 8:
            request.group_id = group
            request.topics = [OffsetFetchRequestTopic(name=t, partition_indexes=[p]) for t, p in positions] or None
        else:
            asked = [
                OffsetFetchRequestTopics(name=t, topic_id=self.topics.ids.get(t, b"\xff" * 16), partition_indexes=[p])
                for t, p in positions
            ]
            request.groups = [OffsetFetchRequestGroup(group_id=group, topics=asked or None)]
        return self.send(self.coordinator.fetch_offsets, request, version)

    def delete_groups(self, *groups: str) -> int:
        return self.send(self.coordinator.delete_groups, DeleteGroupsRequest(groups_names=list(groups)), 2)

    def delete_offsets(self, *positions: tuple[str, int]) -> int:
        topics = [
            OffsetDeleteRequestTopic(name=t, partitions=[OffsetDeleteRequestPartition(partition_index=p)])
            for t, p in positions
        ]
        return self.send(self.coordinator.delete_offsets, OffsetDeleteRequest(group_id=GROUP, topics=topics), 0)

    # Answers

    def error_of(self, token: int) -> ErrorCode:
        return ErrorCode(self.replies[token].error_code)

    def is_parked(self, token: int) -> bool:
        return token not in self.replies

    def commit_errors(self, token: int) -> dict[tuple[str, int], ErrorCode]:
        return {
            (topic.name, partition.partition_index): ErrorCode(partition.error_code)
            for topic in self.replies[token].topics
            for partition in topic.partitions
        }

    def offsets(self, group: str = GROUP) -> dict[tuple[str, int], int]:
        """Everything the group has committed, by OffsetFetch."""
        answer = self.replies[self.fetch(group=group)]
        return {
            (topic.name, partition.partition_index): partition.committed_offset
            for topic in answer.groups[0].topics
            for partition in topic.partitions
        }

    def describe(self, group: str = GROUP) -> DescribedGroup:
        token = self.send(self.coordinator.describe_groups, DescribeGroupsRequest(groups=[group]), 6)
        described: DescribedGroup = self.replies[token].groups[0]
        return described

    def listed(self, *, states: tuple[str, ...] = (), types: tuple[str, ...] = ()) -> list[str]:
        request = ListGroupsRequest(states_filter=list(states), types_filter=list(types))
        token = self.send(self.coordinator.list_groups, request, 5)
        return [group.group_id for group in self.replies[token].groups]

    # Short ways to a state

    def stable_group(self, members: int = 1, **join: Any) -> tuple[list[str], int]:
        """A Stable group: (member ids, the leader first; generation)."""
        joined = [self.member(**join) for _ in range(members)]
        self.advance(0)
        for member_id, _ in joined:  # a newcomer after the first calls the others back
            if self.describe().group_state == "PreparingRebalance":
                self.join(member_id, **join)
        generation = self.generation()
        ids = [member_id for member_id, _ in joined]
        for member_id in reversed(ids):
            self.sync(member_id, generation, {m: m.encode() for m in ids})
        assert self.describe().group_state == "Stable"
        return ids, generation

    def generation(self) -> int:
        """The generation of the last successful join."""
        return max(r.generation_id for r in self.replies.values() if getattr(r, "generation_id", -1) >= 0)


def subscription(*topics: str) -> bytes:
    """What a consumer says of itself when it joins."""
    return codec.write_versioned(ConsumerProtocolSubscription(topics=list(topics)), 1)
