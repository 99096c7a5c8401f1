"""Headers of job records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.ids import JobId
from logqueue.jobs import headers as h
from logqueue.jobs.errors import InvalidHeader
from logqueue.jobs.times import MAX_MS

TIMES = st.integers(0, MAX_MS)
# What Kafka lets producers write, more or less: any text as a name, any bytes as a value.
FOREIGN = st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=30)), max_size=5)
ORIGIN = h.Origin("jobs.emails", 3, 42, "shop")
FAILURE = h.Failure("ValueError", "no", "transient")


@pytest.mark.parametrize("time", [b"noon", b"2026-11-22T03:32:07", b"1795318327000", b"\xff"])
def test_a_ce_time_that_is_none_only_loses_itself(time: bytes) -> None:
    assert h.read_job_headers([("ce_id", b"a"), ("ce_time", time)]) == h.read_job_headers([("ce_id", b"a")])


def test_a_record_without_headers_is_a_first_attempt() -> None:
    assert h.read_job_headers(()) == h.JobHeaders()
    assert h.read_job_headers(()).attempt == 1
    assert h.read_job_headers(()).replay == 0


@given(
    id_=st.text(min_size=1, max_size=50),
    type_=st.text(min_size=1, max_size=50),
    created=TIMES,
    due=st.none() | TIMES,
    expires=st.none() | TIMES,
)
def test_headers_of_a_new_job_are_read_back(
    id_: str, type_: str, created: int, due: int | None, expires: int | None
) -> None:
    written = h.job_headers(
        id=id_, type=type_, source="shop", created_ms=created, not_before_ms=due, expires_ms=expires
    )
    assert h.read_job_headers(written) == h.JobHeaders(
        id=JobId(id_),
        type=type_,
        not_before_ms=due,
        expires_ms=expires,
        content_type="application/json",
        created_ms=created,
    )


@given(st.dictionaries(st.sampled_from(sorted(h.OWN_HEADERS)), st.none() | st.binary(max_size=30)))
def test_whatever_a_producer_wrote_is_read_or_refused_by_name(pairs: dict[str, Any]) -> None:
    for read in (h.read_job_headers, h.read_origin, h.read_failure):
        try:
            read(pairs.items())
        except InvalidHeader as error:
            assert error.name in h.OWN_HEADERS
    h.salvage_job_headers(pairs.items())
    h.first_failed_ms(pairs.items(), default=0)


@given(st.dictionaries(st.sampled_from([h.CE_ID, h.CE_TIME, h.CE_TYPE, h.ATTEMPT]), st.none() | st.just(b"7")))
def test_a_null_header_is_as_none(pairs: dict[str, Any]) -> None:
    said = [(name, value) for name, value in pairs.items() if value is not None]
    assert h.read_job_headers(pairs.items()) == h.read_job_headers(said)
    assert h.salvage_job_headers(pairs.items()) == h.salvage_job_headers(said)


@pytest.mark.parametrize("absent", [h.CE_TIME, h.CE_TYPE])
def test_a_null_header_is_as_none_where_headers_begin_as_ours(absent: str) -> None:
    pairs = [("ce_id", b"a"), ("ce_time", b"2026-01-31T12:00:00Z"), ("ce_type", b"t")]
    null = [(name, None if name == absent else value) for name, value in pairs]
    assert h.read_job_headers(null) == h.read_job_headers([pair for pair in pairs if pair[0] != absent])


@pytest.mark.parametrize("absent", [h.ORIGIN_PARTITION, h.ORIGIN_OFFSET])
def test_an_origin_of_which_a_part_is_null_is_refused_by_its_name(absent: str) -> None:
    pairs = {h.ORIGIN_TOPIC: b"t", h.ORIGIN_PARTITION: b"0", h.ORIGIN_OFFSET: b"1", h.ORIGIN_GROUP: b"g", absent: None}
    with pytest.raises(InvalidHeader, match=f"Header {absent}: "):
        h.read_origin(pairs.items())


def test_null_headers_of_ours_do_not_go_on_and_those_of_others_do() -> None:
    null = [(name, None) for name in sorted(h.OWN_HEADERS)]
    moved = h.failed_headers([*null, ("theirs", None)], failure=FAILURE, origin=ORIGIN, now_ms=5, attempt=2)
    assert [name for name, value in moved if value is None] == ["theirs"]
    assert h.read_origin(moved) == ORIGIN
    assert h.first_failed_ms(moved, default=0) == 5
    again = h.replayed_headers([*null, ("theirs", None)], replay=1)
    assert again == [("theirs", None), ("job-replay", b"1")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("job-attempt", b"0"),
        ("job-attempt", b"-1"),
        ("job-attempt", b"1.0"),
        ("job-attempt", b""),
        ("job-attempt", b"9" * 30),
        ("job-replay", b"x"),
        ("job-not-before", b"tomorrow"),
        ("job-not-before", b"2026-01-01T00:00:00"),
        ("job-not-before", b"0001-01-01T00:00:00+23:59"),
        ("job-expires", b"\xff"),
        ("ce_id", b"\xff\xfe"),
        ("ce_id", b"x" * 513),
        ("ce_type", b"x" * 256),
    ],
)
def test_a_header_that_cannot_be_read_is_named(name: str, value: bytes) -> None:
    with pytest.raises(InvalidHeader, match=f"Header {name}: "):
        h.read_job_headers([(name, value)])


def test_times_of_other_writers_are_understood() -> None:
    read = h.read_job_headers(
        [("job-not-before", b"2026-01-31T13:00:00.0001+01:00"), ("ce_time", b"2026-01-31T12:00:00Z")]
    )
    assert read.created_ms == 1_769_860_800_000
    assert read.not_before_ms == 1_769_860_800_001, "rounded up: nothing is due early"


def test_an_empty_id_or_type_counts_as_missing() -> None:
    read = h.read_job_headers([("ce_id", b""), ("ce_type", b"")])
    assert (read.id, read.type) == (None, None)


def read_or_refused(headers: list[tuple[str, bytes]]) -> h.JobHeaders | None:
    try:
        return h.read_job_headers(headers)
    except InvalidHeader:
        return None


@given(
    st.sampled_from([b"a", b"", b"\xff", b"x" * 600]),
    st.sampled_from([b"2026-01-31T12:00:00.000Z", b"noon", b""]),
    st.lists(
        st.tuples(
            st.sampled_from([h.CE_ID, h.CE_TIME, h.CE_TYPE, h.ATTEMPT, "x"]), st.sampled_from([b"3", b"", b"\xff"])
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_headers_that_begin_as_ours_mean_what_they_mean_elsewhere(
    id_: bytes, created: bytes, rest: list[tuple[str, bytes]]
) -> None:
    begin = [(h.CE_ID, id_), (h.CE_TIME, created)]
    assert read_or_refused([*begin, *rest]) == read_or_refused([("y", b""), *begin, *rest])


def test_id_and_type_of_a_record_with_bad_headers_are_still_known() -> None:
    headers = [("ce_id", b"a"), ("ce_type", b"t\xff"), ("ce_time", b"noon"), ("job-attempt", b"2")]
    assert h.salvage_job_headers(headers) == h.JobHeaders(id=h.JobId("a"), type="t\ufffd")


def test_of_headers_of_which_one_is_bad_the_others_say_who_is_to_hear_of_the_end() -> None:
    headers = [("job-workflow", b"f/a/g"), ("job-holds", b"\xff"), ("job-replay", b"2"), ("job-attempt", b"zz")]
    assert h.salvage_job_headers(headers) == h.JobHeaders(workflow="f/a/g", replay=2)


@given(foreign=FOREIGN, now=TIMES, later=TIMES, due=TIMES)
def test_a_failure_keeps_foreign_headers_and_the_first_origin(
    foreign: list[tuple[str, bytes]], now: int, later: int, due: int
) -> None:
    foreign = [pair for pair in foreign if pair[0] not in h.OWN_HEADERS]
    first = h.failed_headers(foreign, failure=FAILURE, origin=ORIGIN, now_ms=now, attempt=2, not_before_ms=due)
    elsewhere = h.Origin("retry.emails.shop", 0, 0, "other")
    timeout = h.Failure("JobTimeout", "slow", "timeout")
    second = h.failed_headers(first, failure=timeout, origin=elsewhere, now_ms=later, attempt=3)
    assert second[: len(foreign)] == foreign
    assert len(dict(second)) == len(second) - (len(foreign) - len(dict(foreign))), "nothing of ours twice"
    assert h.read_origin(second) == ORIGIN
    assert h.read_failure(second) == h.Failure("JobTimeout", "slow", "timeout", first_failed_ms=now)
    read = h.read_job_headers(second)
    assert (read.attempt, read.not_before_ms) == (3, None)
    assert h.read_job_headers(first).not_before_ms == due


def test_a_replay_begins_at_the_first_attempt_and_keeps_the_origin() -> None:
    dead = h.failed_headers(
        [("ce_type", b"a"), ("job-expires", b"2020-01-01T00:00:00Z"), ("mine", b"1")],
        failure=FAILURE,
        origin=ORIGIN,
        now_ms=5,
        attempt=6,
    )
    again = h.replayed_headers(dead, replay=1)
    read = h.read_job_headers(again)
    assert (read.attempt, read.replay, read.expires_ms) == (1, 1, None)
    assert h.read_origin(again) == ORIGIN
    assert h.read_failure(again) is None
    assert ("mine", b"1") in again


def test_the_text_of_an_error_is_cut_between_characters() -> None:
    long = h.Failure("E" * 1000, "é" * 3000, "transient")
    cut = dict(h.failed_headers([], failure=long, origin=ORIGIN, now_ms=0, attempt=1))
    assert cut["job-error-message"].decode() == "é" * 1000
    assert len(cut["job-error-type"]) == h.MAX_ERROR_TYPE_BYTES


@pytest.mark.parametrize(
    "pair", [("ce_id", b"x"), ("job-attempt", "1"), ("", b""), ("a", 1), ("content-type", b"application/json")]
)
def test_a_user_cannot_set_our_headers_or_anything_but_text_and_bytes(pair: tuple[str, bytes]) -> None:
    with pytest.raises(InvalidHeader):
        h.check_extra_headers([pair])


def test_text_headers_of_a_user_become_utf_8() -> None:
    assert h.check_extra_headers([("a", "é"), ("b", b"\xff")]) == [("a", "é".encode()), ("b", b"\xff")]


def test_headers_of_foreign_senders_are_not_kept_whatever_their_size() -> None:
    def sent(number: int) -> tuple[tuple[str, bytes], ...]:
        own = ((h.CE_ID, b"%d" % number), (h.CE_TIME, b"2026-01-01T00:00:00.000Z"))
        return (*own, (h.CE_TYPE, b"t"), ("x", b"%d" % number + b"x" * 100_000))

    for cache in (h._kept_once, h._read_repeated):
        cache.cache_clear()
    for number in range(3):
        assert h.compact_headers(sent(number)) == sent(number)
        assert h.read_job_headers(sent(number)).id == str(number)
    assert [cache.cache_info().currsize for cache in (h._kept_once, h._read_repeated)] == [0, 0]
