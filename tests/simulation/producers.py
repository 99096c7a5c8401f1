"""Producers of the simulation as KIP-98 and KIP-890 describe them, and what they write down."""

from __future__ import annotations

from collections.abc import Generator
from itertools import count
from random import Random
from typing import Any

from logqueue.clock import Clock
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from logqueue.protocol.messages.end_txn import EndTxnRequest
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest
from logqueue.records import Record, build_batch
from tests.broker.wire import produce_request
from tests.simulation.network import Ask, Script, Wait
from tests.soak.history import Ack, Event, Send, TransactionEnd

TOPIC = "t"
PARTITIONS = 3
BACKOFF_SECONDS = 0.1
RETRIABLE = {
    ErrorCode.CONCURRENT_TRANSACTIONS,
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
}
TRANSACTION_TIMEOUT_MS = 20_000


class ProducerGone(Exception):
    """This producer can do nothing more; another one takes its place."""


class Producer:
    """One idempotent or transactional producer. `history` is shared by all clients of a run."""

    def __init__(
        self,
        name: str,
        random: Random,
        clock: Clock,
        history: list[Event],
        *,
        transactional_id: str | None = None,
        is_new_version: bool = False,
    ) -> None:
        self._name = name
        self._random = random
        self._clock = clock
        self._history = history
        self._transactional_id = transactional_id
        self._is_new = is_new_version
        self._producer = (-1, -1)
        self._sequences: dict[int, int] = {}
        self._numbers = count(1)
        self._client = name

    def script(self) -> Script:
        for incarnation in count(1):
            self._client = f"{self._name}.{incarnation}"
            try:
                yield from self._initialize()
                for number in count(1):
                    if self._transactional_id is None:
                        yield from self._send(None)
                    else:
                        yield from self._transaction(f"{self._client}.t{number}")
                    yield Wait(self._random.uniform(0.0, 0.5))
            except ProducerGone:
                yield Wait(BACKOFF_SECONDS)

    def _asked(self, version: int, message: Any, *, may_outlive: bool = True) -> Generator[Ask | Wait, Any, Any]:
        """The answer to a request that may be asked again."""
        while True:
            answer = yield Ask(version, message, may_outlive=may_outlive)
            if answer is not None:
                return answer
            yield Wait(BACKOFF_SECONDS)

    def _initialize(self) -> Script:
        while True:
            request = InitProducerIdRequest(
                transactional_id=self._transactional_id, transaction_timeout_ms=TRANSACTION_TIMEOUT_MS
            )
            answer = yield from self._asked(4, request)
            if answer.error_code == ErrorCode.NONE:
                self._producer = (answer.producer_id, answer.producer_epoch)
                self._sequences.clear()
                self._numbers = count(1)
                return
            assert answer.error_code in RETRIABLE, f"InitProducerId: {ErrorCode(answer.error_code).name}"
            yield Wait(BACKOFF_SECONDS)

    def _send(self, transaction: str | None) -> Script:
        """One record, sent again until there is an answer to it."""
        partition = self._random.randrange(PARTITIONS)
        number = next(self._numbers)
        value = f"{self._client}-{number}"
        self._history.append(
            Send(
                at=self._clock.monotonic(),
                client=self._client,
                partition=partition,
                value=value,
                number=number,
                transaction=transaction,
            )
        )
        sequence = self._sequences.get(partition, 0)
        self._sequences[partition] = sequence + 1
        batch = bytes(
            build_batch(
                [Record(timestamp_ms=self._clock.time_ms(), value=value.encode())],
                producer_id=self._producer[0],
                producer_epoch=self._producer[1],
                base_sequence=sequence,
                transactional=transaction is not None,
            )
        )
        while True:
            request = produce_request(TOPIC, batch, partition=partition)
            request.transactional_id = self._transactional_id
            answer = yield from self._asked(12 if self._is_new else 11, request)
            told = answer.responses[0].partition_responses[0]
            if told.error_code == ErrorCode.NONE:
                break
            if told.error_code not in RETRIABLE:
                raise ProducerGone
            yield Wait(BACKOFF_SECONDS)
        self._history.append(
            Ack(
                at=self._clock.monotonic(),
                client=self._client,
                value=value,
                partition=partition,
                offset=told.base_offset,
            )
        )

    def _transaction(self, name: str) -> Script:
        committed: bool | None = None
        try:
            for _ in range(self._random.randint(1, 4)):
                if not self._is_new:
                    yield from self._add_partitions()
                yield from self._send(name)
            if self._random.random() < 0.1:
                yield Wait(TRANSACTION_TIMEOUT_MS / 1000 * 1.5)  # too long: the coordinator aborts it
            wish = self._random.random() < 0.7
            yield from self._end(wish)
            committed = wish
        finally:
            self._history.append(
                TransactionEnd(at=self._clock.monotonic(), client=self._client, transaction=name, committed=committed)
            )

    def _add_partitions(self) -> Script:
        """All partitions: which of them it will be is not known yet."""
        topic = AddPartitionsToTxnTopic(name=TOPIC, partitions=list(range(PARTITIONS)))
        while True:
            request = AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=self._transactional_id or "",
                v3_and_below_producer_id=self._producer[0],
                v3_and_below_producer_epoch=self._producer[1],
                v3_and_below_topics=[topic],
            )
            answer = yield from self._asked(3, request)
            found = answer.results_by_topic_v3_and_below[0].results_by_partition
            codes = {each.partition_error_code for each in found}
            if codes == {ErrorCode.NONE}:
                return
            if not codes <= RETRIABLE | {ErrorCode.OPERATION_NOT_ATTEMPTED}:
                raise ProducerGone
            yield Wait(BACKOFF_SECONDS)

    def _end(self, commit: bool) -> Script:
        while True:
            request = EndTxnRequest(
                transactional_id=self._transactional_id or "",
                producer_id=self._producer[0],
                producer_epoch=self._producer[1],
                committed=commit,
            )
            # Before KIP-890 nothing tells a late end from that of the next transaction, which it tears: in Kafka too.
            answer = yield from self._asked(5 if self._is_new else 4, request, may_outlive=self._is_new)
            if answer.error_code == ErrorCode.NONE:
                break
            if answer.error_code not in RETRIABLE:
                raise ProducerGone
            yield Wait(BACKOFF_SECONDS)
        if self._is_new:
            self._producer = (answer.producer_id, answer.producer_epoch)
            self._sequences.clear()
