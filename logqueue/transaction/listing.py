"""DescribeTransactions and ListTransactions (KIP-664; v1 filters by duration, KIP-994; v2 by pattern, KIP-1152)."""

from __future__ import annotations

from itertools import groupby

from logqueue.coordination.effects import Caller, Now
from logqueue.coordination.regex import InvalidRegularExpression, matching
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TopicData,
    TransactionState,
)
from logqueue.protocol.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from logqueue.protocol.messages.list_transactions import TransactionState as ListedTransaction
from logqueue.transaction.ledger import Ledger
from logqueue.transaction.states import BY_LABEL
from logqueue.transaction.transaction import Transaction


class Listing:
    """Answers what transactional ids there are and how they stand."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def describe(self, request: DescribeTransactionsRequest, *, caller: Caller) -> None:
        """One answer per id asked for."""
        states = [self._described(transactional_id) for transactional_id in request.transactional_ids]
        self._ledger.reply(caller, DescribeTransactionsResponse(transaction_states=states))

    def _described(self, transactional_id: str) -> TransactionState:
        if not transactional_id:
            return TransactionState(transactional_id="", error_code=ErrorCode.INVALID_REQUEST)
        entry = self._ledger.entries.get(transactional_id)
        if entry is None or entry.durable.is_new:
            return TransactionState(transactional_id=transactional_id, error_code=ErrorCode.TRANSACTIONAL_ID_NOT_FOUND)
        durable = entry.durable
        return TransactionState(
            transactional_id=transactional_id,
            transaction_state=durable.state.label,
            transaction_timeout_ms=durable.timeout_ms,
            transaction_start_time_ms=durable.started_ms,
            producer_id=durable.producer_id,
            producer_epoch=durable.epoch,
            topics=[
                TopicData(topic=topic, partitions=[partition for _, partition in each])
                for topic, each in groupby(sorted(durable.partitions), key=lambda partition: partition.topic)
            ],
        )

    def list_transactions(self, request: ListTransactionsRequest, *, caller: Caller, now: Now) -> None:
        """The ids that pass every filter given; an unknown state passes none and is told."""
        found = [
            ListedTransaction(
                transactional_id=durable.transactional_id,
                producer_id=durable.producer_id,
                transaction_state=durable.state.label,
            )
            for entry in self._ledger.entries.values()
            if not (durable := entry.durable).is_new and _passes(durable, request, now)
        ]
        pattern = request.transactional_id_pattern
        if pattern:
            try:
                named = matching(pattern, [listed.transactional_id for listed in found])
            except InvalidRegularExpression as error:
                self._ledger.reply(caller, ListTransactionsResponse(error_code=error.code))
                return
            found = [listed for listed in found if listed.transactional_id in named]
        unknown = [label for label in request.state_filters if label not in BY_LABEL]
        self._ledger.reply(caller, ListTransactionsResponse(unknown_state_filters=unknown, transaction_states=found))


def _passes(durable: Transaction, request: ListTransactionsRequest, now: Now) -> bool:
    if request.producer_id_filters and durable.producer_id not in request.producer_id_filters:
        return False
    if request.state_filters and durable.state.label not in request.state_filters:
        return False
    return request.duration_filter < 0 or now.time_ms - durable.started_ms > request.duration_filter
