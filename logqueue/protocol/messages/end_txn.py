"""EndTxn (key 26): commit or abort. v3 is flexible, v5 answers the next epoch (KIP-890)."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import bool_, int16, int32, int64, string
from logqueue.protocol.schema import Message


class EndTxnRequest(Message, key=ApiKey.END_TXN, versions=(0, 5), flexible=3):
    transactional_id: str = string()
    producer_id: int = int64()
    producer_epoch: int = int16()
    committed: bool = bool_()


class EndTxnResponse(Message, key=ApiKey.END_TXN, versions=(0, 5), flexible=3):
    throttle_time_ms: int = int32()
    error_code: int = int16()
    producer_id: int = int64(since=5, default=-1)
    producer_epoch: int = int16(since=5, default=-1)
