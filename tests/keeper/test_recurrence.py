"""When things recur: intervals, cron, and what daylight saving time does to it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logqueue.jobs.errors import InvalidDefinition
from logqueue.jobs.recurrence import Recurrence, recurrence
from logqueue.jobs.times import format_time, parse_time

BERLIN = "Europe/Berlin"
RHYTHMS = [
    recurrence(cron="*/5 * * * *", timezone=BERLIN),
    recurrence(cron="30 2 * * *", timezone=BERLIN),
    recurrence(cron="0,30 1-3 * * *", timezone="America/New_York"),
    recurrence(cron="*/20 * * * * *"),
    recurrence(cron="0 0 L * MON-FRI", timezone="Australia/Lord_Howe"),
    recurrence(cron="15 */2 1,15 * *", timezone="Asia/Kathmandu"),
    recurrence(every="10m"),
    recurrence(every="90s"),
]
YEARS = st.integers(parse_time("2025-01-01T00:00:00Z"), parse_time("2027-12-31T00:00:00Z"))


def after(rhythm: Recurrence, start: str, count: int) -> list[str]:
    ms, found = parse_time(start), []
    for _ in range(count):
        following = rhythm.next_after(ms)
        assert following is not None
        ms = following
        found.append(format_time(ms).removesuffix(":00.000Z"))
    return found


def test_what_falls_into_a_skipped_hour_runs_at_its_end_once() -> None:
    # 2026-03-29: 02:00 CET becomes 03:00 CEST, at 01:00Z.
    assert after(recurrence(cron="30 2 * * *", timezone=BERLIN), "2026-03-28T12:00:00Z", 2) == [
        "2026-03-29T01:00",
        "2026-03-30T00:30",
    ]
    assert after(recurrence(cron="0,30 2 * * *", timezone=BERLIN), "2026-03-28T12:00:00Z", 2) == [
        "2026-03-29T01:00",
        "2026-03-30T00:00",
    ]


def test_a_fixed_time_in_a_repeated_hour_runs_once_the_first_time() -> None:
    # 2026-10-25: 03:00 CEST becomes 02:00 CET, at 01:00Z.
    rhythm = recurrence(cron="30 2 * * *", timezone=BERLIN)
    assert after(rhythm, "2026-10-24T12:00:00Z", 2) == ["2026-10-25T00:30", "2026-10-26T01:30"]
    assert after(rhythm, "2026-10-25T01:10:00Z", 1) == ["2026-10-26T01:30"], "asked again inside the second 02:xx"


def test_what_runs_every_hour_or_more_often_follows_real_time() -> None:
    assert after(recurrence(cron="0 * * * *", timezone=BERLIN), "2026-03-28T23:30:00Z", 3) == [
        "2026-03-29T00:00",
        "2026-03-29T01:00",
        "2026-03-29T02:00",
    ]
    assert after(recurrence(cron="*/30 * * * *", timezone=BERLIN), "2026-10-24T23:45:00Z", 5) == [
        "2026-10-25T00:00",
        "2026-10-25T00:30",
        "2026-10-25T01:00",
        "2026-10-25T01:30",
        "2026-10-25T02:00",
    ]


def test_an_interval_counts_from_1970() -> None:
    assert after(recurrence(every="10m"), "2026-01-01T00:03:07Z", 2) == ["2026-01-01T00:10", "2026-01-01T00:20"]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(RHYTHMS), YEARS, st.integers(0, 10 * 86_400_000), st.integers(1, 30))
def test_the_latest_occurrences_are_the_last_of_all(rhythm: Recurrence, start: int, span: int, limit: int) -> None:
    span = min(span, 7_200_000) if rhythm.key.startswith("*/20") else span
    all_of_them, at = [], start
    while (following := rhythm.next_after(at)) is not None and following <= start + span:
        assert following > at
        all_of_them.append(following)
        at = following
    assert rhythm.latest(after=start, until=start + span, limit=limit) == all_of_them[-limit:]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(RHYTHMS), YEARS, st.integers(0, 3 * 3_600_000))
def test_an_occurrence_does_not_depend_on_when_it_is_asked_for(rhythm: Recurrence, start: int, back: int) -> None:
    found = rhythm.next_after(start)
    assert found is not None
    earlier, at = [], start - back
    while (following := rhythm.next_after(at)) is not None and following <= found:
        earlier.append(following)
        at = following
    assert earlier[-1] == found


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "either cron= or every="),
        ({"cron": "* * * * *", "every": "1m"}, "either cron= or every="),
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "* * *"}, "five fields"),
        ({"cron": "0 0 31 2 *"}, "day-of-month"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "IANA"),
        ({"cron": "* * * * *", "timezone": "../etc/passwd"}, "IANA"),
        ({"every": "10ms"}, "shorter"),
    ],
)
def test_what_cannot_recur_is_refused_with_its_reason(options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidDefinition, match=text):
        recurrence(**options)  # type: ignore[arg-type]
