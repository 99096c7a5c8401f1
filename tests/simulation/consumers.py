"""Members of groups in the simulation: the classic protocol, and that of KIP-848. They read, commit and tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from itertools import count
from random import Random
from typing import Any

from logqueue.clock import Clock
from logqueue.errors import ErrorCode
from logqueue.protocol import codec
from logqueue.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest, TopicPartitions
from logqueue.protocol.messages.consumer_protocol import ConsumerProtocolSubscription
from logqueue.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from logqueue.protocol.messages.heartbeat import HeartbeatRequest
from logqueue.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from logqueue.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from logqueue.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from logqueue.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.crash.client import FetchedLog, batches_in
from tests.simulation.network import Ask, Script, Wait
from tests.simulation.producers import PARTITIONS, TOPIC
from tests.soak.history import READ_COMMITTED, Commit, CommitRead, Event, Poll

SESSION_MS = 6_000
REBALANCE_MS = 8_000
JOIN_SECONDS = 30.0
HEARTBEAT_SECONDS = 1.0
POLL_SECONDS = 0.2
CLASSIC = "classic"
MODERN = "modern"
SUBSCRIPTION = codec.write_versioned(ConsumerProtocolSubscription(topics=[TOPIC]), 1)


class Lost(Exception):
    """The member has no place in the group any more, or not this one."""


class Member(ABC):
    """What both kinds of members do with partitions that are theirs."""

    group = ""

    def __init__(
        self, name: str, random: Random, clock: Clock, history: list[Event], claim: Callable[[str, int, set[int]], None]
    ) -> None:
        """`claim` is told (member, generation or epoch, partitions) with every assignment."""
        self._name = name
        self._random = random
        self._clock = clock
        self._history = history
        self._claim = claim
        self._member_id = ""
        self._generation = -1
        self._assignments = count(1)
        self._assignment = 0
        self._numbers = count(1)
        self._positions: dict[int, int] = {}

    @abstractmethod
    def script(self) -> Script: ...

    # Offsets

    def _begin(self, partitions: set[int]) -> Script:
        """Go on where the group stands."""
        self._assignment = next(self._assignments)
        self._claim(self._name, self._generation, partitions)
        self._positions = {}
        if not partitions:
            return
        topic = OffsetFetchRequestTopics(name=TOPIC, partition_indexes=sorted(partitions))
        request = OffsetFetchRequest(
            groups=[OffsetFetchRequestGroup(group_id=self.group, topics=[topic])], require_stable=True
        )
        while True:
            started = self._clock.monotonic()
            answer = yield Ask(8, request)
            if answer is not None and not answer.groups[0].error_code:
                found = answer.groups[0].topics[0].partitions
                if not any(each.error_code for each in found):
                    break
            yield Wait(0.1)
        offsets = {each.partition_index: each.committed_offset for each in found}
        self._history.append(
            CommitRead(
                started=started,
                at=self._clock.monotonic(),
                client=self._name,
                group=self.group,
                offsets=tuple(offsets.items()),
            )
        )
        self._positions = {partition: max(offset, 0) for partition, offset in offsets.items()}

    def _poll(self) -> Generator[Ask | Wait, Any, bool]:
        """Read on in each partition; answers whether there was anything."""
        if not self._positions:
            return False
        wanted = [
            FetchPartition(partition=p, fetch_offset=o, partition_max_bytes=self._random.choice((100, 1 << 20)))
            for p, o in self._positions.items()
        ]
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 20,
            isolation_level=1,
            topics=[FetchTopic(topic=TOPIC, partitions=wanted)],
        )
        answer = yield Ask(11, request)
        if answer is None:
            return False
        records: list[tuple[int, int, str]] = []
        for part in answer.responses[0].partitions:
            partition, position = part.partition_index, self._positions[part.partition_index]
            is_beyond = part.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
            assert not is_beyond, f"{self._name} has read partition {partition} up to {position}, which is gone"
            if part.error_code:
                continue
            batches = list(batches_in(bytes(part.records or b"")))
            aborted = [(each.producer_id, each.first_offset) for each in part.aborted_transactions or ()]
            log = FetchedLog(position, part.high_watermark, part.last_stable_offset, batches, aborted)
            records += [(partition, r.offset, (r.value or b"").decode()) for r in log.committed()]
            if batches:
                self._positions[partition] = batches[-1].header.last_offset + 1
        if records:
            self._history.append(
                Poll(
                    at=self._clock.monotonic(),
                    client=self._name,
                    group=self.group,
                    assignment=self._assignment,
                    isolation=READ_COMMITTED,
                    records=tuple(records),
                )
            )
        return bool(records)

    def _commit(self, version: int) -> Script:
        """Commit all positions. Raises Lost when the group refuses it."""
        positions = dict(self._positions)
        partitions = [OffsetCommitRequestPartition(partition_index=p, committed_offset=o) for p, o in positions.items()]
        request = OffsetCommitRequest(
            group_id=self.group,
            generation_id_or_member_epoch=self._generation,
            member_id=self._member_id,
            topics=[OffsetCommitRequestTopic(name=TOPIC, partitions=partitions)],
        )
        number, started = next(self._numbers), self._clock.monotonic()

        def told(ok: bool | None) -> None:
            self._history.append(
                Commit(
                    number=number,
                    started=started,
                    at=self._clock.monotonic(),
                    client=self._name,
                    group=self.group,
                    offsets=tuple(positions.items()),
                    ok=ok,
                )
            )

        told(None)
        answer = yield Ask(version, request)
        if answer is None:
            return
        codes = {each.error_code for each in answer.topics[0].partitions}
        if codes == {ErrorCode.NONE}:
            told(True)
        elif codes & {ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION, ErrorCode.FENCED_MEMBER_EPOCH}:
            told(False)
            raise Lost


class ClassicMember(Member):
    """JoinGroup, SyncGroup, Heartbeat; the leader deals the partitions out."""

    group = CLASSIC

    def script(self) -> Script:
        while True:
            try:
                yield from self._begin((yield from self._join()))
                yield from self._work()
            except Lost:
                yield Wait(0.1)

    def _join(self) -> Generator[Ask | Wait, Any, set[int]]:
        while True:
            request = JoinGroupRequest(
                group_id=self.group,
                session_timeout_ms=SESSION_MS,
                rebalance_timeout_ms=REBALANCE_MS,
                member_id=self._member_id,
                protocol_type="consumer",
                protocols=[JoinGroupRequestProtocol(name="range", metadata=SUBSCRIPTION)],
            )
            joined = yield Ask(5, request, JOIN_SECONDS)
            if joined is None or joined.error_code:
                if joined is not None and joined.error_code == ErrorCode.MEMBER_ID_REQUIRED:
                    self._member_id = joined.member_id
                    continue
                if joined is not None and joined.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
                    self._member_id = ""
                yield Wait(0.2)
                continue
            self._member_id, self._generation = joined.member_id, joined.generation_id
            assignments = []
            if joined.leader == joined.member_id:
                members = sorted(each.member_id for each in joined.members)
                assignments = [
                    SyncGroupRequestAssignment(
                        member_id=member, assignment=bytes(range(index, PARTITIONS, len(members)))
                    )
                    for index, member in enumerate(members)
                ]
            sync = SyncGroupRequest(
                group_id=self.group,
                generation_id=self._generation,
                member_id=self._member_id,
                assignments=assignments,
            )
            synced = yield Ask(4, sync, JOIN_SECONDS)
            if synced is None or synced.error_code:
                if synced is not None and synced.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
                    self._member_id = ""
                yield Wait(0.1)
                continue
            return set(synced.assignment)

    def _work(self) -> Script:
        heard = self._clock.monotonic()
        while True:
            if self._clock.monotonic() - heard > HEARTBEAT_SECONDS:
                request = HeartbeatRequest(
                    group_id=self.group, generation_id=self._generation, member_id=self._member_id
                )
                answer = yield Ask(4, request)
                heard = self._clock.monotonic()
                if answer is not None and answer.error_code:
                    if answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
                        self._member_id = ""
                    raise Lost
            if (yield from self._poll()):
                yield from self._commit(8)
            else:
                yield Wait(POLL_SECONDS)


class ModernMember(Member):
    """ConsumerGroupHeartbeat says all (KIP-848); the broker deals the partitions out."""

    group = MODERN

    def __init__(self, *args: Any, topic_id: bytes) -> None:
        super().__init__(*args)
        self._topic_id = topic_id
        self._owned: set[int] = set()

    def script(self) -> Script:
        for incarnation in count(1):
            self._member_id = f"{self._name}.{incarnation}"
            self._generation, self._owned = 0, set()
            try:
                while True:
                    yield from self._heartbeat()
                    for _ in range(4):
                        if (yield from self._poll()):
                            yield from self._commit(9)
                        yield Wait(POLL_SECONDS)
            except Lost:
                self._positions = {}
                yield Wait(0.2)

    def _heartbeat(self) -> Script:
        is_new = self._generation == 0
        request = ConsumerGroupHeartbeatRequest(
            group_id=self.group,
            member_id=self._member_id,
            member_epoch=self._generation,
            rebalance_timeout_ms=REBALANCE_MS,
            subscribed_topic_names=[TOPIC],
            topic_partitions=[]
            if is_new
            else [TopicPartitions(topic_id=self._topic_id, partitions=sorted(self._owned))],
        )
        answer = yield Ask(1, request)
        if answer is None:
            return
        if answer.error_code in (ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID):
            raise Lost
        if answer.error_code:
            return
        self._generation = answer.member_epoch
        if answer.assignment is None:
            return
        assigned = {p for each in answer.assignment.topic_partitions for p in each.partitions}
        if assigned != self._owned:
            # What was taken away is given up with the next heartbeat, after the last commit.
            if self._positions.keys() - assigned:
                yield from self._commit(9)
            self._owned = assigned
            yield from self._begin(assigned)
