"""The lab as its users see it: jobs run for real, time moves when told to, and assertions say what is wrong."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from logqueue import App, Retry
from logqueue.errors import LogqueueError
from logqueue.jobs.context import JobContext
from logqueue.testing import JobLab, LabUnrest
from tests.loops import in_loop

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class Shop:
    """An app, and what its handlers did."""

    def __init__(self) -> None:
        self.app = app = App("shop")
        self.sent: list[str] = []
        self.attempts: list[int] = []
        self.gate = asyncio.Event()

        @app.job("email.send", queue="emails", retry=Retry(3, first="1m", jitter=0.0))
        async def send_email(*, to: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
            self.sent.append(to)
            return {"to": to, "parts": 2}

        @app.job("user.welcome", queue="users")
        async def welcome(ctx: JobContext, *, user: str) -> None:
            ctx.send(send_email.prepare(tenant=ctx.tenant, to=f"{user}@example.com"))

        @app.job("report.make", queue="reports", timeout="10m", retry=Retry(2, first="1h", cap="1h", jitter=0.0))
        async def make_report(ctx: JobContext) -> str:
            self.attempts.append(ctx.attempt)
            await self.gate.wait()
            return "made"

        @app.job("file.read", queue="reports")
        def read_file(*, name: str) -> int:
            return len(name)

        self.email, self.welcome, self.report, self.read = send_email, welcome, make_report, read_file


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def lab_of(logqueue_lab: Any) -> Any:
    return logqueue_lab


@in_loop
async def test_a_lab_of_its_own_opens_runs_a_job_and_closes_within_seconds() -> None:
    shop = Shop()
    began_s = time.monotonic()
    async with JobLab(shop.app) as lab:
        job = await shop.email.send(tenant="acme", to="a@b.c")
        await lab.assert_status(job, "succeeded", result={"to": "a@b.c"}, attempt=1, error=None)
    assert time.monotonic() - began_s < 10
    assert shop.sent == ["a@b.c"]


def test_the_app_is_as_it_was_behind_the_lab(lab_of: Any, shop: Shop) -> None:
    clock = shop.app.clock

    async def use() -> None:
        async with lab_of(shop.app) as lab:
            assert shop.app.clock is lab.clock

    asyncio.run(use())
    assert shop.app.clock is clock
    asyncio.run(use())


def test_follow_up_jobs_and_subsets_of_arguments_are_found(lab_of: Any, shop: Shop) -> None:
    @in_loop
    async def scenario() -> None:
        async with lab_of(shop.app) as lab:
            await shop.welcome.send(tenant="acme", user="ann")
            await shop.email.send(tenant="acme", to="x@y.z", options={"html": True, "size": 3})
            await lab.drain()
            found = await lab.assert_enqueued("email.send", tenant="acme", to="ann@example.com")
            assert [job.state for job in found] == ["succeeded"]
            await lab.assert_enqueued("email.send", count=2)
            await lab.assert_enqueued("email.send", options={"size": 3})
            await lab.refute_enqueued("email.send", tenant="other")
            assert len(await lab.jobs(state="succeeded")) == 3

    scenario()


def test_an_assertion_that_fails_tells_what_is_there(lab_of: Any, shop: Shop) -> None:
    @in_loop
    async def scenario() -> None:
        async with lab_of(shop.app) as lab:
            with pytest.raises(AssertionError, match="no job is on the log"):
                await lab.assert_enqueued("email.send")
            job = await shop.email.send(tenant="acme", to="a@b.c", options={"size": 3})
            with pytest.raises(AssertionError) as wrong:
                await lab.assert_enqueued("email.send", tenant="umbrella", to="a@b.d", options={"size": 4})
            assert "tenant: expected 'umbrella', is 'acme'" in str(wrong.value)
            assert "to: expected 'a@b.d', is 'a@b.c'" in str(wrong.value)
            assert "options.size: expected 4, is 3" in str(wrong.value)
            with pytest.raises(AssertionError, match=r"expected no job 'email.send', found 1"):
                await lab.refute_enqueued("email.send")
            with pytest.raises(AssertionError, match=r"expected 2 jobs 'email.send', found 1"):
                await lab.assert_enqueued("email.send", count=2)
            with pytest.raises(AssertionError, match=r"state: expected 'dead', is 'succeeded'(.|\n)*result.parts"):
                await lab.assert_status(job, "dead", result={"parts": 3})
            with pytest.raises(TypeError, match="not tenant"):
                await lab.assert_status(job, "succeeded", tenant="acme")
            with pytest.raises(LogqueueError, match="no job nonsense is on the log"):
                await lab.assert_status("nonsense", "succeeded")
            with pytest.raises(LogqueueError, match=r"has no job 'email.sent'"):
                lab.fail_next("email.sent", ValueError())

    scenario()


def test_failures_are_retried_at_their_time_and_not_before(lab_of: Any, shop: Shop) -> None:
    @in_loop
    async def scenario() -> None:
        async with lab_of(shop.app) as lab:
            lab.fail_next("email.send", ConnectionError("mail server down"), times=2)
            job = await shop.email.send(tenant="acme", to="a@b.c")
            await lab.assert_status(job, "retrying", attempt=1, error="mail server down")
            await lab.advance("59s")
            await lab.assert_status(job, "retrying", attempt=1)
            await lab.advance("2s")
            await lab.assert_status(job, "retrying", attempt=2)
            await lab.advance("2m")
            await lab.assert_status(job, "succeeded", attempt=3)
            lab.fail_next("email.send", ConnectionError, times=3)
            job = await shop.email.send(tenant="acme", to="b@b.c")
            await lab.advance("1h")
            await lab.assert_status(job, "dead", attempt=3, error="ConnectionError")
            assert shop.sent == ["a@b.c"]

    scenario()


def test_far_delays_schedules_and_expiry_follow_the_clock(lab_of: Any, shop: Shop) -> None:
    shop.app.schedule("nightly", cron="0 3 * * *", job=shop.read, arguments={"name": "log"})

    @in_loop
    async def scenario() -> None:
        async with lab_of(shop.app, now=NEW_YEAR) as lab:
            later = await shop.email.with_(tenant="acme", delay="3d").send(to="later@b.c")
            await lab.advance("2d")
            await lab.assert_status(later, "scheduled")
            await lab.advance("23h59m")
            await lab.assert_status(later, "scheduled")
            await lab.advance("1m")
            await lab.assert_status(later, "succeeded")
            runs = await lab.assert_enqueued("file.read", count=3)
            assert [run.result for run in runs] == [3, 3, 3]
            assert lab.now == datetime(2026, 1, 4, tzinfo=UTC)

    scenario()


def test_a_handler_that_waits_runs_out_of_its_time(lab_of: Any, shop: Shop) -> None:
    @in_loop
    async def scenario() -> None:
        async with lab_of(shop.app, patience="50ms") as lab:
            job = await shop.report.send()
            with pytest.raises(LabUnrest, match=r"still running.*report.make"):
                await lab.drain()
            await lab.advance("9m")
            await lab.assert_status(job, "running")
            await lab.advance("1m")
            await lab.assert_status(job, "retrying", attempt=1, error="JobTimeout")
            shop.gate.set()
            await lab.advance("1h")
            await lab.assert_status(job, "succeeded", result="made", attempt=2)

    scenario()


def test_what_a_crashed_worker_ran_runs_again_and_no_attempt_is_lost(lab_of: Any, shop: Shop) -> None:
    @in_loop
    async def scenario() -> None:
        async with lab_of(shop.app, patience="50ms") as lab:
            done = await shop.email.send(tenant="acme", to="a@b.c")
            await lab.drain()
            job = await shop.report.send()
            await lab.advance(0)
            first = lab.workers[0]
            second = await lab.crash_worker()
            assert lab.workers == [second]
            assert not first.is_running
            await lab.advance(0)
            assert shop.attempts == [1, 1]
            shop.gate.set()
            await lab.assert_status(job, "succeeded", result="made", attempt=1)
            await lab.assert_status(done, "succeeded")
            assert shop.sent == ["a@b.c"]

    scenario()


def test_nothing_that_a_crashed_worker_did_on_its_way_out_reaches_the_log(lab_of: Any) -> None:
    app = App("stubborn")
    began, ends = asyncio.Event(), []

    @app.job("count", queue="counts")
    async def count(ctx: JobContext) -> str:
        began.set()
        try:
            await asyncio.Event().wait() if not ends else None
        except asyncio.CancelledError:
            ends.append("swallowed")
            return "by the dead"
        return "by the living"

    @in_loop
    async def scenario() -> None:
        async with lab_of(app, patience="50ms") as lab:
            job = await count.send()
            await began.wait()
            await lab.crash_worker()
            found = await lab.assert_status(job, "succeeded", result="by the living")
            assert ends == ["swallowed"]
            assert [str(status.state) for status in found.history].count("succeeded") == 1

    scenario()


def test_workers_join_and_leave_and_jobs_can_be_cancelled_and_hastened(lab_of: Any, shop: Shop) -> None:
    @in_loop
    async def scenario() -> None:
        async with lab_of(shop.app, workers=2, patience="50ms") as lab:
            running = await shop.report.send()
            waiting = await shop.email.with_(tenant="acme", delay="1d").send(to="a@b.c")
            hastened = await shop.email.with_(tenant="acme", delay="1d").send(to="b@b.c")
            await lab.advance(0)
            await lab.stop_worker(hurry=True)
            await lab.start_worker()
            await lab.cancel(running, reason="not needed")
            await lab.cancel(waiting)
            await lab.run_now(hastened)
            await lab.assert_status(running, "cancelled")
            await lab.assert_status(waiting, "cancelled")
            await lab.assert_status(hastened, "succeeded")
            assert shop.sent == ["b@b.c"]

    scenario()


def test_plain_functions_run_in_their_threads(lab_of: Any, shop: Shop) -> None:
    @in_loop
    async def scenario() -> None:
        async with lab_of(shop.app) as lab:
            job = await shop.read.send(name="four")
            await lab.drain()
            await lab.assert_status(job, "succeeded", result=4)

    scenario()


def test_a_time_without_a_zone_is_refused(shop: Shop) -> None:
    with pytest.raises(LogqueueError, match="needs a time zone"):
        JobLab(shop.app, now=datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda lab, job: lab.refute_enqueued("email.sent"), "App 'shop' has no job 'email.sent': email.send,"),
        (lambda lab, job: lab.jobs("email.sent"), "has no job 'email.sent'"),
        (lambda lab, job: lab.jobs(state="done"), "there is no state 'done'; there are blocked, "),
        (lambda lab, job: lab.assert_status(job, "sucess"), "there is no state 'sucess'"),
    ],
)
@in_loop
async def test_a_mistyped_name_fails_the_test_instead_of_passing_it(
    lab_of: Any, shop: Shop, ask: Any, told: str
) -> None:
    async with lab_of(shop.app) as lab:
        job = await shop.email.send(to="a@b.c")
        with pytest.raises(LogqueueError, match=told):
            await ask(lab, job)


def test_a_failure_that_cannot_happen_is_refused(lab_of: Any, shop: Shop) -> None:
    async def main() -> None:
        async with lab_of(shop.app) as lab:
            with pytest.raises(LogqueueError, match="takes an exception, not 'away'"):
                lab.fail_next("email.send", "away")
            with pytest.raises(LogqueueError, match="times=0 is less than 1"):
                lab.fail_next("email.send", ValueError, times=0)

    asyncio.run(main())


def test_a_lab_may_leave_the_schedules_of_its_app_out(lab_of: Any, shop: Shop) -> None:
    async def main() -> None:
        shop.app.schedule("often", every="1s", job=shop.email, arguments={"to": "a@b.c"})
        async with lab_of(shop.app, schedules=False) as lab:
            job = await shop.email.with_(delay="30d").send(to="b@c.d")
            await lab.advance("30d")
            await lab.assert_status(job, "succeeded")
            assert shop.sent == ["b@c.d"]
        assert list(shop.app.schedules) == ["often"]

    asyncio.run(main())
