"""The delay heap: never early, in order, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.retrying.delay import DelayHeap


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), max_size=200))
def test_no_job_is_early_and_none_stays_past_its_time(steps: list[tuple[bool, int]]) -> None:
    heap: DelayHeap[tuple[int, int]] = DelayHeap(limit=50)
    held: dict[int, int] = {}
    now = 0
    for number, (push, value) in enumerate(steps):
        if push:
            assert heap.push(now + value, (number, now + value)) == (len(held) < 50)
            if len(held) < 50:
                held[number] = now + value
        else:
            now += value
            popped = heap.pop_due(now)
            assert [due for _, due in popped] == sorted(due for _, due in popped)
            assert all(due <= now for _, due in popped)
            for job, _ in popped:
                del held[job]
            assert all(due > now for due in held.values())
        assert len(heap) == len(held)
        assert heap.next_due() == (min(held.values()) if held else None)


def test_jobs_due_together_keep_their_order() -> None:
    heap: DelayHeap[str] = DelayHeap(limit=9)
    for job in "cab":
        heap.push(5.0, job)
    assert heap.pop_due(4.999) == []
    assert heap.pop_due(5.0) == ["c", "a", "b"]


def test_a_full_heap_takes_nothing_more() -> None:
    heap: DelayHeap[str] = DelayHeap(limit=1)
    assert heap.push(1.0, "first")
    assert heap.is_full
    assert not heap.push(0.5, "second")
    assert heap.pop_due(2.0) == ["first"]


def test_jobs_of_a_lost_partition_are_removed_in_due_order() -> None:
    heap: DelayHeap[str] = DelayHeap(limit=9)
    for due, job in ((3.0, "x3"), (1.0, "x1"), (2.0, "y")):
        heap.push(due, job)
    assert heap.remove(lambda job: job.startswith("x")) == ["x1", "x3"]
    assert heap.pop_due(9.0) == ["y"]
