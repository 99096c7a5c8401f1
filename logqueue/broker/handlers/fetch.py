"""Fetch (1). v4+: isolation levels (KIP-98); v7+: sessions (KIP-227) are lawfully refused, every fetch is a full one;
v13+: topic ids (KIP-516).

A fetch that finds less than `min_bytes` is parked at its partitions until they have grown, or `max_wait_ms` are over.
Records leave as ranges of segment files, up to the high watermark, or the last stable offset for readers of committed
records, who are told what was aborted among them. The first batch is given whole, however large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import HeldSlice, Partition
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.messages.fetch import (
    AbortedTransaction,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from logqueue.protocol.wire import FileSlice

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.storage.log import PartitionLog

READ_COMMITTED = 1
FINAL_SESSION_EPOCH, FIRST_SESSION_EPOCH = -1, 0  # either is a full fetch, whatever its session id (KIP-227)
FIRST_WITH_ZSTD = 10
_NOTHING = b""


def handle(broker: Broker, request: FetchRequest, slot: Slot) -> FetchResponse | None:
    if not FINAL_SESSION_EPOCH <= request.session_epoch <= FIRST_SESSION_EPOCH:
        return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    found = _Collected(broker, request, slot.api_version)
    if found.is_enough or request.max_wait_ms <= 0 or not found.partitions:
        return found.response
    if broker.parked_fetches >= broker.config.max_parked_fetches or broker.is_stopping:
        return found.response
    if request.isolation_level == READ_COMMITTED:
        ParkedCommittedFetch(broker, request, slot, found)
    else:
        ParkedFetch(broker, request, slot, found)
    return None


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
        self._broker.answer(self._slot, found.response)

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


class _Collected:
    """What the partitions of a fetch have to offer now."""

    __slots__ = (
        "_broker",
        "_committed",
        "_min_bytes",
        "_room",
        "_version",
        "has_error",
        "has_more",
        "partitions",
        "response",
        "size",
        "unstable",
    )

    def __init__(self, broker: Broker, request: FetchRequest, version: int) -> None:
        self._broker = broker
        self._version = version
        self._committed = request.isolation_level == READ_COMMITTED
        self._min_bytes = request.min_bytes
        self._room = min(request.max_bytes, broker.config.fetch_max_bytes)
        self.size = 0
        self.has_error = False
        self.has_more = False  # a read ends with its segment, and there are more records behind
        # Where the answer of each partition stands that had no error, and what was asked of it.
        self.partitions: dict[Partition, tuple[list[PartitionData], int, FetchPartition]] = {}
        self.unstable: dict[Partition, int] = {}  # last stable offsets below the high watermark
        self.response = FetchResponse(responses=[self._topic(topic) for topic in request.topics])

    @property
    def is_enough(self) -> bool:
        """Whether the fetch is answered with this at once."""
        return self.size >= self._min_bytes or self.has_error or self.has_more

    def _topic(self, wanted: FetchTopic) -> FetchableTopicResponse:
        by_id = self._version >= 13
        topics = self._broker.topics
        topic = topics.by_id.get(wanted.topic_id) if by_id else topics.by_name.get(wanted.topic)
        partitions = topic.partitions if topic is not None else ()
        unknown = ErrorCode.UNKNOWN_TOPIC_ID if by_id and topic is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        answers: list[PartitionData] = []
        for part in wanted.partitions:
            if 0 <= part.partition < len(partitions):
                partition = partitions[part.partition]
                answer = self._partition(partition, part)
                if not answer.error_code:
                    self.partitions[partition] = answers, len(answers), part
                answers.append(answer)
            else:
                answers.append(self._failed(part, unknown))
        return FetchableTopicResponse(topic=wanted.topic, topic_id=wanted.topic_id, partitions=answers)

    def look_again(self, partition: Partition) -> None:
        """The answer of a partition anew."""
        answers, place, wanted = self.partitions[partition]
        answers[place] = self._partition(partition, wanted)

    def _partition(self, partition: Partition, wanted: FetchPartition) -> PartitionData:
        log = partition.log
        high_watermark = partition.high_watermark
        stable = partition.last_stable_offset
        end = stable if self._committed else high_watermark
        if stable < high_watermark:
            self.unstable[partition] = stable
        offset = wanted.fetch_offset
        records: bytes | FileSlice = _NOTHING
        aborted: list[AbortedTransaction] | None = [] if self._committed else None
        try:
            partition.check_epoch(wanted.current_leader_epoch)
            if self._version < FIRST_WITH_ZSTD and partition.config.compression_type == "zstd":
                return self._failed(wanted, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)  # KIP-110
            if not log.log_start_offset <= offset <= log.log_end_offset:
                return self._failed(wanted, ErrorCode.OFFSET_OUT_OF_RANGE, in_log=True)
            if offset < end and (self._room > 0 or self.size == 0):
                part = log.read(
                    offset=offset,
                    max_bytes=min(wanted.partition_max_bytes, self._room),
                    max_offset=end,
                    min_one_batch=self.size == 0,
                )
                if part.file is not None:
                    partition.bytes_out += part.size
                    records = HeldSlice(part.file, part.position, part.size)
                    self.size += part.size
                    self._room -= part.size
                    if part.next_offset < end:
                        self.has_more = True
                    if self._committed:
                        aborted = _aborted(log, offset, part.next_offset)
        except KafkaError as error:
            return self._failed(wanted, error.code, in_log=True)
        except OSError as error:
            return self._failed(wanted, partition.unreadable(error), in_log=True)
        return PartitionData(
            partition_index=wanted.partition,
            high_watermark=high_watermark,
            last_stable_offset=stable,
            log_start_offset=log.log_start_offset,
            aborted_transactions=aborted,
            records=records,
        )

    def _failed(self, wanted: FetchPartition, code: ErrorCode, *, in_log: bool = False) -> PartitionData:
        """An error. Kafka sends no list of aborted transactions if the log refused, and an empty one otherwise."""
        self.has_error = True
        return PartitionData(
            partition_index=wanted.partition,
            error_code=code,
            high_watermark=-1,
            last_stable_offset=-1,
            log_start_offset=-1,
            aborted_transactions=None if in_log else [],
            records=_NOTHING,
        )


def _aborted(log: PartitionLog, offset: int, end_offset: int) -> list[AbortedTransaction]:
    return [
        AbortedTransaction(producer_id=found.producer_id, first_offset=found.first_offset)
        for found in log.aborted_transactions(offset, end_offset)
    ]
