"""Fetch (1). v4+: isolation levels (KIP-98); v7+: sessions (KIP-227); v13+: topic ids (KIP-516).

A fetch that finds less than `min_bytes` is parked at its partitions until they have grown, or `max_wait_ms` are over.
A full one names all its partitions and is answered with all; a session is told what is new (`broker/fetching`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.fetching.reading import FIRST_WITH_TOPIC_IDS, Reading
from logqueue.broker.fetching.session_cache import NO_SESSION
from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import Partition
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

FINAL_EPOCH, INITIAL_EPOCH = -1, 0  # either is a full fetch and ends the session that it names


def handle(broker: Broker, request: FetchRequest, slot: Slot) -> FetchResponse | None:
    if request.session_epoch != FINAL_EPOCH or request.session_id != NO_SESSION:
        if not FINAL_EPOCH <= request.session_epoch <= INITIAL_EPOCH:
            return broker.fetch_sessions.serve(request, slot, in_full=serve_in_full)
        broker.fetch_sessions.remove(request.session_id)
    return serve_in_full(broker, request, slot)


def serve_in_full(broker: Broker, request: FetchRequest, slot: Slot) -> FetchResponse | None:
    """Answer with all partitions that the request names."""
    found = _Collected(broker, request, slot.api_version)
    if not found.partitions or not found.may_wait():
        return _completed(broker, request, slot, found.response)
    if found.is_committed:
        ParkedCommittedFetch(broker, request, slot, found)
    else:
        ParkedFetch(broker, request, slot, found)
    return None


def _completed(broker: Broker, request: FetchRequest, slot: Slot, response: FetchResponse) -> FetchResponse:
    """The answer with the id of the session that it opens, if it is to open one."""
    if request.session_epoch == INITIAL_EPOCH:
        response.session_id = broker.fetch_sessions.open(request, slot.api_version, response)
    return response


class ParkedFetch:
    """A fetch that waits for its partitions to grow.

    What it found when it came is kept: of many partitions only those that have grown are looked at again.
    """

    __slots__ = ("_broker", "_found", "_grown", "_missing", "_request", "_slot", "is_done")

    def __init__(self, broker: Broker, request: FetchRequest, slot: Slot, found: _Collected) -> None:
        self.is_done = False
        self._broker = broker
        self._request = request
        self._slot = slot
        self._missing = request.min_bytes - found.size
        self._found = found
        self._grown: set[Partition] = set()
        for partition in found.partitions:
            partition.parked[self] = None
        slot.abandon = self._leave
        broker.parked_fetches += 1
        broker.deadlines.push(broker.loop.time() + request.max_wait_ms / 1000, self)

    def on_growth(self, partition: Partition, size: int) -> None:
        self._grown.add(partition)
        self._missing -= size
        if self._missing <= 0 and not self.is_done:
            self._answer(self._look_again())

    def on_deadline(self) -> None:
        if not self.is_done:
            self._answer(self._collect())

    def _collect(self) -> _Collected:
        return _Collected(self._broker, self._request, self._slot.api_version)

    def _look_again(self) -> _Collected:
        """What there is now; of a fetch that had found nothing yet, only where something has changed."""
        if self._found.size:
            return self._collect()
        for partition in self._grown:
            self._found.look_again(partition)
        self._grown.clear()
        return self._found

    def _answer(self, found: _Collected) -> None:
        self._leave()
        self._broker.answer(self._slot, _completed(self._broker, self._request, self._slot, found.response))

    def _leave(self) -> None:
        self.is_done = True
        self._broker.parked_fetches -= 1
        for partition in self._found.partitions:
            partition.parked.pop(self, None)


class ParkedCommittedFetch(ParkedFetch):
    """A fetch that waits for committed records: what grows behind an open transaction is nothing to it yet."""

    __slots__ = ("_unstable",)

    def __init__(self, broker: Broker, request: FetchRequest, slot: Slot, found: _Collected) -> None:
        super().__init__(broker, request, slot, found)
        self._unstable = found.unstable

    def on_growth(self, partition: Partition, size: int) -> None:
        if self.is_done:
            return
        self._grown.add(partition)
        stable, before = partition.last_stable_offset, self._unstable.pop(partition, None)
        if stable < partition.high_watermark:
            self._unstable[partition] = stable
            if stable == before:
                return
        elif before is None:  # no transaction was in the way: all that has grown counts
            self._missing -= size
            if self._missing > 0:
                return
        found = self._look_again()
        if found.is_enough:
            self._answer(found)
        else:
            self._missing = self._request.min_bytes - found.size


class _Collected(Reading):
    """What the partitions of a full fetch have to offer now."""

    __slots__ = ("_last", "partitions", "response")

    def __init__(self, broker: Broker, request: FetchRequest, version: int) -> None:
        super().__init__(broker, request, version)
        # Where the answer of each partition stands that had no error, and what was asked of it.
        self.partitions: dict[Partition, tuple[list[PartitionData], int, FetchPartition]] = {}
        # What is not there is told last, as Kafka does: of unknown ids first, then of unknown partitions.
        self._last: list[FetchableTopicResponse] = []
        self.response = FetchResponse(responses=[self._topic(topic) for topic in request.topics])
        if self._last:
            given = [topic for topic in self.response.responses if topic.partitions]
            self._last.sort(key=lambda topic: topic.partitions[0].error_code != ErrorCode.UNKNOWN_TOPIC_ID)
            self.response.responses = _joined(given + self._last)

    def _topic(self, wanted: FetchTopic) -> FetchableTopicResponse:
        by_id = self._version >= FIRST_WITH_TOPIC_IDS
        topics = self._broker.topics
        topic = topics.by_id.get(wanted.topic_id) if by_id else topics.by_name.get(wanted.topic)
        partitions = topic.partitions if topic is not None else ()
        answers: list[PartitionData] = []
        for part in wanted.partitions:
            if 0 <= part.partition < len(partitions):
                partition = partitions[part.partition]
                answer = self.read(partition, part)
                if not answer.error_code:
                    self.partitions[partition] = answers, len(answers), part
                answers.append(answer)
        if len(answers) < len(wanted.partitions):
            unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id and topic is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            absent = [part for part in wanted.partitions if not 0 <= part.partition < len(partitions)]
            failures = [self.fail(part, unknown) for part in absent]
            self._last.append(FetchableTopicResponse(topic=wanted.topic, topic_id=wanted.topic_id, partitions=failures))
        return FetchableTopicResponse(topic=wanted.topic, topic_id=wanted.topic_id, partitions=answers)

    def look_again(self, partition: Partition) -> None:
        """The answer of a partition anew."""
        answers, place, wanted = self.partitions[partition]
        answers[place] = self.read(partition, wanted)


def _joined(topics: list[FetchableTopicResponse]) -> list[FetchableTopicResponse]:
    """Answers of one topic that stand side by side as one."""
    joined: list[FetchableTopicResponse] = []
    for topic in topics:
        if joined and (joined[-1].topic, joined[-1].topic_id) == (topic.topic, topic.topic_id):
            joined[-1].partitions += topic.partitions
        else:
            joined.append(topic)
    return joined
