"""Joining what the topics say of a job: the order of reading must not matter."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from logqueue_consumers.view.job import Job, JobKey, State, fold, join

from tests.view.pieces import pieces, queued, status


@given(pieces, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_of_the_records_gives_the_same_jobs(heard: list[Job], random) -> None:
    again = heard + [random.choice(heard) for _ in range(len(heard))] if heard else []
    random.shuffle(again)
    assert fold(again) == fold(heard)


@given(pieces, st.integers(0, 12))
def test_folding_in_two_batches_equals_folding_in_one(heard: list[Job], cut: int) -> None:
    first, second = fold(heard[:cut]), fold(heard[cut:])
    merged = {
        key: reduce(join, [jobs[key] for jobs in (first, second) if key in jobs])
        for key in first.keys() | second.keys()
    }
    assert merged == fold(heard)


def test_a_late_job_record_does_not_move_a_finished_job_back_but_says_where_it_lies() -> None:
    job = join(status("a", State.SUCCEEDED), queued("a", offset=7, created_ms=900))
    assert job.outcome.state is State.SUCCEEDED
    assert (job.identity.offset, job.identity.created_ms) == (7, 900)


def test_an_attempt_moves_through_its_states_in_one_direction_only() -> None:
    path = [queued("a"), *(status("a", s) for s in (State.RUNNING, State.RETRYING))]
    path += [status("a", State.RUNNING, attempt=2), status("a", State.DEAD, attempt=2)]
    for earlier, later in pairwise(path):
        assert join(later, earlier).outcome == later.outcome


def test_a_replay_by_an_operator_makes_a_finished_job_queued_again() -> None:
    assert join(status("a", State.DEAD, attempt=5), queued("a", replay=1)).outcome.state is State.QUEUED


def test_the_run_of_a_shadow_group_is_another_row_than_the_live_run() -> None:
    jobs = fold([status("a", State.SUCCEEDED), status("a", State.DEAD, shadow="audit", replay=3)])
    assert jobs[JobKey("a")].outcome.state is State.SUCCEEDED
    assert jobs[JobKey("a", "audit")].outcome.state is State.DEAD


def test_a_type_that_a_record_does_not_say_is_learned_from_its_status() -> None:
    assert fold([queued("a", type_=None), status("a", State.RUNNING)])[JobKey("a")].type == "mail"
