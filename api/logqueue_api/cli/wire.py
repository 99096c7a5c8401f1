"""A connection to one node for requests that no client library has: our own codec, TLS and SASL, a bounded wait."""

from __future__ import annotations

import secrets
import socket
import ssl
import struct
from types import TracebackType
from typing import Any, Self

from logqueue.errors import ErrorCode, KafkaError
from logqueue.jobs.settings import Settings
from logqueue.protocol.frames import RequestHeader, read_response, write_request
from logqueue.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from logqueue.protocol.messages.sasl_handshake import SaslHandshakeRequest
from logqueue.protocol.schema import Message
from logqueue_api.cli.exits import CommandError, ExitCode

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
MAX_ANSWER_BYTES = 100 * 1024 * 1024
NONCE_BYTES = 24

_SIZE = struct.Struct(">i")


class Wire:
    """One connection, with the security settings of every client (`LOGQUEUE_SECURITY_PROTOCOL` and so on)."""

    def __init__(self, settings: Settings) -> None:
        """Connect and authenticate. Raises CommandError."""
        self._settings = settings
        self._number = 0
        host, _, port = settings.bootstrap.split(",")[0].strip().rpartition(":")
        host = host.strip("[]")
        try:
            self._socket = socket.create_connection((host, int(port)), CONNECT_SECONDS)
        except OSError as error:
            raise self._failure(f"no log answers at {settings.bootstrap}: {error.strerror or error}") from None
        try:
            self._socket.settimeout(ANSWER_SECONDS)
            if settings.security_protocol.endswith("SSL"):
                context: ssl.SSLContext = settings.connection()["ssl_context"]
                self._socket = context.wrap_socket(self._socket, server_hostname=host)
            if settings.security_protocol.startswith("SASL"):
                self._authenticate()
        except (OSError, EOFError) as error:
            self._socket.close()
            raise self._failure(f"the log at {settings.bootstrap} ended the connection: {error}") from None
        except BaseException:
            self._socket.close()
            raise

    def call(self, version: int, message: Message) -> Any:
        """Send a request and read its answer. Raises CommandError if the connection ends instead."""
        try:
            return self._call(version, message)
        except (OSError, EOFError) as error:
            raise self._failure(f"the log at {self._settings.bootstrap} ended the connection: {error}") from None

    def _call(self, version: int, message: Message) -> Any:
        assert message.api_key is not None
        self._number += 1
        header = RequestHeader(message.api_key, version, self._number, self._settings.client_id)
        segments: list[Any] = write_request(header, message)
        self._socket.sendall(b"".join(segments))
        (size,) = _SIZE.unpack(self._read(_SIZE.size))
        if not 0 < size <= MAX_ANSWER_BYTES:
            raise EOFError(f"an answer of {size} bytes")
        return read_response(message.api_key, version, memoryview(self._read(size)))[1]

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise EOFError("nothing more came")
            data += piece
        return bytes(data)

    def _authenticate(self) -> None:
        settings = self._settings
        answer = self._call(1, SaslHandshakeRequest(mechanism=settings.sasl_mechanism))
        if answer.error_code:
            raise self._failure(
                f"the log does not take {settings.sasl_mechanism}, but {', '.join(answer.mechanisms) or 'nothing'}",
                code=ExitCode.FAILED,
            )
        user, password = settings.sasl_username or "", settings.sasl_password or ""
        if settings.sasl_mechanism == "PLAIN":
            self._send_token(f"\0{user}\0{password}".encode())
            return
        from logqueue.security.scram_client import ScramClient

        client = ScramClient(settings.sasl_mechanism, user, password, nonce=secrets.token_urlsafe(NONCE_BYTES))
        client.verify(self._send_token(client.final(self._send_token(client.first()))))

    def _send_token(self, token: bytes) -> bytes:
        answer = self._call(1, SaslAuthenticateRequest(auth_bytes=token))
        if answer.error_code:
            raise self._failure(answer.error_message or ErrorCode(answer.error_code).name, code=ExitCode.FAILED)
        return bytes(answer.auth_bytes)

    def _failure(self, text: str, *, code: ExitCode = ExitCode.UNREACHABLE) -> CommandError:
        hint = "LOGQUEUE_SECURITY_PROTOCOL, LOGQUEUE_SASL_* and LOGQUEUE_SSL_* say how to connect"
        return CommandError(text, code=code, hint=hint)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def check(answer: Any, what: str) -> None:
    """Raise CommandError if an answer or a part of one says that it failed."""
    if answer.error_code:
        code = ErrorCode(answer.error_code)
        text = KafkaError(answer.error_message or "", code=code)
        raise CommandError(f"{what}: {text}", code=ExitCode.FAILED)
