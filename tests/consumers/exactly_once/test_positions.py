"""The position that a transaction commits is the one the worker has afterwards; computing it changes nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.commits.offset_map import Run
from logqueue_consumers.partitions.window import PartitionWindow

SPAN = 40


@given(
    taken=st.integers(0, SPAN),
    restored=st.none() | st.tuples(st.integers(1, SPAN), st.integers(1, 5)),
    done=st.sets(st.integers(0, SPAN - 1)),
    also=st.sets(st.integers(0, SPAN - 1)),
)
def test_a_position_with_more_finished_is_that_of_the_window_once_they_are(
    taken: int, restored: tuple[int, int] | None, done: set[int], also: set[int]
) -> None:
    runs = [] if restored is None else [Run(restored[0], restored[0] + restored[1])]
    window = PartitionWindow(0, runs)
    for offset in range(taken):
        window.take(offset)
    window.finish_many(done)
    before = window.commit()
    found = window.commit([offset for offset in also if offset < taken])
    assert window.commit() == before
    window.finish_many([offset for offset in also if offset < taken])
    assert window.commit() == found


def test_a_job_that_came_along_from_before_a_rebalance_counts_above_what_was_delivered() -> None:
    window = PartitionWindow(10)
    window.take(10)
    found = window.commit([10, 12])
    window.finish(10)
    window.remember(12)
    assert window.commit() == found
