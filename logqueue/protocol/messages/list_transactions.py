"""ListTransactions (key 66): the transactional ids of this coordinator (KIP-664, KIP-994)."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, int16, int32, int64, string
from logqueue.protocol.schema import INT64, STRING, Message, Struct


class ListTransactionsRequest(Message, key=ApiKey.LIST_TRANSACTIONS, versions=(0, 2), flexible=0):
    state_filters: list[str] = array(STRING)
    producer_id_filters: list[int] = array(INT64)
    duration_filter: int = int64(since=1, default=-1)
    transactional_id_pattern: str | None = string(since=2, nullable=0)


class TransactionState(Struct):
    transactional_id: str = string()
    producer_id: int = int64()
    transaction_state: str = string()


class ListTransactionsResponse(Message, key=ApiKey.LIST_TRANSACTIONS, versions=(0, 2), flexible=0):
    throttle_time_ms: int = int32()
    error_code: int = int16()
    unknown_state_filters: list[str] = array(STRING)
    transaction_states: list[TransactionState] = array(TransactionState)
