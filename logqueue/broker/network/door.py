"""What connections of one listener share: its address, its protocol, what makes them safe. Knows no request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from logqueue.config import BrokerConfig
from logqueue.config.listeners import Endpoint, SecurityProtocol

if TYPE_CHECKING:
    import ssl

    from logqueue.broker.network.session import Session

Serve = Callable[["Session", memoryview], None]

_EVERYTHING = "read, write and delete everything"
_WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104 - addresses that mean "all of this machine"


class Door:
    """A listener as the sessions behind it see it."""

    __slots__ = ("endpoint", "gatekeeper", "port", "tls")

    def __init__(self, *, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.port = 0  # that was bound
        self.tls: ssl.SSLContext | None = None
        self.gatekeeper: Callable[[Session], Serve] | None = None  # makes what serves a session until it is known

    def address_for(self, session: Session) -> tuple[str, int]:
        """The address to tell a client: the advertised one, ours, or the one it came by if we listen on all."""
        endpoint = self.endpoint
        if endpoint.advertised is not None:
            return endpoint.advertised
        return (session.local_host if endpoint.host in _WILDCARDS else endpoint.host), self.port

    def exposure(self, config: BrokerConfig) -> str | None:
        """What strangers can do who reach this listener; None if they can do nothing."""
        endpoint = self.endpoint
        where = f"listener {endpoint.name} on {endpoint.host or 'all addresses'}, port {self.port}"
        if endpoint.is_loopback:
            return None
        if endpoint.protocol is SecurityProtocol.SASL_PLAINTEXT:
            return f"{where}, takes passwords without encryption: whoever listens to the network has them. Use SASL_SSL"
        if endpoint.protocol.has_sasl or (endpoint.protocol.has_tls and config.ssl_client_auth == "required"):
            return None
        what = "do what ACLs allow to User:ANONYMOUS" if config.authorizer_class_name else _EVERYTHING
        return (
            f"{where}, is open without authentication: everyone who reaches it can {what}. "
            "Use 127.0.0.1 unless the network is yours alone, or a listener with SASL_SSL"
        )
