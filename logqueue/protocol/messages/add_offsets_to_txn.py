"""AddOffsetsToTxn (key 25): a group whose offsets a transaction commits. v3 is flexible."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import int16, int32, int64, string
from logqueue.protocol.schema import Message


class AddOffsetsToTxnRequest(Message, key=ApiKey.ADD_OFFSETS_TO_TXN, versions=(0, 4), flexible=3):
    transactional_id: str = string()
    producer_id: int = int64()
    producer_epoch: int = int16()
    group_id: str = string()


class AddOffsetsToTxnResponse(Message, key=ApiKey.ADD_OFFSETS_TO_TXN, versions=(0, 4), flexible=3):
    throttle_time_ms: int = int32()
    error_code: int = int16()
