"""Lanes: one job of a lane at a time, in arrival order; lanes do not wait for each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.partitions.lanes import Lanes


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=200))
def test_each_lane_runs_one_job_at_a_time_in_arrival_order(steps: list[tuple[str, bool]]) -> None:
    lanes: Lanes[tuple[str, int]] = Lanes()
    running: dict[str, tuple[str, int]] = {}
    arrived: dict[str, list[tuple[str, int]]] = {}
    started: dict[str, list[tuple[str, int]]] = {}
    for number, (lane, arrives) in enumerate(steps):
        if arrives:
            job = (lane, number)
            arrived.setdefault(lane, []).append(job)
            if lanes.enter(lane, job):
                assert lane not in running
                running[lane] = job
                started.setdefault(lane, []).append(job)
        elif lane in running:
            del running[lane]
            following = lanes.leave(lane)
            if following is not None:
                running[lane] = following
                started[lane].append(following)
    assert lanes.busy_count == len(running)
    for lane, jobs in started.items():
        assert jobs == arrived[lane][: len(jobs)]
    for lane, jobs in arrived.items():
        assert len(jobs) - len(started[lane]) == 0 or lane in running, (
            "a waiting job always has a running one before it"
        )


def test_a_cleared_lane_hands_back_the_jobs_that_never_started() -> None:
    lanes: Lanes[int] = Lanes()
    assert lanes.enter("a", 1)
    assert not lanes.enter("a", 2)
    assert not lanes.enter("a", 3)
    assert lanes.waiting_count == 2
    assert lanes.clear("a") == [2, 3]
    assert lanes.clear("never") == []
    assert lanes.enter("a", 4)
