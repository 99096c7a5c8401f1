"""SaslHandshake (key 17): choose a SASL mechanism.

After v1 the exchange goes through SaslAuthenticate; after v0 raw tokens follow.
"""

from __future__ import annotations

from logqueue.protocol.api import ApiKey
from logqueue.protocol.fields import array, int16, string
from logqueue.protocol.schema import STRING, Message


class SaslHandshakeRequest(Message, key=ApiKey.SASL_HANDSHAKE, versions=(0, 1)):
    mechanism: str = string()


class SaslHandshakeResponse(Message, key=ApiKey.SASL_HANDSHAKE, versions=(0, 1)):
    error_code: int = int16()
    mechanisms: list[str] = array(STRING)
