"""A Wire that has shown who it is."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from logqueue.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from logqueue.protocol.messages.sasl_handshake import SaslHandshakeRequest
from tests.broker.wire import Wire
from tests.security.people import Person


def handshake(wire: Wire, mechanism: str = "PLAIN", *, version: int = 1) -> Any:
    return wire.call(version, SaslHandshakeRequest(mechanism=mechanism))


def authenticate(wire: Wire, token: bytes, *, version: int = 2) -> Any:
    return wire.call(version, SaslAuthenticateRequest(auth_bytes=token))


def plain(person: Person) -> bytes:
    return f"\0{person.name}\0{person.password}".encode()


def log_in(wire: Wire, person: Person) -> Any:
    """Authenticate with PLAIN; the answer to it."""
    assert handshake(wire).error_code == 0
    return authenticate(wire, plain(person))


def wire_of(bootstrap: str, person: Person | None = None) -> Wire:
    wire = Wire(bootstrap)
    if person is not None:
        assert log_in(wire, person).error_code == 0
    return wire


def tls_wire(bootstrap: str, ca: Path, certificate: Path | None = None, **options: Any) -> Wire:
    context = ssl.create_default_context(cafile=str(ca))
    if certificate is not None:
        context.load_cert_chain(certificate)
    for name, value in options.items():
        setattr(context, name, value)
    wire = Wire(bootstrap)
    wire.socket = context.wrap_socket(wire.socket, server_hostname="localhost")
    return wire
