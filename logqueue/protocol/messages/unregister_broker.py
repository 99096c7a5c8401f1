"""UnregisterBroker (key 64): forget a broker of the cluster (KIP-631)."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import int16, int32, string
from logqueue.protocol.schema import Message


class UnregisterBrokerRequest(Message, key=ApiKey.UNREGISTER_BROKER, versions=(0, 0), flexible=0):
    broker_id: int = int32()


class UnregisterBrokerResponse(Message, key=ApiKey.UNREGISTER_BROKER, versions=(0, 0), flexible=0):
    throttle_time_ms: int = int32()
    error_code: int = int16()
    error_message: str | None = string(nullable=0)
