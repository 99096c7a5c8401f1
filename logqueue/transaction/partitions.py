"""Which partitions a transaction spans: AddPartitionsToTxn, AddOffsetsToTxn, what producers ask (KIP-890)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

from logqueue.coordination.effects import Caller, Now
from logqueue.coordination.partitioning import CONSUMER_OFFSETS_TOPIC
from logqueue.coordination.topics import Topics
from logqueue.errors import ErrorCode
from logqueue.ids import TopicPartition
from logqueue.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
from logqueue.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
)
from logqueue.transaction.ending import Ending
from logqueue.transaction.ledger import Entry, Ledger
from logqueue.transaction.records import TRANSACTION_STATE_TOPIC
from logqueue.transaction.states import COMPLETE_ABORT, COMPLETE_COMMIT, ONGOING, PREPARED
from logqueue.transaction.transaction import EPOCH_BUMP_VERSION, Transaction

PRODUCER_FENCED_SINCE = 2  # before, clients know INVALID_PRODUCER_EPOCH only
SEVERAL_TRANSACTIONS_SINCE = 4

INTERNAL_TOPICS = frozenset({CONSUMER_OFFSETS_TOPIC, TRANSACTION_STATE_TOPIC})

WAITING_MAX = 1_000
"""Requests of one transactional id that wait for its record; above it they are told CONCURRENT_TRANSACTIONS."""


class Partitions:
    """Adds partitions to transactions, and tells whether they are in one."""

    def __init__(self, ledger: Ledger, ending: Ending, topics: Topics) -> None:
        self._ledger = ledger
        self._ending = ending
        self._topics = topics

    # The two rules

    def verify(self, transactional_id: str, producer_id: int, epoch: int, partition: TopicPartition) -> ErrorCode:
        """Whether the partition is in the producer's transaction; TRANSACTION_ABORTABLE when it alone is not."""
        if not transactional_id:
            return ErrorCode.INVALID_REQUEST
        entry = self._ledger.entries.get(transactional_id)
        if entry is None or entry.durable.producer_id != producer_id:
            return ErrorCode.INVALID_PRODUCER_ID_MAPPING
        durable = entry.durable
        if durable.epoch != epoch:
            return ErrorCode.PRODUCER_FENCED
        if durable.state in PREPARED:
            return ErrorCode.CONCURRENT_TRANSACTIONS
        return ErrorCode.NONE if partition in durable.partitions else ErrorCode.TRANSACTION_ABORTABLE

    def _add(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        partitions: Collection[TopicPartition],
        *,
        client_version: int,
        then: Callable[[ErrorCode], None],
        now: Now,
        awaited: bool = True,
    ) -> None:
        """Have the transaction span the partitions; `then` is called once it does (durably if `awaited`), or may not.

        TV1 waits: with one epoch for all its transactions, the answer to an EndTxn could be that of the one before.
        """
        entry = self._ledger.entries.get(transactional_id)
        refusal = _refusal(entry, producer_id, epoch) if transactional_id else ErrorCode.INVALID_REQUEST
        if refusal is not None:
            then(refusal)
            return
        assert entry is not None
        durable = entry.durable
        if durable.state is ONGOING and durable.partitions.issuperset(partitions):
            then(ErrorCode.NONE)
            return

        following = durable.with_partitions(partitions, client_version=client_version, now_ms=now.time_ms)

        def settle(error: ErrorCode, later: Now) -> None:
            if error is ErrorCode.NONE:
                self._ending.watch(later)
            then(error)

        self._ledger.append(entry, following, settle, awaited=awaited)

    # Producers

    def verify_or_add(
        self,
        transactional_id: str,
        producer_id: int,
        epoch: int,
        partitions: Collection[TopicPartition],
        *,
        token: object,
        now: Now,
    ) -> None:
        """Add the partitions a TV2 producer writes to, behind whatever is being written of its id at the moment.

        The record is not awaited: after a power cut the logs tell of it (`recovery.py`). That needs an epoch of its own
        for the transaction. If the one before was ended by TV1, which keeps the epoch, its end could be carried out
        again on this one, unless what stands behind it is durable.
        """
        entry = self._ledger.entries.get(transactional_id)
        if entry is not None and entry.pending is not None and not entry.is_stuck and len(entry.waiting) < WAITING_MAX:
            entry.waiting.append(
                lambda later: self.verify_or_add(
                    transactional_id, producer_id, epoch, partitions, token=token, now=later
                )
            )
            return
        self._add(
            transactional_id,
            producer_id,
            epoch,
            partitions,
            client_version=EPOCH_BUMP_VERSION,
            then=partial(self._ledger.judge, token),
            now=now,
            awaited=entry is not None and not self._has_own_epoch(entry.durable),
        )

    def _has_own_epoch(self, durable: Transaction) -> bool:
        is_behind_end = durable.state in (COMPLETE_COMMIT, COMPLETE_ABORT)
        return self._ledger.transaction_version >= EPOCH_BUMP_VERSION and not (
            is_behind_end and durable.client_version < EPOCH_BUMP_VERSION
        )

    # AddOffsetsToTxn

    def add_offsets(self, request: AddOffsetsToTxnRequest, partition: int, *, caller: Caller, now: Now) -> None:
        """Add the partition of `__consumer_offsets` that holds the group."""

        def then(error: ErrorCode) -> None:
            self._ledger.reply(caller, AddOffsetsToTxnResponse(error_code=_told(error, caller)))

        self._add(
            request.transactional_id,
            request.producer_id,
            request.producer_epoch,
            (TopicPartition(CONSUMER_OFFSETS_TOPIC, partition),),
            client_version=0,  # TV2 clients do not send this request
            then=then,
            now=now,
        )

    # AddPartitionsToTxn

    def add(self, request: AddPartitionsToTxnRequest, *, caller: Caller, now: Now) -> None:
        """Versions 0 to 3 speak of one transaction, later ones of several; the answer follows the last of them."""
        if caller.version < SEVERAL_TRANSACTIONS_SINCE:
            transactions = [
                AddPartitionsToTxnTransaction(
                    transactional_id=request.v3_and_below_transactional_id,
                    producer_id=request.v3_and_below_producer_id,
                    producer_epoch=request.v3_and_below_producer_epoch,
                    topics=request.v3_and_below_topics,
                )
            ]
        else:
            transactions = request.transactions
        results: list[AddPartitionsToTxnResult] = []

        def settle(transaction: AddPartitionsToTxnTransaction, topics: list[AddPartitionsToTxnTopicResult]) -> None:
            results.append(
                AddPartitionsToTxnResult(transactional_id=transaction.transactional_id, topic_results=topics)
            )
            if len(results) == len(transactions):
                self._ledger.reply(caller, _response(results, caller))

        if not transactions:
            self._ledger.reply(caller, _response(results, caller))
        for transaction in transactions:
            self._add_one(transaction, partial(settle, transaction), caller, now)

    def _add_one(
        self,
        transaction: AddPartitionsToTxnTransaction,
        settle: Callable[[list[AddPartitionsToTxnTopicResult]], None],
        caller: Caller,
        now: Now,
    ) -> None:
        errors = {partition: self._existence(partition, caller) for partition in _partitions(transaction.topics)}
        if any(errors.values()):
            # One partition that cannot be added keeps all others out.
            settle(_results(transaction, lambda p: errors[p] or ErrorCode.OPERATION_NOT_ATTEMPTED))
        elif transaction.verify_only:
            verify = partial(
                self.verify, transaction.transactional_id, transaction.producer_id, transaction.producer_epoch
            )
            settle(_results(transaction, verify))
        else:
            is_from_client = caller.version < SEVERAL_TRANSACTIONS_SINCE
            self._add(
                transaction.transactional_id,
                transaction.producer_id,
                transaction.producer_epoch,
                list(errors),
                client_version=0 if is_from_client else EPOCH_BUMP_VERSION,
                then=lambda error: settle(_results(transaction, lambda _: _told(error, caller))),
                now=now,
            )

    def _existence(self, partition: TopicPartition, caller: Caller) -> ErrorCode:
        # Clients add groups with AddOffsetsToTxn; brokers among themselves name the internal topic.
        if caller.version < SEVERAL_TRANSACTIONS_SINCE and partition.topic in INTERNAL_TOPICS:
            return ErrorCode.TOPIC_AUTHORIZATION_FAILED
        if not self._topics.has_partition(*partition):
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return ErrorCode.NONE


def _refusal(entry: Entry | None, producer_id: int, epoch: int) -> ErrorCode | None:
    if entry is None:
        return ErrorCode.INVALID_PRODUCER_ID_MAPPING
    # First of all: the producer may be using a producer id that is still being written.
    if entry.pending is not None:
        return ErrorCode.CONCURRENT_TRANSACTIONS
    durable = entry.durable
    if durable.producer_id != producer_id:
        return ErrorCode.INVALID_PRODUCER_ID_MAPPING
    return ErrorCode.PRODUCER_FENCED if durable.epoch != epoch else None


def _told(error: ErrorCode, caller: Caller) -> ErrorCode:
    is_old = caller.version < PRODUCER_FENCED_SINCE
    return ErrorCode.INVALID_PRODUCER_EPOCH if is_old and error is ErrorCode.PRODUCER_FENCED else error


def _partitions(topics: Iterable[AddPartitionsToTxnTopic]) -> Iterable[TopicPartition]:
    return (TopicPartition(topic.name, partition) for topic in topics for partition in topic.partitions)


def _results(
    transaction: AddPartitionsToTxnTransaction, error_of: Callable[[TopicPartition], ErrorCode]
) -> list[AddPartitionsToTxnTopicResult]:
    return [
        AddPartitionsToTxnTopicResult(
            name=topic.name,
            results_by_partition=[
                AddPartitionsToTxnPartitionResult(
                    partition_index=partition, partition_error_code=error_of(TopicPartition(topic.name, partition))
                )
                for partition in topic.partitions
            ],
        )
        for topic in transaction.topics
    ]


def _response(results: list[AddPartitionsToTxnResult], caller: Caller) -> AddPartitionsToTxnResponse:
    if caller.version < SEVERAL_TRANSACTIONS_SINCE:
        return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=results[0].topic_results)
    return AddPartitionsToTxnResponse(results_by_transaction=results)
