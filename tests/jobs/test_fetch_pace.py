"""Fetches go at once while they are few, and at an interval under load."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.jobs.fetch_pace import AT_ONCE, INTERVAL_S, FetchPace


def sent(pace: FetchPace, wanted_s: list[float]) -> list[float]:
    """When fetches go that are wanted so long after the one before went."""
    now_s, times = 100.0, []
    for after_s in wanted_s:
        now_s += after_s
        now_s += pace.pause_s(now_s)
        times.append(now_s)
    return times


def test_a_few_fetches_follow_one_another_at_once() -> None:
    assert sent(FetchPace(), [0.0] * AT_ONCE) == [100.0] * AT_ONCE


def test_many_fetches_go_at_the_interval() -> None:
    times = sent(FetchPace(), [0.0] * (AT_ONCE + 10))[AT_ONCE - 1 :]
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([INTERVAL_S] * 10)


def test_fetches_further_apart_than_the_interval_never_wait() -> None:
    pace = FetchPace()
    assert [pace.pause_s(100.0 + number * INTERVAL_S * 1.001) for number in range(100)] == [0.0] * 100


def test_after_a_rest_a_few_go_at_once_again() -> None:
    pace = FetchPace()
    sent(pace, [0.0] * 20)
    assert [pace.pause_s(200.0) for _ in range(AT_ONCE)] == [0.0] * AT_ONCE


@given(st.lists(st.floats(0, 0.02), max_size=50))
def test_no_fetch_waits_longer_than_the_interval(wanted_s: list[float]) -> None:
    pace, now_s = FetchPace(), 100.0
    for after_s in wanted_s:
        now_s += after_s
        pause_s = pace.pause_s(now_s)
        assert 0 <= pause_s <= INTERVAL_S * 1.001
        now_s += pause_s
