"""SaslHandshake (17) on a listener without SASL: there is nothing to agree on. With SASL see `broker/sasl_gate.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: SaslHandshakeRequest, slot: Slot) -> SaslHandshakeResponse:
    return SaslHandshakeResponse(error_code=ErrorCode.ILLEGAL_SASL_STATE)
