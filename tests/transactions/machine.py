"""A shell for the transaction coordinator without loop, socket or disk: a log in memory and a clock moved by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from itertools import count
from typing import Any, NamedTuple

from logqueue.clock import ManualClock
from logqueue.config import BrokerConfig
from logqueue.coordination.effects import Append, Caller, LogRecord, Now, Producer, Reply
from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from logqueue.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from logqueue.protocol.messages.describe_transactions import DescribeTransactionsRequest
from logqueue.protocol.messages.end_txn import EndTxnRequest
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest
from logqueue.protocol.schema import Message
from logqueue.transaction.coordinator import TransactionCoordinator
from logqueue.transaction.effects import Effect, Verdict, WriteMarkers
from logqueue.transaction.records import decode
from logqueue.transaction.transaction import Transaction
from tests.group.shell import FixedTopics

ID = "tx"
T0, T1, U0 = TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("u", 0)


class Marker(NamedTuple):
    """A marker in a partition's log."""

    producer_id: int
    epoch: int
    commit: bool


class Shell:
    """Runs one coordinator. With `is_prompt` appends and markers settle at once, otherwise by `step`."""

    def __init__(self, *, version: int = 2, **config: Any) -> None:
        self.config = BrokerConfig(transaction_state_log_num_partitions=1, **config)
        self.clock = ManualClock()
        self.topics = FixedTopics()
        self.version = version
        self.is_prompt = True
        self.log: list[LogRecord] = []  # what has been written; the first `durable` records survive any crash
        self.durable = 0
        self.markers: dict[TopicPartition, list[Marker]] = {}
        self.parts: dict[TopicPartition, dict[int, int]] = {}  # what logs have open: producer ids and epochs, durable
        self.acked: dict[Producer, set[TopicPartition]] = {}  # what producers were let write, and wrote
        self.unwritable: set[TopicPartition] = set()
        self.append_error = ErrorCode.NONE
        self.answers: dict[int, Any] = {}
        self.under_way: deque[Append | WriteMarkers] = deque()
        self._tokens = count(1)
        self._asked: dict[int, tuple[Producer, Collection[TopicPartition]]] = {}
        self._producer_ids = count(1000)
        self.coordinator = self._new_coordinator()

    def _new_coordinator(self) -> TransactionCoordinator:
        return TransactionCoordinator(
            self.config,
            self.topics,
            take_producer_id=lambda: next(self._producer_ids),
            transaction_version=self.version,
        )

    @property
    def now(self) -> Now:
        return Now.of(self.clock)

    # Effects

    def perform(self, effects: list[Effect]) -> None:
        queue = deque(effects)
        while queue:
            match queue.popleft():
                case Reply(token, response):
                    assert isinstance(token, int) and token not in self.answers
                    self.answers[token] = response
                case Verdict(token, error):
                    assert isinstance(token, int) and token not in self.answers
                    self.answers[token] = error
                    if error is ErrorCode.NONE:
                        self._write_parts(*self._asked[token])
                case Append() as append:
                    queue.extend(self._append(append))
                case WriteMarkers() as markers:
                    self.under_way.append(markers)
                    if self.is_prompt:
                        queue.extend(self._settle(self.under_way.popleft()))

    def _write_parts(self, producer: Producer, partitions: Collection[TopicPartition]) -> None:
        """Records of the producer come into the logs and are durable at once."""
        for partition in partitions:
            epochs = self.parts.setdefault(partition, {})
            if epochs.get(producer.producer_id, -1) <= producer.epoch:
                epochs[producer.producer_id] = producer.epoch
                self.acked.setdefault(producer, set()).add(partition)

    def _is_refused(self, partition: TopicPartition, markers: WriteMarkers) -> bool:
        """As a log would: from TV2 on a marker's epoch is above that of the transaction it ends."""
        is_open = self.parts.get(partition, {}).get(markers.producer_id)
        if is_open is None:
            return False
        return markers.producer_epoch < is_open + (markers.transaction_version >= 2)

    def _append(self, append: Append) -> list[Effect]:
        if self.append_error is not ErrorCode.NONE:
            return self.coordinator.on_append_failed(append.ticket, self.append_error, now=self.now)
        self.log.extend(append.records)
        if not append.awaited:
            return self.coordinator.on_appended(append.ticket, now=self.now)
        self.under_way.append(append)
        return self._settle(self.under_way.popleft()) if self.is_prompt else []

    def _settle(self, effect: Append | WriteMarkers) -> list[Effect]:
        if isinstance(effect, Append):
            self.durable = len(self.log)  # a flush takes everything that was written before it
            return self.coordinator.on_appended(effect.ticket, now=self.now)
        remaining = []
        for partition in effect.partitions:
            if partition in self.unwritable:
                remaining.append(partition)
            elif self.topics.has_partition(*partition) or partition.topic.startswith("__"):
                if self._is_refused(partition, effect):
                    continue
                marker = Marker(effect.producer_id, effect.producer_epoch, effect.commit)
                self.markers.setdefault(partition, []).append(marker)
                self.parts.get(partition, {}).pop(effect.producer_id, None)
        if remaining:
            return self.coordinator.on_markers_failed(effect.ticket, remaining, now=self.now)
        return self.coordinator.on_markers_written(effect.ticket, now=self.now)

    def step(self) -> bool:
        """Settle the oldest append or set of markers; False if nothing is under way."""
        if not self.under_way:
            return False
        self.perform(self._settle(self.under_way.popleft()))
        return True

    def settle_all(self) -> None:
        while self.step():
            pass

    def advance(self, seconds: float) -> None:
        """Move the clock; deadlines on the way are kept in order."""
        end = self.clock.monotonic() + seconds
        while (deadline := self.coordinator.next_deadline()) is not None and deadline <= end:
            self.clock.advance(max(0.0, deadline - self.clock.monotonic()))
            self.perform(self.coordinator.on_deadline(now=self.now))
        self.clock.advance(end - self.clock.monotonic())

    def crash(self, *, kept: int = 0) -> None:
        """Start anew from what is durable and `kept` further records that happen to have reached the disk."""
        self.under_way.clear()
        del self.log[self.durable + kept :]
        self.durable = len(self.log)
        self.coordinator = self._new_coordinator()
        for record in self.log:
            self.coordinator.replay(record.key, record.value)
        found: dict[Producer, list[TopicPartition]] = {}
        for partition, epochs in self.parts.items():
            for producer_id, epoch in epochs.items():
                found.setdefault(Producer(producer_id, epoch), []).append(partition)
        self.start_error = next(self._tokens)
        self.perform(self.coordinator.on_loaded(found, token=self.start_error, now=self.now))

    # Requests: each answers the token of its answer

    def send(self, method: Callable[..., list[Effect]], request: Message, version: int, **options: Any) -> int:
        token = next(self._tokens)
        self.perform(method(request, caller=Caller(token=token, version=version), now=self.now, **options))
        return token

    def init(
        self,
        transactional_id: str = ID,
        *,
        expected: tuple[int, int] = (-1, -1),
        timeout_ms: int = 60_000,
        version: int = 4,
    ) -> int:
        request = InitProducerIdRequest(
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            producer_id=expected[0],
            producer_epoch=expected[1],
        )
        return self.send(self.coordinator.init_producer_id, request, version)

    def add(
        self, producer: tuple[int, int], *partitions: TopicPartition, transactional_id: str = ID, version: int = 3
    ) -> int:
        topics: dict[str, AddPartitionsToTxnTopic] = {}
        for topic, partition in partitions:
            topics.setdefault(topic, AddPartitionsToTxnTopic(name=topic)).partitions.append(partition)
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=transactional_id,
            v3_and_below_producer_id=producer[0],
            v3_and_below_producer_epoch=producer[1],
            v3_and_below_topics=list(topics.values()),
        )
        return self.send(self.coordinator.add_partitions, request, version)

    def add_offsets(self, producer: tuple[int, int], partition: int, *, transactional_id: str = ID) -> int:
        request = AddOffsetsToTxnRequest(
            transactional_id=transactional_id, producer_id=producer[0], producer_epoch=producer[1], group_id="g"
        )
        return self.send(self.coordinator.add_offsets, request, 3, offsets_partition=partition)

    def ask(self, producer: tuple[int, int], *partitions: TopicPartition, transactional_id: str = ID) -> int:
        """What Produce 12 asks."""
        token = next(self._tokens)
        self._asked[token] = Producer(*producer), partitions
        self.perform(self.coordinator.verify_or_add(transactional_id, *producer, partitions, token=token, now=self.now))
        return token

    def end(
        self, producer: tuple[int, int], *, commit: bool = True, transactional_id: str = ID, version: int = 5
    ) -> int:
        request = EndTxnRequest(
            transactional_id=transactional_id,
            producer_id=producer[0],
            producer_epoch=producer[1],
            committed=commit,
        )
        return self.send(self.coordinator.end, request, version)

    # Answers

    def error(self, token: int) -> ErrorCode:
        answer = self.answers[token]
        if isinstance(answer, ErrorCode):
            return answer
        if hasattr(answer, "results_by_topic_v3_and_below"):
            first = answer.results_by_topic_v3_and_below[0].results_by_partition[0]
            return ErrorCode(first.partition_error_code)
        return ErrorCode(answer.error_code)

    def is_waiting(self, token: int) -> bool:
        return token not in self.answers

    def producer(self, token: int) -> tuple[int, int]:
        """The id and epoch that InitProducerId or EndTxn 5 answered."""
        answer = self.answers[token]
        assert answer.error_code == ErrorCode.NONE
        return answer.producer_id, answer.producer_epoch

    def describe(self, transactional_id: str = ID) -> Any:
        request = DescribeTransactionsRequest(transactional_ids=[transactional_id])
        return self.answers[self.send(self.coordinator.describe, request, 0)].transaction_states[0]

    def state(self, transactional_id: str = ID) -> str:
        return str(self.describe(transactional_id).transaction_state)

    def stored(self) -> dict[str, Transaction]:
        """What the log says of every id, by its last record."""
        found: dict[str, Transaction] = {}
        for record in self.log:
            read = decode(record.key, record.value)
            assert read is not None
            transactional_id, transaction = read
            if transaction is None:
                found.pop(transactional_id, None)
            else:
                found[transactional_id] = transaction
        return found
