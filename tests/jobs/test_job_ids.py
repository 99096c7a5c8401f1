"""Ids of jobs."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from logqueue.jobs.job_ids import JobIds, id_of_position, time_of_id
from logqueue.jobs.times import format_time, parse_time


@given(st.integers(0, 2**48 - 1))
def test_an_id_is_a_uuid_of_version_7_that_carries_its_time(ms: int) -> None:
    made = uuid.UUID(JobIds().next(ms))
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert time_of_id(str(made)) == ms


def test_ids_of_one_source_are_unique_and_sort_by_time_even_if_the_clock_goes_back() -> None:
    ids = JobIds()
    made = [ids.next(ms) for ms in (5, 6, 6, 3, 7) for _ in range(400)]
    assert len(set(made)) == len(made)
    assert [i[:13] for i in made] == sorted(i[:13] for i in made)


@given(st.text(max_size=40))
def test_other_texts_carry_no_time(text: str) -> None:
    found = time_of_id(text)
    assert found is None or found >= 0


def test_a_job_without_an_id_is_named_after_its_place() -> None:
    assert id_of_position("jobs.emails", 3, 42) == "jobs.emails-3-42"


@given(st.integers(0, 253_402_300_799_999))
def test_times_are_read_back_to_the_millisecond(ms: int) -> None:
    assert parse_time(format_time(ms)) == ms


def test_threads_that_share_a_source_never_take_the_same_id() -> None:
    ids = JobIds()
    with ThreadPoolExecutor(4) as threads:
        made = [id_ for ids_ in threads.map(lambda _: [ids.next(7) for _ in range(2_000)], range(4)) for id_ in ids_]
    assert len(set(made)) == len(made) == 8_000
