"""One schedule at a moment: missed runs, overlap, jitter, pauses."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from logqueue_consumers.keeper.cron_plan import Plan, plan, wake_of

from logqueue.jobs.schedules import Schedule, State, new_schedule

MINUTE = 60_000
START = 1_790_000_000_000 // MINUTE * MINUTE


def minutely(**options: Any) -> Schedule:
    return new_schedule("m", type="t", queue="q", arguments={}, **{"every": "1m", **options})


def begun(schedule: Schedule, at: int = START) -> State:
    return plan(schedule, None, at, is_paused=False).state


def at(schedule: Schedule, state: State, now_ms: int, **options: Any) -> Plan:
    return plan(schedule, state, now_ms, **{"is_paused": False, **options})


def times(planned: Plan) -> list[int]:
    return [(run.scheduled_ms - START) // MINUTE for run in planned.runs]


def test_a_new_schedule_begins_with_the_next_time() -> None:
    planned = plan(minutely(), None, START + 5, is_paused=False)
    assert planned.runs == []
    assert planned.state.next == START + MINUTE


def test_a_run_is_due_at_its_time_and_not_before() -> None:
    schedule = minutely()
    state = begun(schedule)
    assert times(at(schedule, state, START + MINUTE - 1)) == []
    planned = at(schedule, state, START + MINUTE)
    assert [(run.job_id, run.scheduled_ms) for run in planned.runs] == [
        (schedule.job_id(START + MINUTE), START + MINUTE)
    ]
    assert planned.state.next == START + 2 * MINUTE


def test_missed_runs_are_skipped_or_made_up() -> None:
    down = START + 10 * MINUTE + 30_000  # times 1 to 10 are due; only the tenth is on time
    assert times(at(minutely(missed="skip"), begun(minutely(missed="skip")), down)) == [10]
    assert times(at(minutely(missed="latest"), begun(minutely(missed="latest")), down)) == [10]
    every_one = minutely(missed="all")
    assert times(at(every_one, begun(every_one), down)) == list(range(1, 11))
    capped = minutely(missed="all", cap=3)
    assert times(at(capped, begun(capped), down)) == [8, 9, 10]


def test_only_the_latest_missed_run_is_made_up() -> None:
    hourly = minutely(every="1h", missed="latest")
    begin = begun(hourly)
    assert begin.next is not None
    late = begin.next + 5 * 60 * MINUTE + 10 * MINUTE
    planned = at(hourly, begin, late)
    assert [run.scheduled_ms for run in planned.runs] == [begin.next + 5 * 60 * MINUTE]
    skipping = minutely(every="1h", missed="skip")
    assert at(skipping, begun(skipping), late).runs == []


def test_a_year_of_downtime_is_answered_at_once() -> None:
    schedule = minutely(cron="* * * * * *", every=None, missed="all", cap=1000)
    planned = at(schedule, begun(schedule), START + 365 * 24 * 60 * MINUTE)
    assert len(planned.runs) == 1000


def test_a_run_that_overlaps_is_skipped_until_the_one_before_has_ended() -> None:
    schedule = minutely(overlap="skip")
    first = at(schedule, begun(schedule), START + MINUTE)
    second = at(schedule, first.state, START + 2 * MINUTE)
    assert (times(first), times(second), second.state.skipped) == ([1], [], 1)
    third = at(schedule, second.state, START + 3 * MINUTE, ended=[first.runs[0].job_id])
    assert times(third) == [3]


def test_one_run_is_buffered_and_begins_when_the_one_before_has_ended() -> None:
    schedule = minutely(overlap="buffer")
    first = at(schedule, begun(schedule), START + MINUTE)
    second = at(schedule, first.state, START + 2 * MINUTE)
    third = at(schedule, second.state, START + 3 * MINUTE)
    assert (times(second), times(third), third.state.skipped) == ([], [], 1)
    ended = at(schedule, third.state, START + 3 * MINUTE + 10, ended=[first.runs[0].job_id])
    assert times(ended) == [2]
    assert ended.state.buffered is None


def test_a_run_whose_end_was_never_told_holds_nobody_up_for_ever() -> None:
    schedule = minutely(overlap="skip")
    first = at(schedule, begun(schedule), START + MINUTE)
    assert times(at(schedule, first.state, START + 60 * MINUTE)) == []
    assert times(at(schedule, first.state, START + 8 * 24 * 60 * MINUTE)) != []


def test_a_pause_stops_runs_and_what_it_swallowed_is_not_made_up() -> None:
    schedule = minutely(missed="all")
    paused = plan(schedule, begun(schedule), START + 5, is_paused=True).state
    assert (paused.next, wake_of(schedule, paused)) == (None, None)
    resumed = at(schedule, paused, START + 10 * MINUTE + 1)
    assert resumed.runs == []
    assert resumed.state.next == START + 11 * MINUTE


def test_a_change_of_arguments_loses_no_run_that_is_due() -> None:
    before, after = minutely(), minutely(tenant="other")
    assert times(at(after, begun(before), START + MINUTE + 5)) == [1]


def test_a_change_of_the_rhythm_begins_anew() -> None:
    planned = at(minutely(every="5m"), begun(minutely()), START + MINUTE + 5)
    assert planned.runs == []


def test_run_now_does_not_wait_for_anything() -> None:
    schedule = minutely(overlap="skip")
    first = at(schedule, begun(schedule), START + MINUTE)
    asked = at(schedule, first.state, START + MINUTE + 5, run_now=["x"])
    assert [run.job_id for run in asked.runs] == ["m@run-x"]


def test_jitter_is_the_same_for_every_owner_and_within_its_bound() -> None:
    schedule = minutely(jitter="10s")
    delays = [schedule.delay_of(START + n * MINUTE) for n in range(200)]
    assert all(0 <= delay <= 10_000 for delay in delays)
    assert len(set(delays)) > 150
    state = begun(schedule)
    due = START + MINUTE + schedule.delay_of(START + MINUTE)
    assert wake_of(schedule, state) == due
    assert times(at(schedule, state, due - 1)) == []
    assert times(at(schedule, state, due)) == [1]


@settings(deadline=None)
@given(
    st.sampled_from(["skip", "latest", "all"]),
    st.sampled_from(["allow", "skip", "buffer"]),
    st.integers(0, 120_000),
    st.lists(st.tuples(st.integers(1, 10 * MINUTE), st.booleans()), max_size=40),
)
def test_no_run_is_early_twice_or_out_of_order(
    missed: str, overlap: str, jitter_ms: int, steps: list[tuple[int, bool]]
) -> None:
    schedule = minutely(missed=missed, overlap=overlap, jitter=jitter_ms / 1000, cap=7)
    now, state, seen, running = START, begun(schedule), [], set()
    for passed, ends in steps:
        now += passed
        ended = list(running) if ends else []
        planned = at(schedule, state, now, ended=ended)
        running.difference_update(ended)
        for run in planned.runs:
            assert run.scheduled_ms + schedule.delay_of(run.scheduled_ms) <= now
            seen.append(run.scheduled_ms)
            if overlap != "allow":
                assert not running
                running.add(run.job_id)
        state = planned.state
        assert state.next is not None
        assert state.next + schedule.delay_of(state.next) > now
    assert seen == sorted(set(seen))
