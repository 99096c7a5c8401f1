"""Turns come in order whatever order they were pushed in, and a class forgets tenants that have been idle for long."""

from __future__ import annotations

import heapq

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.dispatch.priority_class import MAX_REMEMBERED, PriorityClass
from logqueue_consumers.dispatch.turns import Turns


@given(st.lists(st.one_of(st.none(), st.integers(-5, 5))))
def test_the_smallest_is_always_next(steps: list[int | None]) -> None:
    turns: Turns[tuple[int, int]] = Turns()
    model: list[tuple[int, int]] = []
    for place, step in enumerate(steps):
        if step is not None:
            turns.push((step, place))
            heapq.heappush(model, (step, place))
        else:
            assert turns.pop() == (heapq.heappop(model) if model else None)


def test_tenants_that_came_once_are_forgotten_and_those_with_jobs_are_not() -> None:
    found = PriorityClass("q", "", 1.0, concurrency=10)
    busy = found.share("busy", 1.0)
    busy.running = 2
    found.ended(busy)
    for number in range(3 * MAX_REMEMBERED):
        share = found.share(f"t{number}", 1.0)
        share.running = 1
        found.ended(share)
    assert found.share("busy", 1.0) is busy
    assert len(found.tenants) == MAX_REMEMBERED + 1
