"""InitProducerId (key 22): a producer id and epoch, and for a transactional id the fencing of its earlier users.

v2 is flexible, v3 lets a producer bump its epoch (KIP-360), v6 serves two-phase commit (KIP-939).
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import bool_, int16, int32, int64, string
from logqueue.protocol.schema import Message


class InitProducerIdRequest(Message, key=ApiKey.INIT_PRODUCER_ID, versions=(0, 6), flexible=2):
    transactional_id: str | None = string(nullable=0)
    transaction_timeout_ms: int = int32()
    producer_id: int = int64(since=3, default=-1)
    producer_epoch: int = int16(since=3, default=-1)
    enable2_pc: bool = bool_(since=6)
    keep_prepared_txn: bool = bool_(since=6)


class InitProducerIdResponse(Message, key=ApiKey.INIT_PRODUCER_ID, versions=(0, 6), flexible=2):
    throttle_time_ms: int = int32()
    error_code: int = int16()
    producer_id: int = int64(default=-1)
    producer_epoch: int = int16()
    ongoing_txn_producer_id: int = int64(since=6, default=-1)
    ongoing_txn_producer_epoch: int = int16(since=6, default=-1)
