"""Client quotas: what is allowed to whom, and how long whoever takes more has to wait (KIP-13, KIP-124, KIP-599). Pure.

Times are milliseconds of any steady clock. Rates are kept in windows as Kafka keeps them: `samples` of them, of
`window_ms` each; a new client is judged as if the earlier windows had been empty, so short bursts pass.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from logqueue.errors import ErrorCode, KafkaError

PRODUCE = "producer_byte_rate"
FETCH = "consumer_byte_rate"
REQUEST = "request_percentage"
MUTATION = "controller_mutation_rate"
CONNECTION = "connection_creation_rate"
CLIENT_KEYS = (PRODUCE, FETCH, REQUEST, MUTATION)
WHOLE_KEYS = frozenset((PRODUCE, FETCH, CONNECTION))  # values without a fraction
_LARGEST = {PRODUCE: 2.0**63, FETCH: 2.0**63, CONNECTION: 2.0**31 - 1}  # Java's LONG and INT, as Kafka compares them

USER = "user"
CLIENT_ID = "client-id"
IP = "ip"
TYPES = (USER, CLIENT_ID, IP)
MAX_ENTITIES = 100_000  # with quotas: everything is kept in memory and written whole
MAX_THROTTLE_MS = 2**31 - 1  # what a response can say
DEFAULT = None  # the name of an entity that stands for all that have no quota of their own

Entity = frozenset[tuple[str, str | None]]


class InvalidQuota(KafkaError):
    """A quota or an entity that cannot be."""

    code = ErrorCode.INVALID_REQUEST


class Meter(NamedTuple):
    """A quota that applies to a client: which of its kind, shared by whom, and how much."""

    key: str
    shared_by: tuple[str | None, ...]
    limit: float


def check_entity(parts: list[tuple[str, str | None]]) -> Entity:
    """The entity that a request names. Raises InvalidQuota."""
    if not parts:
        raise InvalidQuota("Invalid empty client quota entity")
    names: dict[str, str | None] = {}
    for kind, name in parts:
        if kind not in TYPES:
            raise InvalidQuota(f"Unhandled client quota entity type: {kind}")
        if kind in names:
            raise InvalidQuota(f"Invalid client quota entity, duplicate entity entry {kind}")
        if name == "":
            raise InvalidQuota(f"Empty {kind} not supported")
        names[kind] = name
    if IP in names and len(names) > 1:
        raise InvalidQuota("Invalid quota entity combination, IP entity should not be combined with User or ClientId")
    return frozenset(names.items())


def check_quota(entity: Entity, key: str, value: float) -> None:
    """Raise InvalidQuota unless the entity can have this quota."""
    is_address = any(kind == IP for kind, _ in entity)
    if key not in ((CONNECTION,) if is_address else CLIENT_KEYS):
        raise InvalidQuota(f"Invalid configuration key {key}")
    if not math.isfinite(value) or value <= 0:
        raise InvalidQuota(f"Quota {key} must be greater than 0")
    if value > _LARGEST.get(key, math.inf):
        raise InvalidQuota(f"Proposed value for {key} is too large for {'an INT' if key == CONNECTION else 'a LONG'}.")
    if key in WHOLE_KEYS and abs(value % 1) > 1e-6:
        raise InvalidQuota(f"{key} cannot be a fractional value.")


class Quotas:
    """The quotas of a broker by entity, and which of them applies to a client."""

    def __init__(self, by_entity: Mapping[Entity, Mapping[str, float]]) -> None:
        self.by_entity = {entity: dict(values) for entity, values in by_entity.items() if values}
        self._keys = frozenset(key for values in self.by_entity.values() for key in values)

    @property
    def keys(self) -> frozenset[str]:
        """The kinds of quotas that anybody has."""
        return self._keys

    def meter(self, key: str, user: str, client_id: str) -> Meter | None:
        """The most specific quota of a client, None if it has none.

        Clients that fall under the same user's (or the same client id's) quota share it; under a default, each user
        and each client id has one of its own.
        """
        if key not in self._keys:
            return None
        named = ((USER, user), (CLIENT_ID, client_id))
        every = ((USER, DEFAULT), (CLIENT_ID, DEFAULT))
        for entity, shared_by in (
            ((named[0], named[1]), (user, client_id)),
            ((named[0], every[1]), (user, client_id)),
            ((named[0],), (user, None)),
            ((every[0], named[1]), (user, client_id)),
            ((every[0], every[1]), (user, client_id)),
            ((every[0],), (user, None)),
            ((named[1],), (None, client_id)),
            ((every[1],), (None, client_id)),
        ):
            limit = self.by_entity.get(frozenset(entity), {}).get(key)
            if limit is not None:
                return Meter(key, shared_by, limit)
        return None

    def connection_limit(self, address: str) -> float | None:
        """Connections per second that an address may make; None: as many as it likes (KIP-612)."""
        for name in (address, DEFAULT):
            limit = self.by_entity.get(frozenset(((IP, name),)), {}).get(CONNECTION)
            if limit is not None:
                return limit
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """How rates are measured."""

    samples: int = 11
    window_ms: int = 1000


class Rate:
    """An amount per second over the last windows."""

    __slots__ = ("_samples", "_windows")

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._samples: deque[list[float]] = deque(maxlen=windows.samples)  # [start, sum], oldest first

    def record(self, amount: float, now_ms: float) -> None:
        if not self._samples or now_ms - self._samples[-1][0] >= self._windows.window_ms:
            self._samples.append([now_ms, 0.0])
        self._samples[-1][1] += amount

    def measure(self, now_ms: float) -> float:
        """The amount per second."""
        self._forget(now_ms)
        return sum(amount for _, amount in self._samples) / self._width_ms(now_ms) * 1000

    def throttle_ms(self, limit: float, now_ms: float) -> int:
        """How long the client has to pause for the rate to come down to the limit."""
        rate = self.measure(now_ms)
        if rate <= limit:
            return 0
        return round(min(MAX_THROTTLE_MS, (rate - limit) / limit * self._width_ms(now_ms)))

    def _forget(self, now_ms: float) -> None:
        horizon = now_ms - self._windows.samples * self._windows.window_ms
        while self._samples and self._samples[0][0] <= horizon:
            self._samples.popleft()

    def _width_ms(self, now_ms: float) -> float:
        windows = self._windows
        elapsed = now_ms - self._samples[0][0] if self._samples else 0.0
        missing = windows.samples - 1 - elapsed // windows.window_ms
        return max(elapsed + max(0, missing) * windows.window_ms, windows.window_ms)


class TokenBucket:
    """Permits that come back at a steady rate; taking more than there are is a debt (KIP-599)."""

    __slots__ = ("_tokens", "_updated_ms", "_windows")

    def __init__(self, windows: Windows, *, limit: float, now_ms: float) -> None:
        self._windows = windows
        self._tokens = self._burst(limit)
        self._updated_ms = now_ms

    def take(self, permits: float, *, limit: float, now_ms: float) -> None:
        self._refill(limit, now_ms)
        self._tokens = min(self._burst(limit), self._tokens - permits)

    def throttle_ms(self, *, limit: float, now_ms: float) -> int:
        """How long until the debt is paid; 0 if there is none."""
        self._refill(limit, now_ms)
        return round(min(MAX_THROTTLE_MS, -self._tokens / limit * 1000)) if self._tokens < 0 else 0

    def _refill(self, limit: float, now_ms: float) -> None:
        elapsed = max(0.0, now_ms - self._updated_ms)
        self._tokens = min(self._burst(limit), self._tokens + elapsed / 1000 * limit)
        self._updated_ms = now_ms

    def _burst(self, limit: float) -> float:
        return self._windows.samples * self._windows.window_ms / 1000 * limit
