"""What rides behind the offset map is read back, whatever else stands in the metadata."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logqueue_consumers.commits.notes import (
    MAX_BOOKMARK_CHARS,
    MAX_NAMED,
    MAX_RETRIED,
    Mark,
    Named,
    Retried,
    read_notes,
    write_notes,
)
from logqueue_consumers.commits.offset_map import MAP_LIMIT_BYTES, METADATA_LIMIT_BYTES, Run, decode, encode
from logqueue_consumers.partitions.window import INTAKE_RATIO
from logqueue_consumers.transactions.opening import transactional_id_of

positions = st.lists(st.integers(0, 2**62), min_size=1, max_size=16)
names = st.lists(
    st.builds(Named, st.integers(0, 2**24), st.integers(0, 100), st.sampled_from(Mark)),
    max_size=MAX_NAMED,
    unique_by=lambda job: job.offset,
)

NOW_MS = 1_770_000_000_000
retries = st.lists(
    st.builds(
        Retried,
        st.integers(0, 2**24),
        st.integers(1, 1000),
        st.integers(0, 60_000).map(lambda later: NOW_MS + later),
        st.none() | st.integers(0, 10_000).map(lambda ago_s: -1000 * ago_s),
    ).map(lambda job: job if job.first_failed_ms is None else job._replace(first_failed_ms=job.due_ms + job[3])),
    max_size=20,
    unique_by=lambda job: job.offset,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # many values, on a machine that may be busy
@given(positions, names, retries, st.booleans(), st.integers(0, 2**40), st.none() | st.integers(0, 2**44))
def test_everything_is_read_back(
    marks: list[int], jobs: list[Named], tried: list[Retried], is_handover: bool, base: int, since_ms: int | None
) -> None:
    jobs = [job._replace(offset=base + job.offset) for job in jobs]
    tried = [job._replace(offset=base + job.offset) for job in tried]
    map_text = encode(base, [Run(base + 3, base + 9)])
    own = {"bookmark": marks, "since_ms": since_ms, "is_handover": is_handover}
    text = write_notes(map_text, base=base, named=jobs, retried=tried, **own)  # type: ignore[arg-type]
    notes = read_notes(text, base=base)
    assert notes.since_ms == since_ms
    assert decode(notes.map_text, base=base) == (Run(base + 3, base + 9),)
    assert notes.bookmark in (tuple(marks), ())
    assert (notes.named, notes.is_handover) == (tuple(sorted(jobs)), is_handover)
    assert notes.retried == tuple(sorted(tried))


@given(st.integers(0, 10**7))
def test_a_first_failure_is_never_remembered_as_later_than_it_was(ago_ms: int) -> None:
    text = write_notes("", base=0, retried=[Retried(3, 2, NOW_MS, NOW_MS - ago_ms)])
    (found,) = read_notes(text, base=0).retried
    assert found.first_failed_ms is not None
    assert 0 <= NOW_MS - ago_ms - found.first_failed_ms < 1000


def test_as_many_retries_as_wait_in_memory_fit_beside_the_largest_map_that_intake_allows() -> None:
    map_text = "q" * int(MAP_LIMIT_BYTES * INTAKE_RATIO)
    named = [Named(100 * n, 100, Mark.ALONE) for n in range(MAX_NAMED)]
    tried = [Retried(2_000 * n, 100, NOW_MS + 500 * n, NOW_MS + 500 * n - 10_000_000) for n in range(MAX_RETRIED)]
    for note in (
        {"bookmark": [2**40] * 24, "since_ms": NOW_MS},
        {"owner": f"{2**40:x}.{transactional_id_of('p' * 100, 'g' * 100, 'one')}"},
    ):
        text = write_notes(map_text, base=0, named=named, retried=tried, is_handover=True, **note)
        assert read_notes(text, base=0).retried == tuple(tried)
        assert len(text) <= METADATA_LIMIT_BYTES


def test_retries_for_which_there_is_no_room_are_left_out_and_nothing_else() -> None:
    tried = [Retried(2_000 * n, 100, NOW_MS + 500 * n, None) for n in range(MAX_RETRIED)]
    text = write_notes("q" * MAP_LIMIT_BYTES, base=0, bookmark=[7], retried=tried, is_handover=True)
    notes = read_notes(text, base=0)
    assert (notes.retried, notes.bookmark, notes.is_handover) == ((), (7,), True)


def test_what_is_named_and_marked_fits_beside_the_largest_map() -> None:
    jobs = [Named(2**24 * n, 100, Mark.ALONE) for n in range(MAX_NAMED)]
    text = write_notes("", base=0, bookmark=[2**40] * 24, since_ms=NOW_MS, named=jobs, is_handover=True)
    assert len(text) <= METADATA_LIMIT_BYTES - MAP_LIMIT_BYTES


def test_an_owner_fits_beside_the_largest_map_and_is_read_back() -> None:
    jobs = [Named(2**24 * n, 100, Mark.ALONE) for n in range(MAX_NAMED)]
    owner = transactional_id_of("p" * 100, "g" * 100, "one")
    text = write_notes("", base=0, owner=f"{2**40:x}.{owner}", named=jobs, is_handover=True)
    assert len(text) <= METADATA_LIMIT_BYTES - MAP_LIMIT_BYTES
    notes = read_notes(text, base=0)
    assert (notes.owner, notes.named, notes.bookmark) == (owner, tuple(jobs), None)
    assert not notes.has_crashed
    assert read_notes(write_notes("", base=0, owner=f"1.{owner}"), base=0).has_crashed


def test_a_transactional_id_is_that_of_the_static_member_or_of_the_process() -> None:
    assert transactional_id_of("", "shop", "host-1") == transactional_id_of("", "shop", "host-1")
    assert transactional_id_of("", "shop", "host-1") != transactional_id_of("", "shop", "host-2")
    assert transactional_id_of("", "shop", None) != transactional_id_of("", "shop", None)
    long = [transactional_id_of("p" * 100, "g" * 99 + last, "one") for last in "ab"]
    assert long[0] != long[1]


@given(positions)
def test_a_bookmark_stands_alone_where_the_map_is_empty(marks: list[int]) -> None:
    notes = read_notes(write_notes("", base=7, bookmark=marks), base=7)
    assert (notes.map_text, notes.bookmark, notes.named) == ("", tuple(marks), ())


@given(st.text(max_size=60))
def test_foreign_metadata_says_nothing(text: str) -> None:
    notes = read_notes(text, base=0)
    assert ";b1" in text or notes.bookmark is None
    assert ";n1" in text or not notes.named
    assert ";h1" in text or not notes.is_handover


def test_positions_that_would_be_too_long_are_left_out_and_the_worker_is_still_told_apart_from_one_that_ended() -> None:
    text = write_notes("q1", base=0, bookmark=[2**62] * 100)
    assert text == "q1;b1"
    assert len(text) < MAX_BOOKMARK_CHARS
    assert read_notes(text, base=0).has_crashed


def test_damaged_sections_count_as_absent() -> None:
    assert read_notes("q1;b1%%%", base=0).bookmark is None
    assert read_notes("q1;b1gA==", base=0).bookmark is None
    assert read_notes("q1;b1AQ==;t1", base=0).since_ms is None
    assert read_notes("q1;n1gA==;b1AQ==", base=0).bookmark == (1,)


def test_an_orderly_end_is_no_crash() -> None:
    assert not read_notes(write_notes("q1", base=0), base=0).has_crashed
    assert not read_notes(write_notes("q1", base=0, bookmark=[1], is_handover=True), base=0).has_crashed
    assert read_notes(write_notes("q1", base=0, bookmark=[1]), base=0).has_crashed
