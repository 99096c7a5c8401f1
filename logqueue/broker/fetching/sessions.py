"""A fetch session (KIP-227): the client names partitions once, and is told of those of which there is something new.

Each partition of a session is either due, and looked at for the next answer, or it has nothing to read and its log has
the session among those it wakes. The first growth moves it over, so a client that has gone costs one call a partition;
and what a fetch costs depends on what is new, not on how many partitions there are. The rules are Apache Kafka's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING

from logqueue.broker.fetching.reading import FIRST_WITH_TOPIC_IDS, FIRST_WITH_ZSTD, Reading, failed
from logqueue.broker.partitions.partition import Partition
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    PartitionData,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.network.session import Slot
    from logqueue.broker.partitions.topics import Topic, Topics

FIRST_EPOCH = 1
_LAST_EPOCH = 2**31 - 1
_UNTOLD = (-1, -1)
_FIRST_WITH_REPLICA_STATE = 15
_by_rank = attrgetter("rank")


def _by_name_and_rank(known: SessionPartition) -> tuple[bool, int]:
    return known.name is not None, known.rank


class SessionPartition:
    """A partition of a session: what is asked of it, and what the client was told last."""

    __slots__ = ("index", "name", "partition", "rank", "told", "topic", "wanted")

    def __init__(self, topic: str | bytes, wanted: FetchPartition, rank: int) -> None:
        self.topic = topic  # by name, or by id: as the session names topics
        self.index = wanted.partition
        self.wanted = wanted
        self.rank = rank  # the order of answers: whose records were given comes last the next time
        self.told = _UNTOLD  # high watermark and log start offset
        self.partition: Partition | None = None  # there may be none
        self.name: str | None = None  # of a topic by id, since it was known first

    def waits(self, end_offset: int) -> bool:
        """Whether there is nothing to read up to `end_offset`."""
        return self.wanted.fetch_offset >= end_offset


class FetchSession:
    """The partitions of one client's fetches."""

    __slots__ = (
        "_absent",
        "_by_partition",
        "_isolation",
        "_partitions",
        "_ranks",
        "_topics",
        "_topics_version",
        "created_ms",
        "due",
        "epoch",
        "id",
        "is_privileged",
        "used_ms",
        "uses_topic_ids",
        "waiting",
    )

    def __init__(self, topics: Topics, request: FetchRequest, version: int) -> None:
        """As the first request names them."""
        self.id = 0
        self.epoch = FIRST_EPOCH
        self.created_ms = self.used_ms = 0.0
        self.is_privileged = replica_of(request, version) >= 0
        self.uses_topic_ids = version >= FIRST_WITH_TOPIC_IDS
        self.waiting: WaitingFetch | None = None
        self.due: set[SessionPartition] = set()
        self._topics = topics
        self._topics_version = topics.version
        self._isolation = request.isolation_level
        self._ranks = count()
        self._partitions: dict[tuple[str | bytes, int], SessionPartition] = {}
        self._by_partition: dict[Partition, SessionPartition] = {}
        self._absent: dict[SessionPartition, None] = {}
        self._take(request)

    def __len__(self) -> int:
        return len(self._partitions)

    @property
    def has_partitions(self) -> bool:
        """Whether there is anything to wait for."""
        return bool(self._by_partition)

    # ---- what is asked

    def update(self, request: FetchRequest, version: int) -> None:
        """Take over what a request names anew, and what it forgets."""
        self._take(request)
        for forgotten in request.forgotten_topics_data:
            name: str | bytes = forgotten.topic_id if self.uses_topic_ids else forgotten.topic
            for number in forgotten.partitions:
                gone = self._partitions.pop((name, number), None)
                if gone is not None:
                    self._let_go(gone)
                    self._absent.pop(gone, None)
        if request.isolation_level != self._isolation or version < FIRST_WITH_ZSTD:
            self._isolation = request.isolation_level
            self.due.update(self._by_partition.values())

    def _take(self, request: FetchRequest) -> None:
        by_id = self.uses_topic_ids
        for topic in request.topics:
            name: str | bytes = topic.topic_id if by_id else topic.topic
            for wanted in topic.partitions:
                known = self._partitions.get((name, wanted.partition))
                if known is None:
                    known = SessionPartition(name, wanted, next(self._ranks))
                    self._partitions[name, wanted.partition] = known
                    self._find(known)
                else:
                    known.wanted = wanted
                if known.partition is not None:
                    self.due.add(known)

    def follow_topics(self) -> None:
        """Find the partitions again if topics have been created, grown or deleted."""
        if self._topics_version != self._topics.version:
            self._topics_version = self._topics.version
            for known in self._partitions.values():
                self._find(known)

    def _topic(self, known: SessionPartition) -> Topic | None:
        topics: dict[str, Topic] | dict[bytes, Topic]
        topics = self._topics.by_id if self.uses_topic_ids else self._topics.by_name
        return topics.get(known.topic)  # type: ignore[arg-type]

    def _find(self, known: SessionPartition) -> None:
        topic = self._topic(known)
        partitions = () if topic is None else topic.partitions
        found = partitions[known.index] if 0 <= known.index < len(partitions) else None
        if topic is not None and self.uses_topic_ids:
            known.name = topic.name
        if found is known.partition:
            if found is None:
                self._absent[known] = None
            return
        self._let_go(known)
        known.partition = found
        if found is None:
            self._absent[known] = None
        else:
            self._absent.pop(known, None)
            self._by_partition[found] = known
            self.due.add(known)

    def _let_go(self, known: SessionPartition) -> None:
        partition, known.partition = known.partition, None
        if partition is not None:
            partition.parked.pop(self, None)
            del self._by_partition[partition]
            self.due.discard(known)

    def close(self) -> None:
        """The session is over; a fetch that waits is answered."""
        if self.waiting is not None:
            self.waiting.on_deadline()
        for partition in self._by_partition:
            partition.parked.pop(self, None)

    # ---- what is answered

    def due_in_order(self) -> list[SessionPartition]:
        """The partitions to look at for the next answer."""
        return sorted(self.due, key=_by_rank)

    def absent(self) -> Iterator[tuple[SessionPartition, PartitionData]]:
        """The partitions that there are not, with the reason; in every answer, those of unknown ids first, as Kafka."""
        for known in sorted(self._absent, key=_by_name_and_rank):
            yield known, failed(known.wanted, self._why_absent(known))

    def _why_absent(self, known: SessionPartition) -> ErrorCode:
        if self.uses_topic_ids:
            if known.name is None:
                return ErrorCode.UNKNOWN_TOPIC_ID
            other = self._topics.by_name.get(known.name)
            if other is not None and other.id != known.topic and 0 <= known.index < len(other.partitions):
                return ErrorCode.INCONSISTENT_TOPIC_ID
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    def tell(self, news: list[tuple[SessionPartition, PartitionData]], *, is_committed: bool) -> FetchResponse:
        """The answer with what is new; from now on it is known to the client."""
        topics: list[FetchableTopicResponse] = []
        last: str | bytes | None = None
        for known, data in news:
            known.told = data.high_watermark, data.log_start_offset
            if data.records:
                known.rank = next(self._ranks)
            elif not data.error_code and known.waits(data.last_stable_offset if is_committed else data.high_watermark):
                self.due.discard(known)
            if known.topic == last:
                topics[-1].partitions.append(data)
            else:
                last = known.topic
                topic = FetchableTopicResponse(partitions=[data])
                if self.uses_topic_ids:
                    topic.topic_id = last  # type: ignore[assignment]
                else:
                    topic.topic = last  # type: ignore[assignment]
                topics.append(topic)
        return FetchResponse(session_id=self.id, responses=topics)

    def told_in_full(self, response: FetchResponse) -> None:
        """The first answer names all, in the order that the session has now; all stay due until the next request."""
        for topic in response.responses:
            name: str | bytes = topic.topic_id if self.uses_topic_ids else topic.topic
            for data in topic.partitions:
                known = self._partitions.get((name, data.partition_index))
                if known is not None:
                    known.rank = next(self._ranks)
                    known.told = data.high_watermark, data.log_start_offset

    def untell(self) -> None:
        """The last answer was held back: everything is news again."""
        for known in self._partitions.values():
            known.told = _UNTOLD
        self.due.update(self._by_partition.values())

    # ---- what a log calls: `Parked`

    def on_growth(self, partition: Partition, size: int) -> None:
        """A partition has `size` bytes more to show, or (0) starts elsewhere."""
        known = self._by_partition.get(partition)
        if known is None:
            return
        self.due.add(known)
        if self.waiting is None:
            partition.parked.pop(self, None)
        elif size:
            self.waiting.on_growth(known, partition, size)

    def on_deadline(self) -> None:
        """A partition goes away, or the broker does."""
        if self.waiting is not None:
            self.waiting.on_deadline()


class News(Reading):
    """What the partitions of a session have to tell now."""

    __slots__ = ("news",)

    def __init__(self, broker: Broker, session: FetchSession, request: FetchRequest, version: int) -> None:
        super().__init__(broker, request, version)
        self.news: list[tuple[SessionPartition, PartitionData]] = []
        session.follow_topics()
        for known in session.due_in_order():
            partition = known.partition
            assert partition is not None, "only what is there is due"
            data = self.read(partition, known.wanted)
            waits = not data.error_code and known.waits(
                data.last_stable_offset if self.is_committed else data.high_watermark
            )
            if waits:
                partition.parked[session] = None
            if data.records or data.error_code or known.told != (data.high_watermark, data.log_start_offset):
                self.news.append((known, data))
            elif waits:
                session.due.discard(known)
        absent = list(session.absent())
        if absent:
            others = [each for each in absent if each[1].error_code == ErrorCode.INCONSISTENT_TOPIC_ID]
            if others:  # to Kafka a failed read like those of the log: in their order, and answered at once
                self.has_error = True
                self.news = sorted(self.news + others, key=lambda each: each[0].rank)
            self.news += [each for each in absent if each not in others]


class WaitingFetch:
    """A fetch of a session that waits for records."""

    __slots__ = ("_broker", "_is_committed", "_missing", "_request", "_session", "is_done", "slot")

    def __init__(self, broker: Broker, session: FetchSession, request: FetchRequest, slot: Slot, found: News) -> None:
        self.is_done = False
        self.slot = slot
        self._broker = broker
        self._session = session
        self._request = request
        self._is_committed = found.is_committed
        self._missing = request.min_bytes - found.size
        session.waiting = self
        for known in session.due:
            assert known.partition is not None, "only what is there is due"
            known.partition.parked[session] = None  # there may be too little of it
        slot.abandon = self._leave
        broker.parked_fetches += 1
        broker.deadlines.push(broker.loop.time() + request.max_wait_ms / 1000, self)

    def on_growth(self, known: SessionPartition, partition: Partition, size: int) -> None:
        self._missing -= size
        if known.waits(partition.last_stable_offset if self._is_committed else partition.high_watermark):
            return  # behind an open transaction: nothing to this reader yet
        if self._missing > 0 and not self._is_committed:
            return  # of committed records a marker may have shown any number
        found = self._look()
        if found.is_enough:
            self._answer(found)
        else:
            self._missing = self._request.min_bytes - found.size

    def on_deadline(self) -> None:
        if not self.is_done:
            self._answer(self._look())

    def refuse(self) -> None:
        """Another request has gone on with the session."""
        self._leave()
        refusal = FetchResponse(error_code=ErrorCode.INVALID_FETCH_SESSION_EPOCH, session_id=self._session.id)
        self._broker.answer(self.slot, refusal)

    def _look(self) -> News:
        return News(self._broker, self._session, self._request, self.slot.api_version)

    def _answer(self, found: News) -> None:
        self._leave()
        self._broker.answer(self.slot, self._session.tell(found.news, is_committed=self._is_committed))

    def _leave(self) -> None:
        self.is_done = True
        self._session.waiting = None
        self._broker.parked_fetches -= 1


def next_epoch(epoch: int) -> int:
    """The epoch of the request after one with this epoch."""
    return FIRST_EPOCH if epoch >= _LAST_EPOCH else epoch + 1


def replica_of(request: FetchRequest, version: int) -> int:
    """Who fetches: the id of a follower, or -1."""
    if version < _FIRST_WITH_REPLICA_STATE:
        return request.replica_id
    return -1 if request.replica_state is None else request.replica_state.replica_id
