"""Whether one more connection is taken: in all, per address, per second (KIP-402, KIP-612). Knows no protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from logqueue.config import INT_MAX, BrokerConfig
from logqueue.config.listeners import overrides_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from logqueue.broker.network.session import Session
    from logqueue.security.quota import Rate, Windows

REMEMBERED_ADDRESSES = 10_000  # whose rate is measured; the oldest is forgotten


class Admission:
    """Counts connections by address."""

    def __init__(self, config: BrokerConfig, *, most_connections: int) -> None:
        """`most_connections` leave enough descriptors for everything else."""
        self._most_connections = most_connections
        self._by_address: dict[str, int] = {}
        self._rate: Rate | None = None
        self._rates: dict[str, Rate] = {}
        self.pause_ms = 0  # how long the next connection has to wait, after `check`
        self.limit_of: Callable[[str], float | None] | None = None  # connections a second of an address, by quota
        self.configure(config)

    def configure(self, config: BrokerConfig) -> None:
        """Use other limits from now on. Raises InvalidConfig."""
        self._overrides = overrides_of(config)
        self._config = config
        self._limit = min(config.max_connections, self._most_connections)
        if config.max_connection_creation_rate == INT_MAX:
            self._rate = None
        elif self._rate is None:
            self._rate = self._new_rate()

    def check(self, address: str, count: int, *, now_ms: float) -> str | None:
        """Why the connection is refused; None if it is taken."""
        self.pause_ms = 0
        config = self._config
        if count >= self._limit:
            return self._why_full()
        if self._rate is not None:
            self._rate.record(1, now_ms)
            self.pause_ms = self._rate.throttle_ms(config.max_connection_creation_rate, now_ms)
        return self._check_address(address, now_ms)

    def _why_full(self) -> str:
        most = self._most_connections
        if self._limit < self._config.max_connections:
            return f"the limit of open files (ulimit -n) leaves room for {most} connections beside the logs' files"
        return f"max.connections is {self._limit}"

    def _check_address(self, address: str, now_ms: float) -> str | None:
        limit = self._overrides.get(address, self._config.max_connections_per_ip)
        if self._by_address.get(address, 0) >= limit:
            return f"max.connections.per.ip of {address} is {limit}"
        rate_limit = None if self.limit_of is None else self.limit_of(address)
        if rate_limit is None:
            return None
        rate = self._rates.pop(address, None) or self._new_rate()
        self._rates[address] = rate
        if len(self._rates) > REMEMBERED_ADDRESSES:
            del self._rates[next(iter(self._rates))]
        rate.record(1, now_ms)
        if not rate.throttle_ms(rate_limit, now_ms):
            return None
        rate.record(-1, now_ms)
        return f"connection_creation_rate of {address} is {rate_limit:g}"

    def enter(self, session: Session) -> None:
        address = session.peer_host
        self._by_address[address] = self._by_address.get(address, 0) + 1

    def leave(self, session: Session) -> None:
        address = session.peer_host
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _new_rate(self) -> Rate:
        from logqueue.security.quota import Rate

        return Rate(self._windows)

    @property
    def _windows(self) -> Windows:
        from logqueue.security.quota import Windows

        config = self._config
        return Windows(samples=config.quota_window_num, window_ms=config.quota_window_size_seconds * 1000)
