"""SASL at the door: serves a connection until its client has authenticated, and when it has to do so again.

    ApiVersions*  SaslHandshake v1  SaslAuthenticate*     (KIP-152)
    ApiVersions*  SaslHandshake v0  raw tokens*           (KIP-43, old clients)

Anything else before the end of that ends the connection. A failure is told after a delay, then the connection ends. A
session that lasts longer than `connections.max.reauth.ms` serves nothing but another handshake (KIP-368).
"""

from __future__ import annotations

import logging
import secrets
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from logqueue.broker.network import limits
from logqueue.broker.network.door import Serve
from logqueue.broker.network.session import Session, Slot
from logqueue.errors import ErrorCode, KafkaError
from logqueue.protocol.api import ApiKey
from logqueue.protocol.frames import RequestHeader, read_request, read_request_header, write_response
from logqueue.protocol.messages.sasl_authenticate import SaslAuthenticateResponse
from logqueue.protocol.messages.sasl_handshake import SaslHandshakeResponse
from logqueue.protocol.schema import Message
from logqueue.protocol.versions import SERVED
from logqueue.security.sasl import AuthenticationFailed, Exchange, start_exchange

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker

log = logging.getLogger("logqueue.broker.sasl")

_KEY = struct.Struct(">h")
_SIZE = struct.Struct(">i")
_REAUTHENTICATION_SECONDS = 1.0  # Kafka refuses a second one within this time
_NONCE_BYTES = 24
_RAW = RequestHeader(ApiKey.SASL_AUTHENTICATE, 0, 0, None)  # stands for a token without a header


class IllegalSaslState(KafkaError):
    """A request that has no place before, or in the middle of, an authentication."""

    code = ErrorCode.ILLEGAL_SASL_STATE


class SaslGates:
    """Makes the gates of a broker, and has the threads that check passwords."""

    def __init__(self, broker: Broker, serve: Serve) -> None:
        self.broker = broker
        self.serve = serve
        self._threads: ThreadPoolExecutor | None = None

    def open(self, session: Session) -> Serve:
        """What serves a new session."""
        return SaslGate(self, session).serve

    def check_aside(self, exchange: Exchange, token: bytes, done: Callable[[bytes | KafkaError], None]) -> None:
        """Run a costly step of an exchange in a thread, and `done` with its outcome on the loop."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(limits.PLAIN_CHECKS, "logqueue-plain")
        loop = self.broker.loop

        def check() -> None:
            try:
                outcome: bytes | KafkaError = exchange.respond(token)
            except KafkaError as error:
                outcome = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, outcome)

        self._threads.submit(check)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)


class SaslGate:
    """The state of one connection. Between handshake and end there is an exchange; a mechanism stays chosen."""

    __slots__ = (
        "_authenticated_at",
        "_exchange",
        "_expires_at",
        "_gates",
        "_is_busy",
        "_is_raw",
        "_mechanism",
        "_session",
    )

    def __init__(self, gates: SaslGates, session: Session) -> None:
        self._gates = gates
        self._session = session
        self._exchange: Exchange | None = None
        self._mechanism = ""
        self._is_raw = False  # tokens without headers, after SaslHandshake v0
        self._is_busy = False  # a thread looks at a password, or a failure is about to be told
        self._authenticated_at: float | None = None
        self._expires_at: float | None = None

    def serve(self, session: Session, frame: memoryview) -> None:
        """Serve one frame. Raises KafkaError when the connection has to end."""
        if self._is_busy:
            raise IllegalSaslState("a request came before the authentication was answered")
        if self._exchange is not None and self._is_raw:
            self._take_token(self._open_raw(), bytes(frame))
            return
        key = _KEY.unpack_from(frame)[0] if len(frame) >= _KEY.size else -1
        if key in (ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE):
            self._serve_sasl(key, frame)
        elif self._authenticated_at is None:
            if key != ApiKey.API_VERSIONS or self._exchange is not None:
                raise IllegalSaslState(f"Unexpected Kafka request of type {key} during SASL authentication.")
            self._gates.serve(session, frame)
        elif self._exchange is not None:
            raise IllegalSaslState(f"Unexpected Kafka request of type {key} during SASL re-authentication.")
        elif self._expires_at is not None and self._now() >= self._expires_at and key != ApiKey.API_VERSIONS:
            raise IllegalSaslState("the session has expired: its client did not authenticate again in time (KIP-368)")
        else:
            self._gates.serve(session, frame)

    def _serve_sasl(self, key: int, frame: memoryview) -> None:
        header, position = read_request_header(frame)
        if header.api_version not in SERVED[ApiKey(key)]:
            raise KafkaError(
                f"version {header.api_version} of API {key} is not served", code=ErrorCode.UNSUPPORTED_VERSION
            )
        request = read_request(key, header.api_version, frame, position)
        slot = self._session.open_slot(header)
        if key == ApiKey.SASL_HANDSHAKE:
            self._shake_hands(slot, request.mechanism)
        elif self._exchange is None:
            # As Kafka: without a handshake there is nothing to go on with.
            self._answer_or_fail(slot, ErrorCode.ILLEGAL_SASL_STATE)
        else:
            self._take_token(slot, bytes(request.auth_bytes))

    def _answer_or_fail(self, slot: Slot, code: ErrorCode) -> None:
        if self._authenticated_at is None:
            raise IllegalSaslState("SaslAuthenticate came before SaslHandshake")
        self._send(slot, SaslAuthenticateResponse(error_code=code))

    def _shake_hands(self, slot: Slot, mechanism: str) -> None:
        enabled = list(self._gates.broker.config.sasl_enabled_mechanisms)
        if self._exchange is not None:
            raise IllegalSaslState("SaslHandshake in the middle of an authentication")
        if self._authenticated_at is not None and self._now() - self._authenticated_at < _REAUTHENTICATION_SECONDS:
            self._send(slot, SaslHandshakeResponse(error_code=ErrorCode.ILLEGAL_SASL_STATE, mechanisms=[]))
            return
        if mechanism not in enabled:
            response = SaslHandshakeResponse(error_code=ErrorCode.UNSUPPORTED_SASL_MECHANISM, mechanisms=enabled)
            self._fail(slot, response, f"SASL mechanism {mechanism!r} is not in sasl.enabled.mechanisms")
            return
        self._exchange = start_exchange(
            mechanism,
            self._gates.broker.security.credentials,
            new_nonce=lambda: secrets.token_urlsafe(_NONCE_BYTES),
        )
        if self._authenticated_at is None:
            self._mechanism = mechanism
        elif mechanism != self._mechanism:
            self._exchange = _Refusing(
                f"SASL mechanism '{mechanism}' requested by client is not supported for re-authentication of "
                f"mechanism '{self._mechanism}'"
            )
        self._is_raw = slot.api_version == 0
        self._send(slot, SaslHandshakeResponse(mechanisms=enabled))

    def _take_token(self, slot: Slot, token: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        if exchange.is_costly:
            self._is_busy = True
            self._gates.check_aside(exchange, token, lambda outcome: self._finish_aside(slot, outcome))
            return
        try:
            outcome: bytes | KafkaError = exchange.respond(token)
        except KafkaError as error:
            outcome = error
        self._conclude(slot, outcome)

    def _finish_aside(self, slot: Slot, outcome: bytes | KafkaError) -> None:
        self._is_busy = False
        if not self._session.is_closed:
            self._conclude(slot, outcome)
            self._gates.broker.end_turn()

    def _conclude(self, slot: Slot, outcome: bytes | KafkaError) -> None:
        exchange = self._exchange
        assert exchange is not None
        if isinstance(outcome, bytes) and exchange.user is not None:
            outcome = self._admit(exchange.user) or outcome
        if isinstance(outcome, KafkaError):
            response = SaslAuthenticateResponse(error_code=outcome.code, error_message=outcome.detail)
            self._fail(slot, response, outcome.detail)
            return
        lifetime_ms = 0
        if exchange.user is not None:
            lifetime_ms = self._gates.broker.config.connections_max_reauth_ms
        self._send(slot, SaslAuthenticateResponse(auth_bytes=outcome, session_lifetime_ms=lifetime_ms))

    def _admit(self, user: str) -> KafkaError | None:
        """The client is who it says; an error if it was somebody else before."""
        session, config = self._session, self._gates.broker.config
        principal = f"User:{user}"
        if self._authenticated_at is not None and principal != session.principal:
            return AuthenticationFailed(
                f"Cannot change principals during re-authentication from {session.principal}: {principal}"
            )
        self._exchange = None
        self._authenticated_at = now = self._now()
        if config.connections_max_reauth_ms:
            self._expires_at = now + config.connections_max_reauth_ms / 1000
        session.principal = principal
        session.is_authenticated = True
        session.serve_with(self.serve, max_request_bytes=config.socket_request_max_bytes)
        return None

    def _fail(self, slot: Slot, response: Message, reason: str) -> None:
        """Tell it after a delay, which makes guessing slow, and end the connection."""
        broker, session = self._gates.broker, self._session
        log.info("failed authentication of %s: %s", session.peer, reason)
        self._is_busy = True

        def tell() -> None:
            if not session.is_closed:
                if self._is_raw:
                    slot.fill([])
                else:
                    self._send(slot, response)
                broker.hang_up(session, "not authenticated")

        broker.loop.call_later(broker.config.connection_failed_authentication_delay_ms / 1000, tell)

    def _open_raw(self) -> Slot:
        return self._session.open_slot(_RAW)

    def _send(self, slot: Slot, response: Any) -> None:
        if slot.header is _RAW:
            slot.fill([_SIZE.pack(len(response.auth_bytes)) + response.auth_bytes])
            return
        key, version, correlation_id, _ = slot.header
        slot.fill(write_response(key, version, correlation_id, response))

    def _now(self) -> float:
        return self._gates.broker.clock.monotonic()


class _Refusing:
    """An exchange that was lost before it began; the client is told when it sends its first token."""

    is_costly = False
    user: str | None = None

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def respond(self, token: bytes) -> bytes:
        raise AuthenticationFailed(self._reason)
