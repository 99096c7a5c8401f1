"""The records of `__transaction_state` and their bytes: key the transactional id, value a Transaction.

Values are version 1 (flexible, KIP-890) from `transaction.version` 1 on, version 0 below; both are read.
"""

from __future__ import annotations

from itertools import groupby

from logqueue.coordination.effects import LogRecord
from logqueue.ids import TopicPartition
from logqueue.protocol import codec
from logqueue.protocol.messages.transaction_state import PartitionsSchema, TransactionLogKey, TransactionLogValue
from logqueue.protocol.wire import STRING_BYTES_MAX, MalformedFrame
from logqueue.transaction.states import DEAD, EMPTY, TransactionState
from logqueue.transaction.transaction import Transaction

TRANSACTION_STATE_TOPIC = "__transaction_state"
KEY_VERSION = 0
FLEXIBLE_VALUE_SINCE = 1  # the level of `transaction.version`


def is_storable(transactional_id: str) -> bool:
    """Whether an id fits into a record."""
    return len(transactional_id) * 4 <= STRING_BYTES_MAX or len(transactional_id.encode()) <= STRING_BYTES_MAX


def encode(transaction: Transaction, *, transaction_version: int) -> LogRecord:
    """The record of a transactional id, a tombstone when it is Dead; `transaction_version` is the finalized level."""
    key = codec.write_versioned(TransactionLogKey(transactional_id=transaction.transactional_id), KEY_VERSION)
    if transaction.state is DEAD:
        return LogRecord(key, None)
    value = TransactionLogValue(
        producer_id=transaction.producer_id,
        previous_producer_id=transaction.previous_producer_id,
        next_producer_id=transaction.next_producer_id,
        producer_epoch=transaction.epoch,
        transaction_timeout_ms=transaction.timeout_ms,
        transaction_status=transaction.state,
        transaction_partitions=None if transaction.state is EMPTY else _topics(transaction.partitions),
        transaction_last_update_timestamp_ms=transaction.updated_ms,
        transaction_start_timestamp_ms=transaction.started_ms,
        client_transaction_version=transaction.client_version,
    )
    return LogRecord(key, codec.write_versioned(value, 1 if transaction_version >= FLEXIBLE_VALUE_SINCE else 0))


def _topics(partitions: frozenset[TopicPartition]) -> list[PartitionsSchema]:
    return [
        PartitionsSchema(topic=topic, partition_ids=[partition for _, partition in each])
        for topic, each in groupby(sorted(partitions), key=lambda partition: partition.topic)
    ]


def decode(key: bytes, value: bytes | None) -> tuple[str, Transaction | None] | None:
    """The id of a record and what it says, None for a tombstone; None for a record of a later kind.

    Raises MalformedFrame.
    """
    if codec.read_version(key) != KEY_VERSION:
        return None
    transactional_id = codec.read_versioned(TransactionLogKey, key).transactional_id
    if value is None:
        return transactional_id, None
    stored = codec.read_versioned(TransactionLogValue, value)
    try:
        state = TransactionState(stored.transaction_status)
    except ValueError:
        raise MalformedFrame(f"there is no transaction state {stored.transaction_status}") from None
    return transactional_id, Transaction(
        transactional_id=transactional_id,
        producer_id=stored.producer_id,
        epoch=stored.producer_epoch,
        timeout_ms=stored.transaction_timeout_ms,
        state=state,
        partitions=frozenset(
            TopicPartition(topic.topic, partition)
            for topic in stored.transaction_partitions or ()
            for partition in topic.partition_ids
        ),
        started_ms=stored.transaction_start_timestamp_ms,
        updated_ms=stored.transaction_last_update_timestamp_ms,
        previous_producer_id=stored.previous_producer_id,
        next_producer_id=stored.next_producer_id,
        client_version=stored.client_transaction_version,
    )
