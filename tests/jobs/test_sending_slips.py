"""What is easily written wrongly around a sending: it works, or the text says what to write."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from logqueue import App, JobContext
from logqueue.jobs.errors import ErrorClass, InvalidArguments, InvalidDefinition, NotPrepared, classify
from logqueue.jobs.flows import chain, chord, group
from logqueue.outbox import insert

app = App("shop")


@app.job("image.resize", queue="images")
async def resize(*, image: str, width: int = 100) -> None: ...


def context() -> JobContext:
    return JobContext(
        job_id="1", type="t", tenant="acme", queue="q", group="g", attempt=1, max_attempts=1, replay=0,
        replaying=False, created_ms=0, topic="jobs.q", partition=0, offset=0, headers={},
    )  # fmt: skip


def test_a_sending_with_options_takes_the_tenant_where_a_plain_one_takes_it() -> None:
    job = resize.with_(delay="1m").prepare(tenant="acme", image="a.png")
    assert (job.tenant, job.value) == ("acme", b'{"image":"a.png"}')
    assert resize.with_(tenant="acme").prepare(tenant="acme", image="a.png").tenant == "acme"


def test_two_different_tenants_of_one_sending_are_refused() -> None:
    with pytest.raises(InvalidArguments, match=r"with_\(tenant='a'\) and tenant='b' contradict") as caught:
        resize.with_(tenant="a").prepare(tenant="b", image="a.png")
    assert caught.value.field == "tenant"


@pytest.mark.parametrize("sending", [resize, resize.with_(tenant="acme")])
def test_an_option_among_the_arguments_is_told_where_it_belongs(sending: Any) -> None:
    with pytest.raises(InvalidArguments, match=r"write resize\.with_\(delay=\.\.\.\)\.send\(") as caught:
        sending.prepare(image="a.png", delay="10m")
    assert caught.value.field == "delay"


@pytest.mark.parametrize(
    "use",
    [
        lambda job: chain(app, [job]),
        lambda job: group(app, [job]),
        lambda job: chord(app, [job], resize.prepare(image="a")),
        lambda job: chord(app, [], job),
        lambda job: app.workflow("w").add("a", job),
        lambda job: app.workflow("w").on_complete(job),
        lambda job: context().send(job),
        lambda job: context().add("a", job),
        insert,
    ],
)
def test_a_definition_in_the_place_of_a_prepared_job_is_told_what_to_write(use: Any) -> None:
    with pytest.raises(NotPrepared, match=r"not the definition of 'image\.resize': write resize\.prepare\(image="):
        use(resize)
    with pytest.raises(NotPrepared, match=r"write resize\.with_\(\.\.\.\)\.prepare\(image=\.\.\., width=\.\.\.\)"):
        use(resize.with_(tenant="acme"))
    coroutine = resize.send(image="a.png")
    with pytest.raises(NotPrepared, match=r"write \.prepare\(\.\.\.\) in place of \.send\("):
        use(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    with pytest.raises(NotPrepared, match="takes a prepared job, not a str"):
        use("image.resize")


def test_one_job_in_the_place_of_a_list_is_told() -> None:
    with pytest.raises(NotPrepared, match=r"chain takes a list of prepared jobs"):
        chain(app, resize.prepare(image="a.png"))  # type: ignore[arg-type]


def test_a_handler_that_sends_a_definition_is_not_tried_again() -> None:
    assert classify(NotPrepared("x")) is ErrorClass.PERMANENT


def test_a_job_without_a_type_is_told_how_a_type_is_given() -> None:
    def handler() -> None: ...

    with pytest.raises(InvalidDefinition, match="takes the job's type"):
        app.job(handler)  # type: ignore[arg-type]


def test_a_schedule_of_something_else_than_a_job_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match=r"takes a function under @app.job, not str"):
        app.schedule("nightly", job="image.resize", every="1h")  # type: ignore[arg-type]
