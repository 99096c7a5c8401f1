"""PushTelemetry (key 72): a client's metrics (KIP-714)."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import bool_, bytes_, int8, int16, int32, uuid
from logqueue.protocol.schema import Message


class PushTelemetryRequest(Message, key=ApiKey.PUSH_TELEMETRY, versions=(0, 0), flexible=0):
    client_instance_id: bytes = uuid()
    subscription_id: int = int32()
    terminating: bool = bool_()
    compression_type: int = int8()
    metrics: bytes = bytes_()


class PushTelemetryResponse(Message, key=ApiKey.PUSH_TELEMETRY, versions=(0, 0), flexible=0):
    throttle_time_ms: int = int32()
    error_code: int = int16()
