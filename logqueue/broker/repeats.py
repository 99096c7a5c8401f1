"""Produce requests that repeat one another: only the correlation id and the batch differ.

A producer sends the same client id, acks, timeout, topic and partition with every batch. So what stands between the
correlation id and the length of the batch is looked up as one piece: the request that was decoded first tells what it
means, and how the answer is laid out around its three numbers. That is half of the processor time of a small request.
What the lookup does not cover is served as ever: several batches in one request, transactions, versions below 9, and
everything where ACLs or quotas are on. The bytes that leave are the same either way.

Small batches are held until the events that came with them are served too: no answer leaves before that. Those of one
partition are then written with one call, which costs as much as one of them alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from logqueue.broker.handlers.produce import ACKS_ALL, ATTRIBUTES, FIRST_WITH_TOPIC_IDS, failed
from logqueue.broker.metrics.meters import Histogram, Late
from logqueue.broker.network.session import Place
from logqueue.broker.partitions.partition import LEADER_EPOCH, Partition
from logqueue.errors import KafkaError
from logqueue.protocol.api import ApiKey
from logqueue.protocol.frames import RequestHeader, write_response
from logqueue.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from logqueue.protocol.wire import Segment, read_uvarint, uvarint
from logqueue.records.batch import TRANSACTIONAL

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.network.session import Session
    from logqueue.storage.results import AppendResult

log = logging.getLogger("logqueue.broker.repeats")

FIRST_FLEXIBLE = 9
MAX_KNOWN = 4_096
"""Requests remembered, of all connections together; when there are more, all are forgotten."""
MAX_HELD_BYTES = 4_096
"""Of one batch: copying more costs as much as a call. Batches of one partition are indexed after so many bytes, too."""
MAX_HELD = 512
"""Batches."""
_CORRELATION_END = 8
_TAIL = b"\0\0\0"  # no tagged fields: of the partition, the topic, the request
_LONGEST_VARINT = 5
_NUMBERS = Struct(">qqq")  # base offset, log append time, log start offset
_MARK = (-0x0123456789ABCDEF, -0x0FEDCBA987654321, -0x0F1E2D3C4B5A6978)


class Repeat:
    """A request of one batch, without its correlation id and its batch."""

    __slots__ = ("_around", "_pack", "_topic", "_version", "api", "head", "index", "is_acks_all", "partition")

    def __init__(
        self, version: int, request: ProduceRequest, frame: memoryview, start: int, partition: Partition
    ) -> None:
        """`frame` is the request that is repeated, up to `start` where the length of its batch is told."""
        (data,) = request.topic_data
        self.head = Struct(f"4s4s{start - _CORRELATION_END}s")  # key and version, correlation id, what is looked up
        self.api = frame[:4].tobytes()
        self._version = version
        self.index = data.partition_data[0].index
        self.is_acks_all = request.acks == ACKS_ALL
        self.partition = partition
        self._topic = (data.name, data.topic_id)
        mark = PartitionProduceResponse(
            index=self.index, base_offset=_MARK[0], log_append_time_ms=_MARK[1], log_start_offset=_MARK[2]
        )
        # An answer as it is always written, taken apart at the numbers.
        (answer,) = self._write(0, mark)
        assert isinstance(answer, bytes), "no records in it"
        before, _, after = answer.partition(_NUMBERS.pack(*_MARK))
        self._around = (before[:4], before[_CORRELATION_END:], after)
        self._pack = Struct(f">4s4s{len(before) - _CORRELATION_END}sqqq{len(after)}s").pack

    def success(self, correlation: bytes, base_offset: int, append_time_ms: int, log_start_offset: int) -> bytes:
        """The answer for a batch that is in the log."""
        size, before, after = self._around
        return self._pack(size, correlation, before, base_offset, append_time_ms, log_start_offset, after)

    def failure(self, correlation: bytes, error: KafkaError, asked: Partition | None) -> list[Segment]:
        """The answer for a batch that is not; see `failed`."""
        return self._write(int.from_bytes(correlation, "big", signed=True), failed(self.index, error, asked))

    def _write(self, correlation_id: int, answer: PartitionProduceResponse) -> list[Segment]:
        name, topic_id = self._topic
        topic = TopicProduceResponse(name=name, topic_id=topic_id, partition_responses=[answer])
        return write_response(ApiKey.PRODUCE, self._version, correlation_id, ProduceResponse(responses=[topic]))


class AwaitedAnswer(Place):
    """The place of an answer that is true once its batch is on the disk."""

    __slots__ = ("_answer", "_correlation", "_repeat")

    def __init__(self, session: Session, repeat: Repeat, correlation: bytes, answer: bytes) -> None:
        super().__init__(session)
        self._repeat = repeat
        self._correlation = correlation
        self._answer = answer

    def settle(self, problem: KafkaError | None) -> None:
        """The disk has it, or the reason why that cannot be promised."""
        if problem is None:
            self.fill([self._answer])
        else:
            self.fill(self._repeat.failure(self._correlation, problem, None))


class Held(NamedTuple):
    """A request whose batch is to be written with others; `started` is when it came (0.0 where nobody measures)."""

    session: Session
    repeat: Repeat
    correlation: bytes
    batch: bytearray | memoryview
    started: float


_held = partial(tuple.__new__, Held)  # a third of what calling the class costs


class Repeats:
    """What the producers of one broker repeat."""

    def __init__(self, broker: Broker, *, histogram: Histogram | None = None) -> None:
        """Where there is a `histogram` of produce requests, these are counted with the others."""
        self._broker = broker
        self._histogram = histogram
        self._known: dict[bytes, Repeat] = {}
        self._topics_version = broker.topics.version
        self.held: list[Held] = []
        """In the order of their arrival; all have the same acks. `write` serves them."""
        self._is_mixed = False

    def learn(self, session: Session, header: RequestHeader, frame: memoryview, request: ProduceRequest) -> None:
        """Remember a request that is about to be served, if the next one can be served like it."""
        if header.api_version < FIRST_FLEXIBLE or request.transactional_id is not None or request.acks not in (1, -1):
            return
        if len(request.topic_data) != 1 or len(request.topic_data[0].partition_data) != 1:
            return
        records = request.topic_data[0].partition_data[0].records
        if not isinstance(records, memoryview) or frame[-len(_TAIL) :] != _TAIL:
            return
        start = len(frame) - len(_TAIL) - len(records) - len(uvarint(len(records) + 1))
        body = frame[_CORRELATION_END:start].tobytes()
        repeat = self._known.get(body)
        if repeat is None or repeat.api != frame[:4]:
            partition = self._partition(header, request)
            if partition is None:
                return
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            repeat = self._known[body] = Repeat(header.api_version, request, frame, start, partition)
        session.repeat_head = repeat.head

    def _partition(self, header: RequestHeader, request: ProduceRequest) -> Partition | None:
        topics = self._broker.topics
        if topics.version != self._topics_version:
            self._known.clear()
            self._topics_version = topics.version
        (data,) = request.topic_data
        by_id = header.api_version >= FIRST_WITH_TOPIC_IDS
        topic = topics.by_id.get(data.topic_id) if by_id else topics.by_name.get(data.name)
        index = data.partition_data[0].index
        if topic is None or topic.is_internal or not 0 <= index < len(topic.partitions):
            return None
        return topic.partitions[index]

    def serve(self, session: Session, frame: memoryview) -> bool:
        """Serve or hold a request like the one it repeats; False: it has to be decoded, and nothing has happened."""
        # The hottest path of the broker: a microsecond here is a tenth of a request.
        head = session.repeat_head
        if head is None or len(frame) < (start := head.size) + _LONGEST_VARINT:
            return False
        api, correlation, body = head.unpack_from(frame)
        repeat = self._known.get(body)
        if repeat is None or repeat.api != api:
            return False
        if self._broker.topics.version != self._topics_version:
            self._known.clear()
            self._topics_version = self._broker.topics.version
            return False
        length, begin = read_uvarint(frame, start)
        end = begin + length - 1
        records = frame[begin:end]
        if len(records) <= ATTRIBUTES or records[ATTRIBUTES] & TRANSACTIONAL or frame[end:] != _TAIL:
            return False
        held = self.held
        if held and repeat is not held[0].repeat:
            self._is_mixed = True
            if repeat.is_acks_all is not held[0].repeat.is_acks_all:
                self.write()  # who waits for the disk and who does not are shown at different times
                held = self.held
        started = 0.0 if self._histogram is None else perf_counter()
        if length <= MAX_HELD_BYTES and len(held) < MAX_HELD:
            held.append(_held((session, repeat, correlation, bytearray(records), started)))
            return True
        self.write()
        self._serve(_held((session, repeat, correlation, records, started)))
        return True

    def write(self) -> None:
        """Serve what is held: before anything else is, and before answers leave."""
        held, self.held = self.held, []
        is_mixed, self._is_mixed = self._is_mixed, False
        try:
            if len(held) == 1:
                self._serve(held[0])
            elif is_mixed:
                self._answer(held, self._append_all(held))
            elif held:
                log_ = held[0].repeat.partition.log
                now_ms = self._broker.clock.time_ms()
                batches = [item.batch for item in held]
                self._answer(held, log_.append_together(batches, leader_epoch=LEADER_EPOCH, now_ms=now_ms))
        except Exception:
            log.exception("closing those who sent %d batches together: please report this", len(held))
            for item in held:
                self._broker.hang_up(item.session, "bug")

    def _append_all(self, held: list[Held]) -> list[AppendResult | KafkaError]:
        """Append what is for several partitions."""
        now_ms = self._broker.clock.time_ms()
        places: dict[Partition, list[int]] = {}
        for place, item in enumerate(held):
            places.setdefault(item.repeat.partition, []).append(place)
        found: list[Any] = [None] * len(held)
        for partition, of_partition in places.items():
            batches = [held[place].batch for place in of_partition]
            results = partition.log.append_together(batches, leader_epoch=LEADER_EPOCH, now_ms=now_ms)
            for place, result in zip(of_partition, results, strict=True):
                found[place] = result
        return found

    def _serve(self, item: Held) -> None:
        """Serve a request whose batch is written alone."""
        result: AppendResult | KafkaError
        try:
            result = item.repeat.partition.log.append(
                item.batch, leader_epoch=LEADER_EPOCH, now_ms=self._broker.clock.time_ms()
            )
        except KafkaError as error:
            result = error
        self._answer((item,), (result,))

    def _answer(self, served: Sequence[Held], found: Sequence[AppendResult | KafkaError]) -> None:
        """Answer requests with the same acks, in the order in which they came."""
        broker, histogram = self._broker, self._histogram
        commit = broker.commit
        settle = commit.settle
        durable = served[0].repeat.is_acks_all and broker.config.fsync_acks_all
        for (session, repeat, correlation, batch, started), result in zip(served, found, strict=True):
            if isinstance(result, KafkaError):
                _fill(session, repeat.failure(correlation, result, repeat.partition))
            else:
                base_offset, last_offset, append_time_ms, log_start_offset, _ = result
                answer = repeat.success(correlation, base_offset, append_time_ms, log_start_offset)
                if settle(repeat.partition, base_offset, last_offset + 1, len(batch), durable):
                    awaited = AwaitedAnswer(session, repeat, correlation, answer)
                    session.enter(awaited)
                    commit.on_durable(awaited.settle if histogram is None else self._measured(awaited, started))
                    continue
                if not session.answer(answer):
                    _fill(session, [answer])
            if histogram is not None:
                histogram.observe(perf_counter() - started)

    def _measured(self, awaited: AwaitedAnswer, started: float) -> Callable[[KafkaError | None], None]:
        assert self._histogram is not None
        late = Late(self._histogram, started)

        def settle(problem: KafkaError | None) -> None:
            awaited.settle(problem)
            late.done()

        return settle


def repeats_of(broker: Broker) -> Repeats:
    """What producers of a broker repeat, measured where its requests are."""
    meters = broker.request_meters
    return Repeats(broker, histogram=None if meters is None else meters.of(ApiKey.PRODUCE))


def _fill(session: Session, answer: list[Segment]) -> None:
    """Put an answer behind those before it."""
    place = Place(session)
    session.enter(place)
    place.fill(answer)
