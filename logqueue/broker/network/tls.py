"""A TLS connection over the same Session, and the contexts of listeners. Imported only where a listener has TLS.

OpenSSL works on the socket itself and decrypts into the session's buffer: no copy in between. Stored records are read
in pieces and encrypted, since `sendfile` cannot do that.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from socket import SHUT_WR, socket

from logqueue.broker.network import limits
from logqueue.broker.network.connection import Connection
from logqueue.broker.network.poller import READABLE, WRITABLE, Poller
from logqueue.broker.network.session import memory_of
from logqueue.config import BrokerConfig, InvalidConfig
from logqueue.protocol.wire import FileSlice, Segment
from logqueue.security.subject import distinguished_name

log = logging.getLogger("logqueue.broker.network.tls")

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH = {"none": ssl.CERT_NONE, "requested": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def server_context(config: BrokerConfig, *, has_sasl: bool) -> ssl.SSLContext:
    """The context of a listener. Raises InvalidConfig with the setting and what is wrong with it.

    As in Kafka `ssl.client.auth` is for SSL listeners alone: on SASL_SSL clients log in with a password (KIP-684).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    versions = sorted(_VERSIONS[name] for name in config.ssl_enabled_protocols)
    if not versions:
        raise InvalidConfig("ssl.enabled.protocols is empty: name TLSv1.2, TLSv1.3 or both")
    context.minimum_version, context.maximum_version = versions[0], versions[-1]
    _load_key(context, config)
    if config.ssl_client_auth == "none":
        return context
    if has_sasl:
        log.warning("ssl.client.auth applies to SSL listeners only: SASL_SSL asks clients for no certificate")
        return context
    context.verify_mode = _CLIENT_AUTH[config.ssl_client_auth]
    _load_trust(context, config)
    return context


def _load_key(context: ssl.SSLContext, config: BrokerConfig) -> None:
    chain, key = config.ssl_keystore_certificate_chain, config.ssl_keystore_key
    if not config.ssl_keystore_location and not (chain and key):
        raise InvalidConfig(
            "a listener with TLS needs a certificate: set ssl.keystore.location (a PEM file with key and chain), or "
            "ssl.keystore.key and ssl.keystore.certificate.chain"
        )
    with ExitStack() as stack:
        path = config.ssl_keystore_location or _memory_file(stack, f"{key}\n{chain}\n")
        try:
            # Without a callback OpenSSL would ask at the terminal for the password of an encrypted key.
            context.load_cert_chain(path, password=lambda: config.ssl_key_password)
        except (OSError, ValueError) as error:
            where = config.ssl_keystore_location or "ssl.keystore.key and ssl.keystore.certificate.chain"
            raise InvalidConfig(f"the certificate and key in {where} cannot be used: {_reason(error)}") from None


def _load_trust(context: ssl.SSLContext, config: BrokerConfig) -> None:
    location, text = config.ssl_truststore_location, config.ssl_truststore_certificates
    if not location and not text:
        raise InvalidConfig(
            f"ssl.client.auth={config.ssl_client_auth} needs ssl.truststore.location or ssl.truststore.certificates: "
            "the authorities that sign client certificates, as PEM"
        )
    try:
        if location:
            context.load_verify_locations(cafile=location)
        else:
            context.load_verify_locations(cadata=text)
    except (OSError, ValueError) as error:
        raise InvalidConfig(f"the authorities in ssl.truststore.* cannot be used: {_reason(error)}") from None


def _memory_file(stack: ExitStack, text: str) -> str:
    """OpenSSL loads keys from files: one that exists in memory only."""
    fd = os.memfd_create("logqueue-keystore", os.MFD_CLOEXEC)
    stack.callback(os.close, fd)
    os.write(fd, text.encode())
    return f"/proc/self/fd/{fd}"


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)


class TlsConnection(Connection):
    """The socket half of a connection with TLS."""

    __slots__ = ("_has_shaken_hands", "_is_parting", "_tls", "_wire")

    def __init__(
        self,
        sock: socket,
        context: ssl.SSLContext,
        *,
        poller: Poller,
        ready: deque[Connection],
        send_ready: Callable[[], None],
        on_closed: Callable[[Connection], None],
    ) -> None:
        self._tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        super().__init__(self._tls, poller=poller, ready=ready, send_ready=send_ready, on_closed=on_closed)
        self._has_shaken_hands = False
        self._is_parting = False  # the handshake failed; nothing is read any more, but for the end
        self._wire: bytes | memoryview | None = None  # what OpenSSL has begun to send, and wants to be given again

    def on_readable(self) -> None:
        if self._is_parting:
            self._discard()
            return
        if self._fd < 0 or (not self._has_shaken_hands and not self._shake_hands()):
            return
        super().on_readable()

    def on_writable(self) -> None:
        if self._has_shaken_hands or self._fd < 0:
            super().on_writable()
        elif self._shake_hands():
            self._poller.call_soon(self._read_buffered)  # the client may have said more already

    def _read_buffered(self) -> None:
        if self._fd >= 0 and self._events & READABLE:
            self.on_readable()

    def _shake_hands(self) -> bool:
        """Go on with the handshake; True when it is through."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._poll(READABLE)
            return False
        except ssl.SSLWantWriteError:
            self._poll(READABLE | WRITABLE)
            return False
        except (OSError, ValueError) as error:  # SSLError is an OSError
            log.info("TLS with %s failed: %s", self.session.peer, _reason(error))
            self._part()
            return False
        self._has_shaken_hands = True
        self._poll(READABLE)
        subject = distinguished_name(self._tls.getpeercert() or {})
        session = self.session
        assert session.door is not None
        if session.door.gatekeeper is None:
            session.is_authenticated = True
            if subject:
                session.principal = f"User:{subject}"
        return True

    def _part(self) -> None:
        """Say no more, and wait for the client to end the connection, within the time that it has for authentication.

        With TLS 1.3 a client sends its first request before it learns that its certificate was refused. A close with
        that unread would reset the connection, and the client would see the reset instead of the alert (RFC 8446, 6.2).
        """
        try:
            self._tls.shutdown(SHUT_WR)  # what is read from here on is as the client sent it
        except OSError:
            self.close("TLS handshake failed")
            return
        self._is_parting = True
        self._poll(READABLE)

    def _discard(self) -> None:
        try:
            if self._tls.recv(limits.TLS_CHUNK_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset: as good an end as any
        self.close("TLS handshake failed")

    def _poll(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._poller.modify(self._fd, events)

    def _read(self) -> None:
        session, tls = self.session, self._tls
        self.idle_turns = 0
        budget = limits.READ_TURN_BYTES
        while self._fd >= 0 and not session.is_full:
            if budget <= 0:
                self._poller.call_soon(self._read_buffered)  # what OpenSSL has decrypted already, epoll does not see
                break
            try:
                count = tls.recv_into(session.receive_buffer())
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            if not count:
                self.close("closed by peer")
                return
            session.received(count)
            budget -= count
        if session.is_full:
            self._watch()

    def _send(self, output: list[Segment]) -> None:
        queue = self._backlog if self._backlog is not None else deque()
        queue.extend(output)
        try:
            self._transmit(queue)
        except OSError as error:
            self.close(f"write failed: {_reason(error)}")

    def _transmit(self, queue: deque[Segment]) -> None:
        budget = limits.WRITE_TURN_BYTES
        try:
            while (queue or self._wire) and budget > 0:
                wire = self._wire
                if wire is None:
                    wire = self._wire = _take_chunk(queue)
                sent = self._tls.send(wire)
                self._wire = None if sent == len(wire) else memoryview(wire)[sent:]
                budget -= sent
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        if queue or self._wire:
            self._backlog = queue
            self._queued_bytes = memory_of(queue) + len(self._wire or b"")
        else:
            self._backlog = None
            self._queued_bytes = 0
        self._watch()
        if self._backlog is None:
            self._resume()

    def _resume(self) -> None:
        was_full = self.session.is_full
        super()._resume()
        if was_full and self._fd >= 0 and not self.session.is_full:
            self._poller.call_soon(self._read_buffered)

    def close(self, reason: str) -> None:
        if self._fd >= 0 and self._has_shaken_hands:
            try:
                self._tls.unwrap()  # tells the peer that this is the end; its own word is not waited for
            except (OSError, ValueError):
                pass
        super().close(reason)


def _take_chunk(queue: deque[Segment]) -> bytes:
    """The next bytes to encrypt, taken out of the queue: small segments together, stored records in pieces."""
    parts: list[bytes | bytearray | memoryview] = []
    size = 0
    while queue and size < limits.TLS_CHUNK_BYTES:
        head = queue[0]
        room = limits.TLS_CHUNK_BYTES - size
        part: bytes | bytearray | memoryview
        if isinstance(head, FileSlice):
            part = os.pread(head.fd, min(head.size, room), head.position)
            if not part:
                raise OSError(5, "a stored range ended early")  # the size is already promised
            head.position += len(part)
            head.size -= len(part)
            is_used_up = head.size == 0
        else:
            part = memoryview(head)[:room]
            is_used_up = len(part) == len(head)
            if not is_used_up:
                queue[0] = memoryview(head)[room:]
        parts.append(part)
        size += len(part)
        if is_used_up:
            queue.popleft()
    return b"".join(parts)
