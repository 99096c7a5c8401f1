"""Whether a transactional batch may be appended (KIP-890): its partition must be in its producer's open transaction.

With Produce 12 and TxnOffsetCommit 5 the broker adds the partition itself, and the request waits only while something
else of its transactional id is being written; with older versions the producer has added it before. Once a producer has
a transaction open in a log nothing is asked.

Requests of one transactional id are served in order: while one waits, later ones wait behind it, since their batches
follow those of the first.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from logqueue.broker.handlers import produce
from logqueue.broker.network.session import Slot
from logqueue.broker.partitions.partition import Partition
from logqueue.errors import ErrorCode, KafkaError
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from logqueue.records.batch import HEADER_SIZE, MAGIC, BatchHeader, parse_header

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.coordinators.transactions import Transactions

log = logging.getLogger("logqueue.broker.coordinators.verification")

PRODUCE_TELLS_ABORTABLE_SINCE = 11
PRODUCE_ADDS_SINCE = 12
OFFSETS_TELL_ABORTABLE_SINCE = 4
OFFSETS_ADD_SINCE = 5

PARKED_MAX = 1_000
"""Requests of one transactional id that may wait; above it they are told to try again."""

# Why batches of a request may not be appended, by partition.
Refused: TypeAlias = Mapping[TopicPartition, KafkaError]


class Verification:
    """Stands between the requests of transactional producers and the logs."""

    def __init__(self, broker: Broker, transactions: Transactions) -> None:
        self._broker = broker
        self._transactions = transactions
        self._parked: dict[str, deque[tuple[ProduceRequest, Slot]]] = {}

    # Produce

    def admit(self, request: ProduceRequest, slot: Slot) -> Refused | None:
        """What the request may not append; None if it has to wait, and is served and answered by itself then."""
        transactional_id = request.transactional_id
        assert transactional_id is not None
        parked = self._parked.get(transactional_id)
        if parked is not None:
            if len(parked) >= PARKED_MAX:
                return self._all_refused(request, slot, ErrorCode.NOT_ENOUGH_REPLICAS)
            parked.append((_kept(request), slot))
            return None
        return self._judge(request, slot)

    def _judge(self, request: ProduceRequest, slot: Slot) -> Refused | None:
        transactional_id = request.transactional_id
        assert transactional_id is not None
        version = slot.api_version
        asked: dict[TopicPartition, tuple[Partition, int]] = {}
        fenced: dict[TopicPartition, KafkaError] = {}
        producers: set[tuple[int, int]] = set()
        for data in request.topic_data:
            for part in data.partition_data:
                header = _transactional_header(part)
                if header is None:
                    continue
                producer = (header.producer_id, header.producer_epoch)
                producers.add(producer)
                partition = self._partition(data, part.index, version)
                if partition is None:
                    continue
                if _is_fenced(partition, producer):
                    fenced[partition.id] = KafkaError(code=ErrorCode.INVALID_PRODUCER_EPOCH)
                elif not self._is_open(partition, producer):
                    asked[partition.id] = (partition, header.base_sequence)
        if len(producers) > 1:
            return self._all_refused(request, slot, ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        adds = version >= PRODUCE_ADDS_SINCE
        if not asked or not (adds or self._broker.config.transaction_partition_verification_enable):
            return fenced
        (producer,) = producers
        now_ms = self._broker.clock.time_ms()
        for partition, sequence in asked.values():
            verifications = partition.log.producer_state.verifications
            verifications.begin(*producer, sequence, epochs_change=adds, now_ms=now_ms)
        codes = {each: self._verify(transactional_id, producer, each) for each in asked}
        if not any(codes.values()):
            return fenced
        if not adds:
            return fenced | {each: _produce_error(code, version) for each, code in codes.items() if code}
        self._park(request, slot, producer, list(asked), fenced)
        return None

    def _verify(self, transactional_id: str, producer: tuple[int, int], partition: TopicPartition) -> ErrorCode:
        return self._transactions.coordinator.verify(transactional_id, *producer, partition)

    def _park(
        self,
        request: ProduceRequest,
        slot: Slot,
        producer: tuple[int, int],
        asked: list[TopicPartition],
        fenced: dict[TopicPartition, KafkaError],
    ) -> None:
        """Have the partitions added, and serve the request then: at once as a rule."""
        transactional_id = request.transactional_id
        assert transactional_id is not None

        def then(error: ErrorCode) -> None:
            if self._parked.get(transactional_id) is not waiting:
                return  # given up, below
            refused = fenced
            if error:
                refused = fenced | dict.fromkeys(asked, _produce_error(error, slot.api_version))
            try:
                self._finish(request, slot, refused)
            except Exception as unforeseen:
                self._fail(request, slot, unforeseen)
            finally:
                self._unpark(transactional_id)

        self._parked[transactional_id] = waiting = deque[tuple[ProduceRequest, Slot]]()
        try:
            self._transactions.verify_or_add(transactional_id, producer, asked, then)
        except Exception:
            if self._parked.get(transactional_id) is waiting:
                self._unpark(transactional_id)
            raise
        if self._parked.get(transactional_id) is waiting:
            _kept(request)

    def _unpark(self, transactional_id: str) -> None:
        """Serve those that waited behind, until one of them has to wait itself; a failure is its own affair only."""
        waiting = self._parked.pop(transactional_id)
        while waiting:
            if transactional_id in self._parked:  # the one just served waits: the others stay behind it
                self._parked[transactional_id].extend(waiting)
                return
            request, slot = waiting.popleft()
            try:
                refused = self._judge(request, slot)
                if refused is not None:
                    self._finish(request, slot, refused)
            except Exception as error:
                self._fail(request, slot, error)

    def _finish(self, request: ProduceRequest, slot: Slot, refused: Refused) -> None:
        try:
            response: ProduceResponse | None = produce.append(self._broker, request, slot, refused)
        except produce.ProduceFailed as error:
            log.info("%s", error)  # its connection cannot be ended any more at this point; it has no answer either way
            slot.fill([])
            return
        if response is not None:
            self._broker.answer(slot, response)

    def _fail(self, request: ProduceRequest, slot: Slot, error: Exception) -> None:
        """Answer what failed in an unforeseen way: the handler of a request that has waited is long gone."""
        from logqueue.broker.failures import answer_failure

        if not answer_failure(error, request, slot):
            log.error("a produce request failed in an unforeseen way; please report this", exc_info=error)
            if slot.segments is None:
                slot.fill([])

    def _all_refused(self, request: ProduceRequest, slot: Slot, code: ErrorCode) -> Refused:
        error = KafkaError("this transactional producer cannot be served like this", code=code)
        found = (
            self._partition(data, part.index, slot.api_version)
            for data in request.topic_data
            for part in data.partition_data
        )
        return {partition.id: error for partition in found if partition is not None}

    def _partition(self, data: TopicProduceData, index: int, version: int) -> Partition | None:
        topics = self._broker.topics
        by_id = version >= produce.FIRST_WITH_TOPIC_IDS
        topic = topics.by_id.get(data.topic_id) if by_id else topics.by_name.get(data.name)
        return topic.partitions[index] if topic is not None and 0 <= index < len(topic.partitions) else None

    def _is_open(self, partition: Partition, producer: tuple[int, int]) -> bool:
        """Whether the log alone can judge the batch: the transaction is open there, or the producer is fenced."""
        producer_id, epoch = producer
        entry = partition.log.producer_state.get(producer_id)
        if entry is None:
            return False
        return epoch < entry.epoch or (epoch == entry.epoch and partition.log.open_transaction(producer_id) is not None)

    # TxnOffsetCommit

    def admit_offsets(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        partition: Partition,
        *,
        version: int,
        then: Callable[[ErrorCode], None],
    ) -> None:
        """Tell `then` whether the producer may commit offsets into a partition of `__consumer_offsets`."""
        if self._is_open(partition, producer):
            entry = partition.log.producer_state.get(producer[0])
            is_fenced = entry is not None and producer[1] < entry.epoch
            then(ErrorCode.INVALID_PRODUCER_EPOCH if is_fenced else ErrorCode.NONE)
            return
        adds = version >= OFFSETS_ADD_SINCE
        code = self._verify(transactional_id, producer, partition.id)
        if not adds and not self._broker.config.transaction_partition_verification_enable:
            code = ErrorCode.NONE
        if adds and code:
            self._transactions.verify_or_add(
                transactional_id, producer, [partition.id], lambda error: then(_told_to_producers(error, is_old=False))
            )
        else:
            then(_told_to_producers(code, is_old=version < OFFSETS_TELL_ABORTABLE_SINCE))


def _is_fenced(partition: Partition, producer: tuple[int, int]) -> bool:
    """Whether the log has seen a newer epoch of the producer."""
    entry = partition.log.producer_state.get(producer[0])
    return entry is not None and producer[1] < entry.epoch


def _transactional_header(part: PartitionProduceData) -> BatchHeader | None:
    """The header of a producer's transactional batch; None for anything else, which the log judges."""
    records = part.records
    if not isinstance(records, memoryview | bytes | bytearray) or len(records) < HEADER_SIZE:
        return None
    header = parse_header(records)
    if header.magic != MAGIC or header.size != len(records) or not header.is_transactional:
        return None
    return header if header.has_producer_id else None


def _kept(request: ProduceRequest) -> ProduceRequest:
    """The request with records of its own: those of the frame are gone when the handler returns."""
    for data in request.topic_data:
        for part in data.partition_data:
            if isinstance(part.records, memoryview):
                part.records = memoryview(bytearray(part.records))
    return request


def _told_to_producers(code: ErrorCode, *, is_old: bool) -> ErrorCode:
    if code is ErrorCode.PRODUCER_FENCED:
        return ErrorCode.INVALID_PRODUCER_EPOCH  # it can abort and go on, which PRODUCER_FENCED would forbid
    if code is ErrorCode.TRANSACTION_ABORTABLE and is_old:
        return ErrorCode.INVALID_TXN_STATE
    return code


def _produce_error(code: ErrorCode, version: int) -> KafkaError:
    told = _told_to_producers(code, is_old=version < PRODUCE_TELLS_ABORTABLE_SINCE)
    is_retriable_only_by_new = told is ErrorCode.CONCURRENT_TRANSACTIONS and version < PRODUCE_ADDS_SINCE
    if told in (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR) or is_retriable_only_by_new:
        # Older producers retry this one, and do not ask for new metadata.
        return KafkaError(
            f"Unable to verify the partition has been added to the transaction: {told.name}",
            code=ErrorCode.NOT_ENOUGH_REPLICAS,
        )
    if told is ErrorCode.INVALID_TXN_STATE:
        return KafkaError("Partition was not added to the transaction", code=told)
    return KafkaError(code=told)
