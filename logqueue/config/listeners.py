"""The listeners that a configuration names: where, under which name, with which protocol. Opens no socket."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from logqueue.config.broker import BrokerConfig
from logqueue.config.properties import InvalidConfig

LOOPBACK = ("localhost", "::1")


class SecurityProtocol(Enum):
    """What is spoken on a listener below Kafka's protocol."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def has_tls(self) -> bool:
        return self in (SecurityProtocol.SSL, SecurityProtocol.SASL_SSL)

    @property
    def has_sasl(self) -> bool:
        return self in (SecurityProtocol.SASL_PLAINTEXT, SecurityProtocol.SASL_SSL)


class Endpoint(NamedTuple):
    """One listener: its name, its address, and what clients are told (None: the address itself)."""

    name: str
    protocol: SecurityProtocol
    host: str
    port: int
    advertised: tuple[str, int] | None = None

    @property
    def is_loopback(self) -> bool:
        return self.host.startswith("127.") or self.host in LOOPBACK


def listeners_of(config: BrokerConfig) -> tuple[Endpoint, ...]:
    """Every listener, the first being the main one. Raises InvalidConfig."""
    if not config.listeners:
        named = [("PLAINTEXT", config.host, config.port)]
    else:
        named = [_parse("listeners", text) for text in config.listeners]
    protocols = dict(_protocols(config.listener_security_protocol_map))
    told = {name: (host, port) for name, host, port in _advertised(config.advertised_listeners)}
    endpoints = []
    for name, host, port in named:
        if name not in protocols:
            raise InvalidConfig(f"listener {name} has no protocol; name it in listener.security.protocol.map")
        endpoints.append(
            Endpoint(name=name, protocol=protocols[name], host=host, port=port, advertised=told.pop(name, None))
        )
    _check(endpoints, told)
    return tuple(endpoints)


def overrides_of(config: BrokerConfig) -> dict[str, int]:
    """`max.connections.per.ip.overrides` by address. Raises InvalidConfig."""
    limits = {}
    for text in config.max_connections_per_ip_overrides:
        address, _, number = text.rpartition(":")
        if not address or not number.isdecimal():
            raise InvalidConfig(f"max.connections.per.ip.overrides: {text!r} is not of the form address:number")
        limits[address.strip("[]")] = int(number)
    return limits


def _check(endpoints: list[Endpoint], unknown: dict[str, tuple[str, int]]) -> None:
    names = [endpoint.name for endpoint in endpoints]
    if len(set(names)) < len(names):
        raise InvalidConfig("listeners: each listener must have a different name")
    ports = [endpoint.port for endpoint in endpoints if endpoint.port]
    if len(set(ports)) < len(ports):
        raise InvalidConfig("listeners: each listener must have a different port")
    if unknown:
        raise InvalidConfig(f"advertised.listeners: {', '.join(sorted(unknown))} is not in listeners")


def _parse(setting: str, text: str) -> tuple[str, str, int]:
    name, separator, address = text.partition("://")
    host, colon, port = address.rpartition(":")
    if not name or not separator or not colon or not port.isdecimal() or int(port) > 65_535:
        raise InvalidConfig(f"{setting}: {text!r} is not of the form NAME://host:port")
    return name.upper(), host.removeprefix("[").removesuffix("]"), int(port)


def _advertised(texts: Iterable[str]) -> list[tuple[str, str, int]]:
    parsed = [_parse("advertised.listeners", text) for text in texts]
    for _, host, port in parsed:
        if host in ("", "0.0.0.0", "::") or not port:  # noqa: S104 - an address that nobody can connect to
            raise InvalidConfig("advertised.listeners: clients need a host and a port that they can connect to")
    return parsed


def _protocols(pairs: Iterable[str]) -> list[tuple[str, SecurityProtocol]]:
    found = []
    for pair in pairs:
        name, _, protocol = pair.partition(":")
        try:
            found.append((name.strip().upper(), SecurityProtocol(protocol.strip().upper())))
        except ValueError:
            known = ", ".join(each.value for each in SecurityProtocol)
            raise InvalidConfig(f"listener.security.protocol.map: {pair!r} has none of {known}") from None
    return found
