"""SaslAuthenticate (key 36): one SASL token each way. v1 adds the session lifetime (KIP-368), v2 is flexible."""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import bytes_, int16, int64, string
from logqueue.protocol.schema import Message


class SaslAuthenticateRequest(Message, key=ApiKey.SASL_AUTHENTICATE, versions=(0, 2), flexible=2):
    auth_bytes: bytes = bytes_()


class SaslAuthenticateResponse(Message, key=ApiKey.SASL_AUTHENTICATE, versions=(0, 2), flexible=2):
    error_code: int = int16()
    error_message: str | None = string(nullable=0)
    auth_bytes: bytes = bytes_()
    session_lifetime_ms: int = int64(since=1)
