"""Declarations of the wrong kind are told in words, with what belongs there: no attribute errors of ours."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from logqueue import App, Limit
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition


def handler(*, n: int = 1) -> int:
    return n


def declared(**options: Any) -> object:
    return App("shop").job("a.b", **options)(handler)


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda: declared(unique=True), r"unique=True is not a Unique\("),
        (lambda: declared(breaker="bank"), r"breaker='bank' is not a Breaker\("),
        (lambda: declared(limits=5), r"limits=5 is not a list of limits: \[Limit\("),
        (lambda: declared(limits=Limit(by="tenant", running=1)), r"is not a list of limits: \[Limit\("),
        (lambda: App("shop").queue("q", limits=Limit(by="tenant", running=1)), r"is not a list of limits"),  # type: ignore[arg-type]
        (lambda: App("shop").queue("q", priorities=["high"]), r"priorities=\['high'\] is not a mapping"),  # type: ignore[arg-type]
        (lambda: App("shop").queue("q", weights=["acme"]), r"weights=\['acme'\] is not a mapping"),  # type: ignore[arg-type]
        (lambda: App(3), r"Name 3 is not of the form"),  # type: ignore[arg-type]
        (lambda: declared(limits=[Limit(by="argument:m", running=1)]), r"argument:m.*: its arguments are n$"),
        (
            lambda: declared(order="none"),
            r"@app.job takes no order=: it belongs to the queue, app.queue\('default', ord",
        ),
        (lambda: declared(expires="1h"), r"takes no expires=: it belongs to a sending, job.with_\(expires=...\)"),
        (lambda: declared(retries=3), r"takes no retries=; did you mean retry=\?"),
        (lambda: App("shop").job("a.b")(partial(handler, n=2)), r"a handler is a function$"),
    ],
)
def test_a_declaration_of_the_wrong_kind_is_told(declare: Callable[[], object], told: str) -> None:
    with pytest.raises(InvalidDefinition, match=told):
        declare()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda job: job.with_(tenant="acme"), "not 'a.b' with options"),
        (lambda job: job.prepare(n=2), "not a prepared 'a.b'"),
        (lambda job: job.type, "not str"),
    ],
)
def test_what_is_scheduled_in_place_of_a_job_is_told_in_one_short_line(given: Callable[[Any], Any], told: str) -> None:
    app = App("shop")
    job = app.job("a.b")(handler)
    with pytest.raises(InvalidDefinition) as caught:
        app.schedule("nightly", every="1h", job=given(job))
    assert told in str(caught.value)
    assert len(str(caught.value)) < 140


def test_a_method_is_no_handler() -> None:
    with pytest.raises(InvalidDefinition, match="its first parameter is `self`"):

        class Mailer:
            @App("shop").job("a.b")
            def send(self, to: str) -> None: ...


def test_a_type_without_a_json_form_is_told_in_one_line() -> None:
    def wave(*, z: complex) -> None: ...

    with pytest.raises(InvalidDefinition) as caught:
        App("shop").job("wave")(wave)
    assert str(caught.value).endswith("no JSON form: type <class 'complex'> is not supported")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"run_at": "2026-01-01"}, "run_at"),
        ({"headers": ["x"]}, "headers"),
        ({"run_at": datetime(2026, 1, 1)}, "run_at"),
    ],
)
def test_an_option_of_the_wrong_kind_names_itself(options: dict[str, Any], field: str) -> None:
    job: Any = declared()
    with pytest.raises(InvalidArguments, match=field) as caught:
        job.with_(**options)
    assert caught.value.field == field
    assert job.with_(run_at=datetime(2026, 1, 1, tzinfo=UTC)).prepare().id


def test_arguments_of_a_schedule_are_told_with_its_name() -> None:
    app = App("shop")

    @app.job("report")
    def report(*, region: str) -> None: ...

    with pytest.raises(InvalidArguments, match=r"Schedule 'nightly': its arguments: .*`region`") as caught:
        app.schedule("nightly", job=report, every="1d")
    assert caught.value.field == "region"
