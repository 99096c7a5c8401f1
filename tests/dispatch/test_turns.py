"""Turns come in order whatever order they were pushed in, and a class forgets tenants that have been idle for long."""

from __future__ import annotations

import heapq
import sys
from collections import deque
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.dispatch.priority_class import MAX_REMEMBERED, MAX_VOID, PriorityClass
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


@given(st.sets(st.integers()), st.sets(st.integers()))
def test_what_replaces_them_comes_in_order(before: set[int], after: set[int]) -> None:
    turns: Turns[int] = Turns()
    for entry in before:
        turns.push(entry)
    assert (len(turns), set(turns)) == (len(before), before)
    turns.replace(after)
    assert [turns.pop() for _ in range(len(turns))] == sorted(after)


def test_a_tenant_that_is_noisy_and_quiet_in_turn_leaves_no_more_than_is_bounded() -> None:
    found = PriorityClass("q", "", 1.0, concurrency=1)  # noisy with the first job that runs
    shares = [found.enlist(name) for name in ("one", "other")]
    jobs: list[Any] = [SimpleNamespace(number=number) for number in range(4 * MAX_VOID)]
    for first, share in enumerate(shares):
        share.first, share.behind = jobs[first], deque(jobs[first + 2 :: 2])
        found.activate(share)
    references = [sys.getrefcount(share) for share in shares]
    for job in jobs:  # while one of them waits its turn, the other is always quiet
        taken = found.take(0.0, [])
        assert taken is not None and taken[0] is job
        found.ended(taken[1].tenant)
        entries = sum(sys.getrefcount(share) - before for share, before in zip(shares, references, strict=True))
        assert entries <= MAX_VOID + 10


def test_tenants_that_came_once_are_forgotten_and_those_with_jobs_are_not() -> None:
    found = PriorityClass("q", "", 1.0, concurrency=10)
    busy = found.enlist("busy")
    busy.running = 2
    found.ended(busy)
    for number in range(3 * MAX_REMEMBERED):
        share = found.enlist(f"t{number}")
        share.running = 1
        found.ended(share)
    assert found.tenants["busy"] is busy
    assert len(found.tenants) == MAX_REMEMBERED + 1
