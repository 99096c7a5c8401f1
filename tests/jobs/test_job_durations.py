"""Durations as text."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue.jobs.durations import MAX_SECONDS, InvalidDuration, format_duration, parse_duration


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [
        ("1s", 1),
        ("250ms", 0.25),
        ("10m", 600),
        ("1h30m", 5400),
        (" 1 H 30 m ", 5400),
        ("1.5h", 5400),
        ("2d", 172_800),
        (0, 0),
        (2.5, 2.5),
        (timedelta(minutes=1, milliseconds=5), 60.005),
    ],
)
def test_a_duration_is_read_as_people_write_it(given_: str | float | timedelta, seconds: float) -> None:
    assert parse_duration(given_) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "given_",
    ["", "1", "s", "1x", "1s2", "-1s", "1e3s", "\u0661s", -1, float("nan"), float("inf"), 10**400, True, None, b"1s"],
)
def test_what_is_no_duration_is_refused_with_what_was_given(given_: object) -> None:
    with pytest.raises(InvalidDuration, match="Invalid duration"):
        parse_duration(given_)  # type: ignore[arg-type]


@given(st.integers(min_value=0, max_value=int(MAX_SECONDS * 1000)))
def test_formatted_durations_are_read_back_to_the_millisecond(ms: int) -> None:
    assert round(parse_duration(format_duration(ms / 1000)) * 1000) == ms


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert 0 <= parse_duration(text) <= MAX_SECONDS
    except InvalidDuration:
        pass
