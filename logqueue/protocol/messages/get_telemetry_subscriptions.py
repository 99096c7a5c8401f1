"""GetTelemetrySubscriptions (key 71): which metrics a client should send (KIP-714)."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, bool_, int16, int32, uuid
from logqueue.protocol.schema import INT8, STRING, Message


class GetTelemetrySubscriptionsRequest(Message, key=ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, versions=(0, 0), flexible=0):
    client_instance_id: bytes = uuid()


class GetTelemetrySubscriptionsResponse(Message, key=ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, versions=(0, 0), flexible=0):
    throttle_time_ms: int = int32()
    error_code: int = int16()
    client_instance_id: bytes = uuid()
    subscription_id: int = int32()
    accepted_compression_types: list[int] = array(INT8)
    push_interval_ms: int = int32()
    telemetry_max_bytes: int = int32()
    delta_temporality: bool = bool_()
    requested_metrics: list[str] = array(STRING)
