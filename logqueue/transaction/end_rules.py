"""When a transaction may end: the tables of EndTxn, for both versions of the protocol. Pure functions.

TV1: the producer keeps its epoch over the end of a transaction, so an end sent again is known by the state alone.

TV2 (KIP-890): every end bumps the epoch, so a producer that carries the epoch before is sending its end again:

| state          | abort, epoch before | abort, present epoch | commit, epoch before | commit, present epoch |
|----------------|---------------------|----------------------|----------------------|-----------------------|
| Ongoing        | fenced              | abort                | fenced               | commit                |
| Empty          | fenced              | bump                 | fenced               | invalid state         |
| CompleteAbort  | done already        | bump                 | invalid state        | invalid state         |
| CompleteCommit | invalid state       | bump                 | done already         | invalid state         |
"""

from __future__ import annotations

from enum import Enum

from logqueue.errors import ErrorCode, KafkaError
from logqueue.transaction.ledger import Entry
from logqueue.transaction.states import COMPLETE_ABORT, COMPLETE_COMMIT, EMPTY, ONGOING
from logqueue.transaction.transaction import LAST_CLIENT_EPOCH


class EndVerdict(Enum):
    """What an EndTxn that is not refused leads to."""

    PREPARE = "write the decision"
    DONE_ALREADY = "answer as the first time"


def judge_v1(entry: Entry | None, *, producer_id: int, epoch: int, commit: bool) -> EndVerdict:
    """EndTxn 0-4. Raises KafkaError with the code that Kafka answers."""
    if entry is None or entry.durable.producer_id != producer_id:
        raise KafkaError(code=ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    if epoch != entry.durable.epoch:
        raise KafkaError(code=ErrorCode.PRODUCER_FENCED)
    if entry.pending is not None:
        raise KafkaError(code=ErrorCode.CONCURRENT_TRANSACTIONS)
    state = entry.durable.state
    if state is ONGOING:
        return EndVerdict.PREPARE
    if state is (COMPLETE_COMMIT if commit else COMPLETE_ABORT):
        return EndVerdict.DONE_ALREADY
    raise KafkaError(code=ErrorCode.INVALID_TXN_STATE)


def judge_v2(entry: Entry | None, *, producer_id: int, epoch: int, commit: bool) -> EndVerdict:
    """EndTxn 5. Raises KafkaError with the code that Kafka answers."""
    if entry is None:
        raise KafkaError(code=ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    # First of all: the producer may be using the new producer id that is still being written.
    if entry.pending is not None:
        raise KafkaError(code=ErrorCode.CONCURRENT_TRANSACTIONS)
    durable = entry.durable
    state = durable.state
    got_new_id = durable.previous_producer_id == producer_id and epoch == LAST_CLIENT_EPOCH and durable.epoch == 0
    if durable.producer_id != producer_id and not got_new_id:
        raise KafkaError(code=ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    is_retry = got_new_id or durable.epoch == epoch + 1
    if epoch != durable.epoch and (not is_retry or state in (EMPTY, ONGOING)):
        raise KafkaError(code=ErrorCode.PRODUCER_FENCED)
    if is_retry:
        if state is (COMPLETE_COMMIT if commit else COMPLETE_ABORT):
            return EndVerdict.DONE_ALREADY
    elif state is ONGOING or not commit:
        return EndVerdict.PREPARE
    raise KafkaError(code=ErrorCode.INVALID_TXN_STATE)
