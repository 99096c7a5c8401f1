"""A connection to one broker for requests that no client library has: our own codec, TLS, SASL, bounded waits. Shell.

Client libraries tell little of a log that lets nobody in; `why_no_entry` says what is wrong.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import struct
from types import TracebackType
from typing import Any, Self

from logqueue.errors import ErrorCode, LogqueueError
from logqueue.jobs.settings import Settings
from logqueue.protocol.frames import RequestHeader, read_response, write_request
from logqueue.protocol.schema import Message

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
MAX_ANSWER_BYTES = 100 * 1024 * 1024
NONCE_BYTES = 24
METADATA_VERSION = 1  # the first that can ask for no topic; every broker since Kafka 0.10 has it

_SIZE = struct.Struct(">i")


class WireError(LogqueueError):
    """The log cannot be used."""


class NobodyThere(WireError):
    """Nothing takes connections at the address, or what does says nothing."""


class LoginRefused(WireError):
    """The log does not know the user, the password or the mechanism."""


class Wire:
    """One connection, with the security settings of every client (`LOGQUEUE_SECURITY_PROTOCOL` and so on)."""

    def __init__(self, settings: Settings, address: str | None = None, *, patience_s: float = ANSWER_SECONDS) -> None:
        """Connect to `address` (default: the first of the settings) and authenticate. Raises WireError.

        `patience_s` bounds each wait: for the connection (never more than 5 s), for TLS, for an answer.
        """
        self._settings = settings
        self._patience_s = patience_s
        self._number = 0
        self.address = address or settings.bootstrap.split(",")[0].strip()
        host, _, port = self.address.rpartition(":")
        host = host.strip("[]")
        try:
            self._socket = socket.create_connection((host, int(port)), min(CONNECT_SECONDS, patience_s))
        except OSError as error:
            raise NobodyThere(f"no log answers at {self.address}: {error.strerror or error}") from None
        try:
            self._socket.settimeout(patience_s)
            if settings.security_protocol.endswith("SSL"):
                self._secure(host)
            if settings.security_protocol.startswith("SASL"):
                self._authenticate()
        except BaseException:
            self._socket.close()
            raise

    def call(self, version: int, message: Message) -> Any:
        """Send a request and read its answer. Raises WireError if the connection ends instead."""
        assert message.api_key is not None
        self._number += 1
        header = RequestHeader(message.api_key, version, self._number, self._settings.client_id)
        segments: list[Any] = write_request(header, message)
        try:
            self._socket.sendall(b"".join(segments))
            (size,) = _SIZE.unpack(self._read(_SIZE.size))
            if not 0 < size <= MAX_ANSWER_BYTES:
                raise EOFError(f"an answer of {size} bytes")
            answer = memoryview(self._read(size))
        except TimeoutError as error:
            raise NobodyThere(f"the log at {self.address} says nothing: {self._reason(error)}") from None
        except (OSError, EOFError) as error:
            spoken = self._settings.security_protocol
            if spoken == "SSL" and self._settings.ssl_certfile is None:
                spoken += " without a certificate of ours"
            text = f"the log at {self.address} ended the connection, on which we spoke {spoken}: {self._reason(error)}"
            raise WireError(text) from None
        return read_response(message.api_key, version, answer)[1]

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise EOFError("nothing more came")
            data += piece
        return bytes(data)

    def _secure(self, host: str) -> None:
        context: ssl.SSLContext = self._settings.connection()["ssl_context"]
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        except OSError as error:  # SSLError is an OSError
            raise WireError(f"TLS with {self.address} failed: {self._reason(error)}") from None

    def _authenticate(self) -> None:
        from logqueue.protocol.messages.sasl_handshake import SaslHandshakeRequest

        settings = self._settings
        answer = self.call(1, SaslHandshakeRequest(mechanism=settings.sasl_mechanism))
        if answer.error_code:
            offered = ", ".join(answer.mechanisms) or "nothing"
            raise LoginRefused(f"the log does not take {settings.sasl_mechanism}, but {offered}")
        user, password = settings.sasl_username or "", settings.sasl_password or ""
        if settings.sasl_mechanism == "PLAIN":
            self._send_token(f"\0{user}\0{password}".encode())
            return
        from logqueue.security.scram_client import ScramClient

        client = ScramClient(settings.sasl_mechanism, user, password, nonce=secrets.token_urlsafe(NONCE_BYTES))
        client.verify(self._send_token(client.final(self._send_token(client.first()))))

    def _send_token(self, token: bytes) -> bytes:
        from logqueue.protocol.messages.sasl_authenticate import SaslAuthenticateRequest

        answer = self.call(1, SaslAuthenticateRequest(auth_bytes=token))
        if answer.error_code:
            raise LoginRefused(answer.error_message or ErrorCode(answer.error_code).name)
        return bytes(answer.auth_bytes)

    def _reason(self, error: OSError | EOFError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted ({error.verify_message})"
        if isinstance(error, ssl.SSLError) and error.reason:
            return str(error.reason).replace("_", " ").lower()
        if isinstance(error, TimeoutError):
            return f"no answer within {self._patience_s:g} s"
        return str(getattr(error, "strerror", None) or error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def why_no_entry(settings: Settings, *, patience_s: float = ANSWER_SECONDS) -> WireError | None:
    """None if one of the addresses serves us, else why the first that was there did not. Blocks for seconds."""
    from logqueue.protocol.messages.metadata import MetadataRequest

    failure: WireError | None = None
    for address in settings.bootstrap.split(","):
        try:
            with Wire(settings, address.strip(), patience_s=patience_s) as wire:
                wire.call(METADATA_VERSION, MetadataRequest(topics=[]))
        except WireError as error:
            if failure is None or isinstance(failure, NobodyThere):
                failure = error
        else:
            return None
    return failure
