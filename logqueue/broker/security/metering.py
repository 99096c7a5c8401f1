"""Holds clients to their quotas: measures what they take and says how long they have to pause (KIP-13, 124, 599)."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from logqueue.errors import ErrorCode
from logqueue.protocol.api import ApiKey
from logqueue.security.quota import FETCH, MUTATION, PRODUCE, REQUEST, Meter, Quotas, Rate, TokenBucket, Windows

if TYPE_CHECKING:
    from logqueue.broker.broker import Broker
    from logqueue.broker.network.session import Slot

MAX_METERS = 100_000  # clients that are measured; the one that was made first is forgotten

Key = tuple[str, tuple[str | None, ...]]

# KIP-599: from these versions on a mutation beyond the quota is refused; before, it is done and the client has to wait.
_STRICT_SINCE = {ApiKey.CREATE_TOPICS: 6, ApiKey.DELETE_TOPICS: 5, ApiKey.CREATE_PARTITIONS: 3}


class Metering:
    """The meters of all clients that have a quota."""

    def __init__(self, broker: Broker, quotas: Quotas) -> None:
        config = broker.config
        self._broker = broker
        self._quotas = quotas
        self._rates: dict[Key, Rate] = {}
        self._buckets: dict[Key, TokenBucket] = {}
        self._windows = Windows(samples=config.quota_window_num, window_ms=config.quota_window_size_seconds * 1000)
        self._mutation_windows = Windows(
            samples=config.controller_quota_window_num, window_ms=config.controller_quota_window_size_seconds * 1000
        )

    def replace(self, quotas: Quotas) -> None:
        """Other quotas; what was measured so far counts on."""
        self._quotas = quotas

    def serve(self, run: Callable[[], Any], request: Any, slot: Slot, size: int) -> Any:
        """Run a request's handler under its client's quotas; `size` is that of the request in bytes."""
        key = slot.header.api_key
        client = (slot.session.principal.partition(":")[2], slot.header.client_id or "")
        pause_ms = 0
        refused: list[Any] = []
        if key in _STRICT_SINCE:
            pause_ms, refused = self._mutate(key, request, slot.api_version, client)
        before = slot.amend
        meters = {name: self._quotas.meter(name, *client) for name in (REQUEST, PRODUCE, FETCH)}
        if key == ApiKey.FETCH and (fetch := meters[FETCH]) is not None:
            # More than this in one answer would be throttled whatever was fetched before.
            most = fetch.limit * (self._windows.samples - 1) * self._windows.window_ms / 1000
            request.max_bytes = int(min(request.max_bytes, most))

        def amend(response: Any) -> Any:
            response = response if before is None else before(response)
            if refused:
                _add_refused(key, response, refused)
            return self._throttle(
                response, request, slot, size, max(pause_ms, self._spent(meters[REQUEST], took)), meters
            )

        took = 0.0
        slot.amend = amend
        started = perf_counter()
        response = run()
        took = perf_counter() - started
        if response is None and slot.segments is not None and key == ApiKey.PRODUCE:  # acks=0: nothing to amend
            self._mute(slot, max(self._record(meters[PRODUCE], size), self._spent(meters[REQUEST], took)))
        return response

    def _throttle(
        self, response: Any, request: Any, slot: Slot, size: int, pause_ms: int, meters: dict[str, Meter | None]
    ) -> Any:
        key = slot.header.api_key
        if key == ApiKey.PRODUCE:
            pause_ms = max(pause_ms, self._record(meters[PRODUCE], size))
        elif key == ApiKey.FETCH and meters[FETCH] is not None:
            size = sum(len(part.records or b"") for topic in response.responses for part in topic.partitions)
            pause_ms = max(pause_ms, self._record(meters[FETCH], size))
            if pause_ms > 0:
                self._record(meters[FETCH], -size)  # it is not sent, whichever quota it is beyond
                response = self._broker.fetch_sessions.hold_back(response, request)
        if pause_ms > 0 and hasattr(response, "throttle_time_ms"):
            response.throttle_time_ms = pause_ms
            self._mute(slot, pause_ms)
        return response

    def _mute(self, slot: Slot, pause_ms: int) -> None:
        if pause_ms > 0:
            self._broker.mute(slot.session, pause_ms / 1000)

    def _spent(self, meter: Meter | None, seconds: float) -> int:
        """Record processing time; a pause for it is never longer than one window (KIP-124)."""
        return min(self._record(meter, seconds * 100), self._windows.window_ms) if meter is not None else 0

    def _record(self, meter: Meter | None, amount: float) -> int:
        if meter is None:
            return 0
        rate = self._rates.get(meter[:2])
        if rate is None:
            rate = self._rates[meter[:2]] = Rate(self._windows)
            if len(self._rates) > MAX_METERS:
                del self._rates[next(iter(self._rates))]
        now_ms = self._now_ms()
        rate.record(amount, now_ms)
        return rate.throttle_ms(meter.limit, now_ms)

    def _now_ms(self) -> float:
        return self._broker.clock.monotonic() * 1000

    # ---- topics created, grown and deleted (KIP-599)

    def _mutate(self, key: int, request: Any, version: int, client: tuple[str, str]) -> tuple[int, list[Any]]:
        """(pause, what is refused and taken out of the request)."""
        meter = self._quotas.meter(MUTATION, *client)
        if meter is None:
            return 0, []
        now_ms = self._now_ms()
        bucket = self._buckets.get(meter[:2])
        if bucket is None:
            bucket = TokenBucket(self._mutation_windows, limit=meter.limit, now_ms=now_ms)
            self._buckets[meter[:2]] = bucket
            if len(self._buckets) > MAX_METERS:
                del self._buckets[next(iter(self._buckets))]
        is_strict = version >= _STRICT_SINCE[ApiKey(key)]
        kept, refused = [], []
        by_name = key == ApiKey.DELETE_TOPICS and version < 6
        for wanted in request.topic_names if by_name else request.topics:
            if is_strict and bucket.throttle_ms(limit=meter.limit, now_ms=now_ms):
                refused.append(wanted)
                continue
            bucket.take(self._permits(key, wanted), limit=meter.limit, now_ms=now_ms)
            kept.append(wanted)
        setattr(request, "topic_names" if by_name else "topics", kept)
        if is_strict and not refused:
            return 0, []
        return bucket.throttle_ms(limit=meter.limit, now_ms=now_ms), refused

    def _permits(self, key: int, wanted: Any) -> int:
        topics = self._broker.topics
        if key == ApiKey.CREATE_TOPICS:
            if wanted.assignments:
                return len(wanted.assignments)
            return self._broker.config.num_partitions if wanted.num_partitions < 0 else int(wanted.num_partitions)
        name = wanted if isinstance(wanted, str) else wanted.name
        topic = topics.by_id.get(wanted.topic_id) if name is None else topics.by_name.get(name)
        if topic is None:
            return 0
        present = len(topic.partitions)
        return present if key == ApiKey.DELETE_TOPICS else max(0, int(wanted.count) - present)


def _add_refused(key: int, response: Any, refused: list[Any]) -> None:
    from logqueue.protocol.messages import create_partitions, create_topics, delete_topics

    error: dict[str, Any] = {
        "error_code": ErrorCode.THROTTLING_QUOTA_EXCEEDED,
        "error_message": "The throttling quota has been exceeded.",
    }
    for wanted in refused:
        name = wanted if isinstance(wanted, str) else wanted.name
        if key == ApiKey.CREATE_TOPICS:
            response.topics.append(create_topics.CreatableTopicResult(name=name, **error))
        elif key == ApiKey.CREATE_PARTITIONS:
            response.results.append(create_partitions.CreatePartitionsTopicResult(name=name, **error))
        else:
            topic_id = bytes(16) if isinstance(wanted, str) else wanted.topic_id
            response.responses.append(delete_topics.DeletableTopicResult(name=name, topic_id=topic_id, **error))
