"""Whether and when a failed job runs again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue import Permanent, Retry
from logqueue.jobs.errors import (
    ErrorClass,
    InvalidArguments,
    InvalidDefinition,
    JobTimeout,
    TransientError,
    Undecodable,
    UnknownJobType,
    classify,
)

RNG = random.Random(1)


class OutOfStock(Permanent):
    """A reason of the user's own."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError(), ErrorClass.TRANSIENT),
        (TransientError(), ErrorClass.TRANSIENT),
        (TimeoutError(), ErrorClass.TIMEOUT),
        (JobTimeout(), ErrorClass.TIMEOUT),
        (Permanent(), ErrorClass.PERMANENT),
        (OutOfStock(), ErrorClass.PERMANENT),
        (InvalidArguments("x"), ErrorClass.PERMANENT),
        (Undecodable(), ErrorClass.UNDECODABLE),
        (UnknownJobType("a", queue="b"), ErrorClass.UNKNOWN_TYPE),
    ],
)
def test_every_error_has_a_class(error: BaseException, expected: ErrorClass) -> None:
    assert classify(error) is expected


@pytest.mark.parametrize("error", [OutOfStock(), Undecodable(), InvalidArguments("x"), UnknownJobType("a", queue="b")])
def test_a_permanent_error_is_never_retried(error: BaseException) -> None:
    decision = Retry(attempts=10).decide(1, error, RNG)
    assert not decision.should_retry
    assert decision.delay_s == 0


def test_the_last_attempt_is_not_followed_by_another() -> None:
    retry = Retry(attempts=3, jitter=0)
    assert [retry.decide(n, ValueError(), RNG).should_retry for n in (1, 2, 3, 4)] == [True, True, False, False]
    assert retry.decide(3, ValueError(), RNG).reason == "attempts used (3)"


def test_waits_grow_by_the_factor_up_to_the_cap() -> None:
    retry = Retry(attempts=10, first="1s", factor=3, cap="20s", jitter=0)
    assert [retry.delay_after(n, RNG) for n in (1, 2, 3, 4, 5)] == [1, 3, 9, 20, 20]


def test_a_wait_after_thousands_of_attempts_is_the_cap() -> None:
    assert Retry(attempts=10_000, factor=1000, cap="10m", jitter=0).delay_after(9_999, RNG) == 600


def test_never_and_on_choose_the_errors_that_are_retried() -> None:
    retry = Retry(on=(OSError, KeyError), never=ConnectionError)
    assert retry.decide(1, KeyError(), RNG).should_retry
    assert not retry.decide(1, ValueError(), RNG).should_retry
    refused = retry.decide(1, ConnectionResetError(), RNG)
    assert not refused.should_retry
    assert refused.reason == "ConnectionResetError is never retried"


@given(
    attempt=st.integers(1, 200),
    first=st.floats(0, 100),
    extra=st.floats(0, 1000),
    factor=st.floats(1, 1000),
    jitter=st.floats(0, 1),
    seed=st.integers(),
)
def test_a_wait_is_within_its_jitter_and_never_above_the_cap(
    attempt: int, first: float, extra: float, factor: float, jitter: float, seed: int
) -> None:
    cap = first + extra
    retry = Retry(attempts=201, first=first, factor=factor, cap=cap, jitter=jitter)
    plain = Retry(attempts=201, first=first, factor=factor, cap=cap, jitter=0).delay_after(attempt, RNG)
    wait = retry.delay_after(attempt, random.Random(seed))
    assert 0 <= wait <= cap
    assert plain * (1 - jitter) * 0.999_999 <= wait <= plain * (1 + jitter) * 1.000_001


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": 10_001},
        {"attempts": 1.5},
        {"factor": 0.5},
        {"jitter": 2},
        {"first": "2s", "cap": "1s"},
        {"on": "ValueError"},
        {"never": (ValueError, "x")},
        {"crashes": 0},
    ],
)
def test_a_policy_that_cannot_work_is_refused_where_it_is_written(options: dict[str, object]) -> None:
    with pytest.raises(InvalidDefinition, match="Retry: "):
        Retry(**options)  # type: ignore[arg-type]


def test_a_policy_is_a_value_and_describes_itself() -> None:
    assert Retry(first="60s") == Retry(first="1m")
    assert hash(Retry(first="60s")) == hash(Retry(first="1m"))
    assert Retry(attempts=2, on=OSError).describe() == {
        "attempts": 2,
        "first": "1s",
        "factor": 2.0,
        "cap": "10m",
        "jitter": 0.1,
        "on": ["OSError"],
        "never": [],
        "crashes": 3,
        "within": None,
    }
