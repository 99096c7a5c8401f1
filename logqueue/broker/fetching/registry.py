"""Which fetch belongs to which session, and what is refused (KIP-227). The codes and their order are Apache Kafka's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from logqueue.broker.fetching.reading import FIRST_WITH_TOPIC_IDS
from logqueue.broker.fetching.session_cache import NO_SESSION, SessionCache
from logqueue.broker.fetching.sessions import FetchSession, News, WaitingFetch, next_epoch, replica_of
from logqueue.errors import ErrorCode
from logqueue.protocol.messages.fetch import FetchRequest, FetchResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from logqueue.broker.broker import Broker
    from logqueue.broker.network.session import Slot

    InFull = Callable[[Broker, FetchRequest, Slot], FetchResponse | None]


class FetchSessions:
    """The fetch sessions of one broker."""

    def __init__(self, broker: Broker, *, slots: int) -> None:
        self._broker = broker
        self._cache: SessionCache[FetchSession] = SessionCache(slots=slots, new_id=_random_id)

    def __len__(self) -> int:
        return len(self._cache)

    def remove(self, session_id: int) -> None:
        """Close a session, if there is one of this id."""
        self._cache.remove(session_id)

    def open(self, request: FetchRequest, version: int, response: FetchResponse) -> int:
        """A session of what was asked and is about to be answered in full: its id, or NO_SESSION."""
        now_ms = self._now_ms()
        size = sum(len(topic.partitions) for topic in request.topics)
        if not self._cache.make_room(is_privileged=replica_of(request, version) >= 0, size=size, now_ms=now_ms):
            return NO_SESSION
        session = FetchSession(self._broker.topics, request, version)
        session.told_in_full(response)
        return self._cache.enter(session, now_ms)

    def serve(self, request: FetchRequest, slot: Slot, *, in_full: InFull) -> FetchResponse | None:
        """Serve the next fetch of a session; None: it waits. `in_full` serves one whose session has become empty."""
        session = self._cache.get(request.session_id)
        if session is None:
            return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if session.epoch != request.session_epoch:
            return FetchResponse(error_code=ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        version = slot.api_version
        if session.uses_topic_ids != (version >= FIRST_WITH_TOPIC_IDS):
            return FetchResponse(error_code=ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        if (earlier := session.waiting) is not None:
            # Kafka reads the next request of a connection when the one before is answered.
            if earlier.slot.session is slot.session:
                earlier.on_deadline()
            else:
                earlier.refuse()
        session.update(request, version)
        if not len(session):
            self._cache.remove(session.id)
            return in_full(self._broker, request, slot)
        session.used_ms = self._now_ms()
        session.epoch = next_epoch(session.epoch)
        return self._look(session, request, slot)

    def _look(self, session: FetchSession, request: FetchRequest, slot: Slot) -> FetchResponse | None:
        broker = self._broker
        found = News(broker, session, request, slot.api_version)
        if not session.has_partitions or not found.may_wait():
            return session.tell(found.news, is_committed=found.is_committed)
        WaitingFetch(broker, session, request, slot, found)
        return None

    def hold_back(self, response: FetchResponse, request: FetchRequest) -> FetchResponse:
        """The answer in the place of one that is not sent (KIP-13): a session goes on, one that was opened does not."""
        session = self._cache.get(response.session_id)
        if session is None:
            return FetchResponse()
        if request.session_id != session.id:
            self._cache.remove(session.id)
            return FetchResponse()
        session.untell()
        return FetchResponse(session_id=session.id)

    def _now_ms(self) -> float:
        return self._broker.clock.monotonic() * 1000


def _random_id() -> int:
    return int.from_bytes(os.urandom(4), "big") >> 1
