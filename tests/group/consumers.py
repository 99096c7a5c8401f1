"""Clients of the consumer protocol (KIP-848) and of the classic one beside them, for tests of the group machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logqueue.errors import ErrorCode
from logqueue.protocol import codec
from logqueue.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest, DescribedGroup
from logqueue.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from logqueue.protocol.messages.consumer_protocol import ConsumerProtocolAssignment
from tests.group.shell import GROUP, Shell

Held = dict[str, set[int]]


class ConsumerClient:
    """A client that follows KIP-848: it reports what it owns, gives up what it is told to, and joins anew if fenced.

    `owns` is what it works on. With `revokes_at_once` unset it gives partitions up only when told by `revoke`.
    """

    def __init__(self, shell: Shell, member_id: str, *topics: str, group: str = GROUP, **fields: Any) -> None:
        self.shell = shell
        self.member_id = member_id
        self.group = group
        self.topics = list(topics)
        self.fields = fields
        self.epoch = 0
        self.owns: Held = {}
        self.to_revoke: Held = {}
        self.revokes_at_once = True
        self.error = ErrorCode.NONE
        self.sees: Callable[[str], bool] | None = None  # what ACLs let it know of

    def send(self, **changes: Any) -> int:
        """A heartbeat with these fields and nothing else that is optional; gives its token."""
        request = ConsumerGroupHeartbeatRequest(
            group_id=self.group,
            member_id=self.member_id,
            member_epoch=self.epoch,
            instance_id=self.fields.get("instance_id"),
        )
        for name, value in changes.items():
            setattr(request, name, value)
        return self.shell.send(self.shell.coordinator.consumer_heartbeat, request, 1, sees=self.sees)

    def ask(self, **changes: Any) -> ConsumerGroupHeartbeatResponse:
        """Such a heartbeat and its answer, of which the client takes no note."""
        response: ConsumerGroupHeartbeatResponse = self.shell.replies[self.send(**changes)]
        return response

    def join(self) -> ConsumerGroupHeartbeatResponse:
        """Join, or join again with empty hands."""
        self.epoch, self.owns, self.to_revoke = 0, {}, {}
        names = None if self.fields.get("subscribed_topic_regex") is not None else self.topics
        wanted = {"rebalance_timeout_ms": 60_000, "subscribed_topic_names": names, **self.fields}
        return self.take(self.ask(member_epoch=0, topic_partitions=[], **wanted))

    def beat(self, **changes: Any) -> ConsumerGroupHeartbeatResponse:
        """One heartbeat that says what the client owns; joins first if it is no member."""
        if self.epoch <= 0:
            return self.join()
        return self.take(self.ask(topic_partitions=self.owned(), **changes))

    def subscribe(self, *topics: str) -> ConsumerGroupHeartbeatResponse:
        self.topics = list(topics)
        return self.beat(subscribed_topic_names=self.topics)

    def leave(self, epoch: int = -1) -> ConsumerGroupHeartbeatResponse:
        response = self.ask(member_epoch=epoch)
        self.epoch, self.owns, self.to_revoke = 0, {}, {}
        return response

    def owned(self) -> list[TopicPartitions]:
        every = {topic: self.owns.get(topic, set()) | self.to_revoke.get(topic, set()) for topic in self.held_topics()}
        ids = self.shell.topics.all_ids
        return [TopicPartitions(topic_id=ids[topic], partitions=sorted(held)) for topic, held in every.items() if held]

    def held_topics(self) -> list[str]:
        return sorted({*self.owns, *self.to_revoke})

    def works_on(self) -> set[tuple[str, int]]:
        """What the client may be reading right now."""
        return {(t, p) for held in (self.owns, self.to_revoke) for t, partitions in held.items() for p in partitions}

    def take(self, response: ConsumerGroupHeartbeatResponse) -> ConsumerGroupHeartbeatResponse:
        """Follow an answer."""
        self.error = ErrorCode(response.error_code)
        if self.error in (ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.GROUP_ID_NOT_FOUND):
            self.epoch, self.owns, self.to_revoke = 0, {}, {}
        elif self.error is ErrorCode.NONE:
            self.epoch = response.member_epoch
            if response.assignment is not None:
                self._follow(
                    {
                        self.shell.topics.any_name_of(topic.topic_id): set(topic.partitions)
                        for topic in response.assignment.topic_partitions
                        if self.shell.topics.name_of(topic.topic_id) is not None  # a client reads what it can find
                    }
                )
        return response

    def _follow(self, assigned: Held) -> None:
        for topic, held in self.owns.items():
            gone = held - assigned.get(topic, set())
            if gone:
                self.to_revoke.setdefault(topic, set()).update(gone)
        self.owns = assigned
        for topic, held in list(self.to_revoke.items()):
            held -= assigned.get(topic, set())
            if not held:
                del self.to_revoke[topic]
        if self.revokes_at_once:
            self.revoke()

    def revoke(self) -> None:
        """The application is done with what it has to give up."""
        self.to_revoke = {}


def partitions(response: ConsumerGroupHeartbeatResponse, shell: Shell) -> Held | None:
    """The assignment in an answer, None if it holds none."""
    if response.assignment is None:
        return None
    return {shell.topics.any_name_of(t.topic_id): set(t.partitions) for t in response.assignment.topic_partitions}


def describe(shell: Shell, group: str = GROUP) -> DescribedGroup:
    """ConsumerGroupDescribe."""
    token = shell.send(shell.coordinator.describe_consumer_groups, ConsumerGroupDescribeRequest(group_ids=[group]), 1)
    described: DescribedGroup = shell.replies[token].groups[0]
    return described


def settle(*clients: ConsumerClient, rounds: int = 12) -> None:
    """Heartbeats of all in turn, until nobody has anything left to do."""
    for _ in range(rounds):
        for client in clients:
            client.beat()


def assignment_of(data: bytes) -> Held:
    """What a classic client reads in its SyncGroup answer."""
    if not data:
        return {}
    read = codec.read_versioned(ConsumerProtocolAssignment, data)
    return {topic.topic: set(topic.partitions) for topic in read.assigned_partitions}
