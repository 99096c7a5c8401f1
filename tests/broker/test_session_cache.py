"""How many fetch sessions there are, and which has to go for another."""

from __future__ import annotations

from itertools import count

import pytest

from logqueue.broker.fetching.session_cache import EVICTION_MS, NO_SESSION, SessionCache

LATER = EVICTION_MS + 1


class StandIn:
    """A session of so many partitions."""

    def __init__(self, size: int, *, is_privileged: bool = False) -> None:
        self.id = NO_SESSION
        self.is_privileged = is_privileged
        self.created_ms = self.used_ms = 0.0
        self.is_closed = False
        self._size = size

    def __len__(self) -> int:
        return self._size

    def close(self) -> None:
        self.is_closed = True


class Cache:
    """A cache of two slots."""

    def __init__(self) -> None:
        numbers = count(1)
        self.cache: SessionCache[StandIn] = SessionCache(slots=2, new_id=lambda: next(numbers))

    def enter(self, size: int, now_ms: float, *, is_privileged: bool = False) -> StandIn | None:
        if not self.cache.make_room(is_privileged=is_privileged, size=size, now_ms=now_ms):
            return None
        session = StandIn(size, is_privileged=is_privileged)
        self.cache.enter(session, now_ms)
        return session


@pytest.fixture
def cache() -> Cache:
    return Cache()


def test_a_session_has_an_id_of_its_own_until_it_is_removed(cache: Cache) -> None:
    first, second = cache.enter(1, 0), cache.enter(1, 0)
    assert first is not None
    assert second is not None
    assert NO_SESSION not in (first.id, second.id)
    assert cache.cache.get(first.id) is first
    cache.cache.remove(first.id)
    assert first.is_closed
    assert cache.cache.get(first.id) is None
    assert cache.cache.get(second.id) is second
    cache.cache.remove(first.id)


def test_an_id_is_never_that_of_another_session_nor_none() -> None:
    cache: SessionCache[StandIn] = SessionCache(slots=4, new_id=lambda: 0)
    entered = [StandIn(1) for _ in range(4)]
    assert len({cache.enter(each, 0) for each in entered} | {NO_SESSION}) == 5


def test_what_is_young_and_used_stays_however_large_the_next(cache: Cache) -> None:
    cache.enter(1, 0)
    cache.enter(1, 0)
    assert cache.enter(100, EVICTION_MS) is None


def test_what_was_not_used_for_long_goes_first(cache: Cache) -> None:
    first, second = cache.enter(9, 0), cache.enter(9, 5)
    assert first is not None
    assert second is not None
    assert cache.enter(1, LATER) is not None
    assert (first.is_closed, second.is_closed) == (True, False)


def test_the_smallest_of_the_old_goes_for_one_as_large(cache: Cache) -> None:
    large, small = cache.enter(9, 0), cache.enter(3, 0)
    assert large is not None
    assert small is not None
    large.used_ms = small.used_ms = LATER
    assert cache.enter(2, LATER) is None
    assert cache.enter(3, LATER) is not None
    assert (large.is_closed, small.is_closed) == (False, True)


def test_followers_push_consumers_aside_and_never_the_other_way(cache: Cache) -> None:
    one, other = cache.enter(9, 0), cache.enter(8, 0)
    assert one is not None
    assert other is not None
    assert cache.enter(1, 0, is_privileged=True) is not None
    assert other.is_closed
    assert cache.enter(1, 0, is_privileged=True) is not None
    assert one.is_closed
    assert cache.enter(100, EVICTION_MS) is None


def test_a_full_cache_is_looked_through_again_when_something_may_have_changed(cache: Cache) -> None:
    first, second = cache.enter(5, 0), cache.enter(5, 0)
    assert first is not None
    assert second is not None
    first.used_ms = second.used_ms = 10.0
    assert cache.enter(5, 20) is None
    first.used_ms = second.used_ms = LATER  # they are used on, and old by then
    assert cache.enter(5, LATER) is not None


def test_without_slots_there_are_no_sessions() -> None:
    cache: SessionCache[StandIn] = SessionCache(slots=0, new_id=lambda: 1)
    assert not cache.make_room(is_privileged=True, size=1, now_ms=0)
