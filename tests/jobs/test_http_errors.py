"""HTTP-like errors, with the exceptions of no library: status, temporary or not, Retry-After in both forms."""

from __future__ import annotations

import random
import urllib.error
from email.message import Message
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logqueue import Retry
from logqueue.jobs.errors import ErrorClass, classify
from logqueue.jobs.http_errors import MAX_RETRY_AFTER_S, http_status, retry_after_s

NOW_S = 1_700_000_000.0


class ClientError(Exception):
    """As clients have them: attributes, nothing else."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("no")
        self.__dict__.update(attributes)


def httpx_error(status: int, headers: dict[str, str] | None = None) -> Exception:
    request = httpx.Request("GET", "http://x/")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, headers=headers))


def urllib_error(status: int, headers: dict[str, str] | None = None) -> Exception:
    message = Message()
    for name, value in (headers or {}).items():
        message[name] = value
    return urllib.error.HTTPError("http://x/", status, "no", message, None)


def aiohttp_error(status: int, headers: dict[str, str] | None = None) -> Exception:
    return ClientError(status=status, headers=headers)


def requests_error(status: int, headers: dict[str, str] | None = None) -> Exception:
    return ClientError(response=SimpleNamespace(status_code=status, headers=headers or {}))


KINDS = [httpx_error, urllib_error, aiohttp_error, requests_error]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    ("status", "class_"),
    [
        (400, "permanent"), (401, "permanent"), (404, "permanent"), (422, "permanent"),
        (408, "transient"), (409, "transient"), (425, "transient"), (429, "transient"),
        (500, "transient"), (502, "transient"), (503, "transient"), (504, "transient"),
    ],
)  # fmt: skip
def test_the_status_decides_whether_a_later_try_may_succeed(make: Any, status: int, class_: str) -> None:
    assert http_status(make(status)) == status
    assert classify(make(status)) == class_


@pytest.mark.parametrize(
    "error",
    [
        ValueError("404"), ClientError(code="404"), ClientError(code=True), ClientError(status=200), SystemExit(404),
        ClientError(response=None), ClientError(response={"status_code": 404}), ClientError(code=lambda: 404),
    ],
)  # fmt: skip
def test_what_is_not_of_http_is_transient_as_ever(error: BaseException) -> None:
    assert http_status(error) is None
    assert classify(error) is ErrorClass.TRANSIENT


def test_an_error_that_says_its_own_class_is_believed() -> None:
    assert classify(ClientError(status=404, error_class=ErrorClass.TRANSIENT)) is ErrorClass.TRANSIENT


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("name", ["Retry-After", "retry-after"])
def test_retry_after_is_read_as_seconds_and_as_a_date(make: Any, name: str) -> None:
    assert retry_after_s(make(429, {name: "120"}), now_s=NOW_S) == 120.0
    date = formatdate(NOW_S + 90, usegmt=True)
    assert retry_after_s(make(503, {name: date}), now_s=NOW_S) == pytest.approx(90.0)


@pytest.mark.parametrize(
    ("status", "text", "wait_s"),
    [
        (500, "120", None),
        (429, "soon", None),
        (429, "-5", None),
        (429, "1e3", None),
        (429, "99999999999999", MAX_RETRY_AFTER_S),
        (503, formatdate(NOW_S - 60, usegmt=True), 0.0),
        (503, "Fri, 99 Foo 2020", None),
    ],
)
def test_what_is_asked_for_is_bounded_and_nonsense_is_nothing(status: int, text: str, wait_s: float | None) -> None:
    assert retry_after_s(httpx_error(status, {"Retry-After": text}), now_s=NOW_S) == wait_s


@given(st.text(max_size=40))
def test_no_text_of_a_server_breaks_a_decision(text: str) -> None:
    decision = Retry(attempts=3).decide(1, aiohttp_error(429, {"Retry-After": text}), random.Random(1), now_s=NOW_S)
    assert decision.should_retry and decision.delay_s <= MAX_RETRY_AFTER_S * 2


def test_a_server_that_says_when_is_never_asked_earlier_whatever_the_cap() -> None:
    retry = Retry(attempts=3, first="1s", cap="10s", jitter=0.5)
    waits = [
        retry.decide(1, httpx_error(429, {"Retry-After": "600"}), random.Random(seed), now_s=NOW_S).delay_s
        for seed in range(50)
    ]
    assert min(waits) >= 600.0 and max(waits) <= 900.0 and len(set(waits)) > 10


def test_no_attempt_begins_later_than_within_after_the_first_failure() -> None:
    retry = Retry(attempts=100, first="10s", factor=1, jitter=0, within="1m")
    first = retry.decide(1, ValueError(), random.Random(1), now_s=NOW_S)
    assert first.should_retry
    last = retry.decide(6, ValueError(), random.Random(1), now_s=NOW_S + 50, first_failed_s=NOW_S)
    assert last.should_retry, "it would begin exactly in time"
    late = retry.decide(7, ValueError(), random.Random(1), now_s=NOW_S + 50.1, first_failed_s=NOW_S)
    assert not late.should_retry and late.reason == "time used (within 1m)"
    assert retry.describe()["within"] == "1m" and Retry().describe()["within"] is None
