"""A transactional producer at the byte level: each request in the version a test names, each answer as its code."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from logqueue.errors import ErrorCode
from logqueue.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from logqueue.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic
from logqueue.protocol.messages.describe_transactions import DescribeTransactionsRequest
from logqueue.protocol.messages.end_txn import EndTxnRequest
from logqueue.protocol.messages.find_coordinator import FindCoordinatorRequest
from logqueue.protocol.messages.init_producer_id import InitProducerIdRequest
from logqueue.protocol.messages.list_transactions import ListTransactionsRequest
from logqueue.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from logqueue.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from logqueue.records.batch import iterate_batches
from logqueue.records.builder import read_records
from tests.broker.wire import PAUSE_SECONDS, WAIT_SECONDS, Wire, batch, create, fetch_request, produce_request, served

TIMEOUT_MS = 60_000
ENDING = ("PrepareCommit", "PrepareAbort")
GROUP, TRANSACTION = 0, 1

# What a broker answers while it gets ready, or finishes what came before: the request is sent again, as clients do.
PASSING = frozenset(
    {
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.NOT_ENOUGH_REPLICAS,
    }
)


def patiently(ask: Callable[[], Any], code_of: Callable[[Any], int] = lambda answer: answer.error_code) -> Any:
    """Ask until the answer is not one that passes by itself."""
    deadline = time.monotonic() + WAIT_SECONDS
    while code_of(answer := ask()) in PASSING and time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)
    return answer


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process is about to do."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it in time"
        time.sleep(PAUSE_SECONDS)


class TransactionalProducer:
    """One transactional id; its producer id, epoch and next sequence, where nothing else is said."""

    def __init__(self, wire: Wire, transactional_id: str) -> None:
        self.wire = wire
        self.transactional_id = transactional_id
        self.producer_id = -1
        self.epoch = -1
        self.sequence = 0
        for kind in (GROUP, TRANSACTION):  # what makes a broker create the internal topics
            wire.call(4, FindCoordinatorRequest(key_type=kind, coordinator_keys=[transactional_id or "none"]))

    # InitProducerId

    def ask_init(self, *, version: int = 4, timeout_ms: int = TIMEOUT_MS, expected: tuple[int, int] = (-1, -1)) -> Any:
        producer_id, epoch = expected
        return self.wire.call(
            version,
            InitProducerIdRequest(
                transactional_id=self.transactional_id,
                transaction_timeout_ms=timeout_ms,
                producer_id=producer_id,
                producer_epoch=epoch,
            ),
        )

    def init(self, **options: Any) -> ErrorCode:
        """Initialize; what is answered becomes this producer's own."""
        answer = patiently(lambda: self.ask_init(**options))
        if not answer.error_code:
            self.producer_id, self.epoch, self.sequence = answer.producer_id, answer.producer_epoch, 0
        return ErrorCode(answer.error_code)

    # Partitions

    def add(self, topic: str, *partitions: int, version: int = 3, epoch: int | None = None) -> ErrorCode:
        codes = self.add_each({topic: list(partitions or (0,))}, version=version, epoch=epoch)
        (code,) = set(codes.values())
        return code

    def add_each(
        self, topics: dict[str, list[int]], *, version: int = 3, epoch: int | None = None
    ) -> dict[tuple[str, int], ErrorCode]:
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.epoch if epoch is None else epoch,
            v3_and_below_topics=[AddPartitionsToTxnTopic(name=t, partitions=p) for t, p in topics.items()],
        )

        def any_code(answer: Any) -> int:
            code: int = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
            return code

        answer = patiently(lambda: self.wire.call(version, request), any_code)
        return {
            (topic.name, partition.partition_index): ErrorCode(partition.partition_error_code)
            for topic in answer.results_by_topic_v3_and_below
            for partition in topic.results_by_partition
        }

    def add_offsets(self, group: str, *, version: int = 3, epoch: int | None = None) -> ErrorCode:
        request = AddOffsetsToTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=self.producer_id,
            producer_epoch=self.epoch if epoch is None else epoch,
            group_id=group,
        )
        return ErrorCode(patiently(lambda: self.wire.call(version, request)).error_code)

    # Records

    def produce(
        self,
        topic: str,
        *values: bytes,
        partition: int = 0,
        version: int = 12,
        epoch: int | None = None,
        sequence: int | None = None,
        names_id: bool = True,
    ) -> ErrorCode:
        records = batch(
            *values,
            transactional=True,
            producer_id=self.producer_id,
            producer_epoch=self.epoch if epoch is None else epoch,
            base_sequence=self.sequence if sequence is None else sequence,
        )

        def send() -> Any:
            request = produce_request(topic, records, partition=partition)
            request.transactional_id = self.transactional_id if names_id else None
            return self.wire.call(version, request).responses[0].partition_responses[0]

        code = ErrorCode(patiently(send).error_code)
        if code is ErrorCode.NONE and sequence is None:
            self.sequence += len(values)
        return code

    # The end

    def ask_end(self, *, commit: bool, version: int, epoch: int | None = None, producer_id: int | None = None) -> Any:
        request = EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=self.producer_id if producer_id is None else producer_id,
            producer_epoch=self.epoch if epoch is None else epoch,
            committed=commit,
        )
        return patiently(lambda: self.wire.call(version, request))

    def end(self, *, commit: bool = True, version: int = 5, epoch: int | None = None) -> ErrorCode:
        """End the transaction; with version 5 the epoch that is answered becomes this producer's own."""
        answer = self.ask_end(commit=commit, version=version, epoch=epoch)
        if version >= 5 and not answer.error_code and epoch is None:
            self.producer_id, self.epoch, self.sequence = answer.producer_id, answer.producer_epoch, 0
        return ErrorCode(answer.error_code)

    # Offsets

    def commit_offset(
        self,
        group: str,
        topic: str,
        offset: int,
        *,
        version: int = 5,
        generation: int = -1,
        member: str = "",
        epoch: int | None = None,
        partition: int = 0,
        metadata: str | None = "",
    ) -> ErrorCode:
        position = TxnOffsetCommitRequestPartition(
            partition_index=partition, committed_offset=offset, committed_metadata=metadata
        )
        request = TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=group,
            producer_id=self.producer_id,
            producer_epoch=self.epoch if epoch is None else epoch,
            generation_id=generation,
            member_id=member,
            topics=[TxnOffsetCommitRequestTopic(name=topic, partitions=[position])],
        )

        def send() -> Any:
            return self.wire.call(version, request).topics[0].partitions[0]

        return ErrorCode(patiently(send).error_code)

    # What the coordinator tells

    def describe(self) -> Any:
        request = DescribeTransactionsRequest(transactional_ids=[self.transactional_id])
        return patiently(lambda: self.wire.call(0, request).transaction_states[0])

    def state(self) -> str:
        return str(self.describe().transaction_state)


def listed(wire: Wire, prefix: str, *, version: int = 2, **filters: Any) -> list[tuple[str, str]]:
    """(transactional id, state) of those whose id begins with the prefix."""
    answer = patiently(lambda: wire.call(version, ListTransactionsRequest(**filters)))
    assert answer.error_code == 0, ErrorCode(answer.error_code)
    return sorted(
        (t.transactional_id, t.transaction_state)
        for t in answer.transaction_states
        if t.transactional_id.startswith(prefix)
    )


def until_ended(wire: Wire, prefix: str) -> None:
    """Wait until the transactions that are ending now have ended: markers follow the answer to the producer.

    Of those whose id begins with the prefix; what others begin meanwhile is not waited for.
    """
    ending = [name for name, _ in listed(wire, prefix, state_filters=list(ENDING))]
    for each, seen in [(name, _transaction(wire, name)) for name in ending]:
        until(lambda each=each, seen=seen: seen[0] not in ENDING or _transaction(wire, each) != seen)  # type: ignore[misc]


def _transaction(wire: Wire, transactional_id: str) -> tuple[str, int, int]:
    """State, and which of its producer's transactions it is."""
    found = patiently(
        lambda: wire.call(0, DescribeTransactionsRequest(transactional_ids=[transactional_id])).transaction_states[0]
    )
    return found.transaction_state, found.producer_epoch, found.transaction_start_time_ms


def create_topics(wire: Wire, *names: str, partitions: int = 2, **configs: str) -> None:
    """Topics that are there for every request."""
    for name in names:
        assert create(wire, name, partitions=partitions, **configs).error_code == 0
    served(wire, *names)


def read(wire: Wire, topic: str, *, committed: bool, partition: int = 0) -> list[bytes | None]:
    """The values a consumer of this isolation level gets, read from the beginning to the end it may see."""
    found: list[bytes | None] = []
    offset, end = 0, 1
    while offset < end:
        request = fetch_request(topic, offset, partition=partition)
        request.isolation_level = 1 if committed else 0
        data = wire.call(11, request).responses[0].partitions[0]
        assert data.error_code == 0, ErrorCode(data.error_code)
        end = data.last_stable_offset if committed else data.high_watermark
        aborted = sorted((a.first_offset, a.producer_id) for a in data.aborted_transactions or ())
        ended: set[int] = set()  # producers whose records are aborted from here to their marker (KIP-98)
        for position, header in iterate_batches(data.records or b"", partial_tail=True):
            offset = header.next_offset
            while aborted and aborted[0][0] <= header.last_offset:
                ended.add(aborted.pop(0)[1])
            if header.is_control:
                ended.discard(header.producer_id)
            elif not (committed and header.is_transactional and header.producer_id in ended):
                found += [record.value for record in read_records(data.records, position, header)]
    return found


def fetch_offset(wire: Wire, group: str, topic: str, *, stable: bool = False, partition: int = 0) -> tuple[int, int]:
    """(error code, committed offset)."""
    topics = [OffsetFetchRequestTopics(name=topic, partition_indexes=[partition])]
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=topics)], require_stable=stable)

    def ask() -> Any:
        return wire.call(8, request).groups[0]

    answer = patiently(ask).topics[0].partitions[0]
    return answer.error_code, answer.committed_offset
