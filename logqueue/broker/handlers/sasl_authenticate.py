"""SaslAuthenticate (36) on a listener without SASL: there is nobody to be. With SASL see `broker/sasl_gate.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.broker.network.session import Slot
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker


def handle(broker: Broker, request: SaslAuthenticateRequest, slot: Slot) -> SaslAuthenticateResponse:
    return SaslAuthenticateResponse(
        error_code=ErrorCode.ILLEGAL_SASL_STATE,
        error_message="SaslAuthenticate request received after successful authentication",
    )
