"""The TLS contexts of all listeners, made anew when their settings or files change (KIP-226). Knows no connection.

Connections keep the context they began with. What cannot be used changes nothing: the old certificates stay in use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from ssl import SSLContext
from typing import TypeAlias

from logqueue.broker.network.door import Door
from logqueue.broker.network.tls import server_context
from logqueue.config import BrokerConfig, InvalidConfig

log = logging.getLogger("logqueue.broker.network.tls")

CHECK_SECONDS = 10.0
"""How often it is looked whether a certificate's file is another one."""

_Stamp: TypeAlias = tuple[int, int, int] | None  # inode, size, time of change; None: there is no such file


class Certificates:
    """Gives the listeners with TLS their contexts; raises InvalidConfig if there are none to begin with."""

    is_done = False  # as a deadline it comes again and again

    def __init__(self, doors: Sequence[Door], config: BrokerConfig) -> None:
        self._doors = [door for door in doors if door.endpoint.protocol.has_tls]
        self._seen = _state_of(config)
        self._take(self._contexts(config))

    def check(self, config: BrokerConfig) -> None:
        """Raise InvalidConfig if the listeners could not be served with these settings."""
        self._contexts(config)

    def follow(self, config: BrokerConfig) -> None:
        """Serve new connections with other settings, or with what lies in the files now, if that can be used."""
        state = _state_of(config)
        if state == self._seen:
            return
        self._seen = state
        try:
            contexts = self._contexts(config)
        except InvalidConfig as error:
            log.error("certificates stay as they were: %s", error.detail)
            return
        self._take(contexts)
        log.info("new connections get the certificates of %s", config.ssl_keystore_location or "ssl.keystore.key")

    def watch(self, wake_after: Callable[[float, Certificates], None], config: Callable[[], BrokerConfig]) -> None:
        """Look at the files every CHECK_SECONDS; `wake_after` sees to it that `on_deadline` is called then."""
        self._wake_after, self._config = wake_after, config
        wake_after(CHECK_SECONDS, self)

    def on_deadline(self) -> None:
        self.follow(self._config())
        self._wake_after(CHECK_SECONDS, self)

    def _contexts(self, config: BrokerConfig) -> dict[bool, SSLContext]:
        kinds = {door.endpoint.protocol.has_sasl for door in self._doors}
        return {has_sasl: server_context(config, has_sasl=has_sasl) for has_sasl in kinds}

    def _take(self, contexts: dict[bool, SSLContext]) -> None:
        for door in self._doors:
            door.tls = contexts[door.endpoint.protocol.has_sasl]


def _state_of(config: BrokerConfig) -> tuple[object, ...]:
    settings = tuple(getattr(config, name) for name in config.field_names() if name.startswith("ssl_"))
    return settings, _stamp(config.ssl_keystore_location), _stamp(config.ssl_truststore_location)


def _stamp(location: str) -> _Stamp:
    try:
        found = Path(location).stat() if location else None
    except OSError:
        found = None
    return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)
