"""What a worker that is killed knew of its jobs its successor knows too: attempts, due times, order, expiry."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from logqueue_consumers.commits.notes import MAX_RETRIED
from logqueue_consumers.lab.job_lab import LIMITS

from logqueue import App, Limit, Retry
from logqueue.jobs.context import JobContext
from logqueue.jobs.errors import Snooze
from tests.loops import in_loop

Begun = tuple[int, int, float]
"""Number and attempt of a job, and when it began (s after the first)."""


@pytest.fixture
def lab_of(logqueue_lab: Any) -> Any:
    return logqueue_lab


@pytest.fixture(params=["exactly_once", "at_least_once"])
def processing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Mill:
    """An app with one queue, and what its handler does with each job in turn."""

    def __init__(self, processing: str, *, partitions: int = 1) -> None:
        self.app = app = App("mill", processing=processing)
        app.queue("grain", partitions=partitions)
        self.begun: list[Begun] = []
        self.plans: dict[int, list[str]] = {}
        self.gate = asyncio.Event()
        self.lab: Any = None

        @app.job("grind", queue="grain", retry=Retry(3, first="10s", jitter=0.0), timeout="1h")
        async def grind(ctx: JobContext, *, number: int) -> None:
            self.begun.append((number, ctx.attempt, self.lab.clock.monotonic() - 1_000))
            match self.plans.get(number, []):
                case ["fail", *rest]:
                    self.plans[number] = rest
                    raise ConnectionError("planned")
                case ["nap", *rest]:
                    self.plans[number] = rest
                    raise Snooze("10s")
                case ["hang", *rest]:
                    self.plans[number] = rest
                    await self.gate.wait()

        self.grind = grind

    def open(self, lab_of: Any, **options: Any) -> Any:
        self.lab = lab_of(self.app, patience="20ms", **options)
        return self.lab


def test_a_retry_in_memory_outlives_its_worker_with_its_time_its_attempt_and_its_place(
    lab_of: Any, processing: str
) -> None:
    @in_loop
    async def scenario() -> None:
        mill = Mill(processing)
        mill.plans = {1: ["fail", "fail"]}
        async with mill.open(lab_of) as lab:
            job = await mill.grind.with_(tenant="acme").send(number=1)
            after = await mill.grind.with_(tenant="acme").send(number=2)
            await lab.assert_status(job, "retrying", attempt=1)
            await lab.crash_worker()
            await lab.advance("9s")
            await lab.crash_worker()
            await lab.assert_status(job, "retrying", attempt=1)
            await lab.advance("1100ms")
            await lab.assert_status(job, "retrying", attempt=2)
            await lab.crash_worker()
            await lab.advance("19s")
            await lab.assert_status(after, "queued")
            await lab.advance("2s")
            await lab.assert_status(job, "succeeded", attempt=3)
            await lab.assert_status(after, "succeeded", attempt=1)
            assert [(number, attempt) for number, attempt, _ in mill.begun] == [(1, 1), (1, 2), (1, 3), (2, 1)]
            assert [round(at_s) for *_, at_s in mill.begun] == [0, 10, 30, 30]

    scenario()


def test_a_snooze_in_memory_outlives_its_worker(lab_of: Any) -> None:
    @in_loop
    async def scenario() -> None:
        mill = Mill("at_least_once")
        mill.plans = {1: ["fail", "nap"]}
        async with mill.open(lab_of) as lab:
            job = await mill.grind.send(number=1)
            await lab.advance("11s")
            await lab.assert_status(job, "scheduled", attempt=2)
            await lab.crash_worker()
            await lab.advance("8s")
            await lab.assert_status(job, "scheduled", attempt=2)
            await lab.advance("2s")
            await lab.assert_status(job, "succeeded", attempt=2)
            assert [(attempt, round(at_s)) for _, attempt, at_s in mill.begun] == [(1, 0), (2, 10), (2, 20)]

    scenario()


def test_a_later_attempt_that_a_stop_or_a_crash_interrupts_keeps_its_number(lab_of: Any, processing: str) -> None:
    @in_loop
    async def scenario() -> None:
        mill = Mill(processing)
        mill.plans = {1: ["fail", "hang", "hang"]}
        async with mill.open(lab_of) as lab:
            job = await mill.grind.send(number=1)
            await lab.advance("11s")
            await lab.stop_worker(hurry=True)
            await lab.start_worker()
            await lab.advance(0)
            await lab.crash_worker()
            await lab.assert_status(job, "succeeded", attempt=2)
            assert [attempt for _, attempt, _ in mill.begun] == [1, 2, 2, 2]

    scenario()


def test_a_retry_that_was_taken_over_goes_on_with_a_worker_that_comes(lab_of: Any) -> None:
    @in_loop
    async def scenario() -> None:
        mill = Mill("exactly_once")
        mill.plans = {1: ["fail"]}
        async with mill.open(lab_of) as lab:
            job = await mill.grind.send(number=1)
            await lab.assert_status(job, "retrying", attempt=1)
            await lab.crash_worker()
            await lab.advance("3s")
            await lab.start_worker()
            await lab.advance("6s")
            assert len(mill.begun) == 1
            await lab.advance("2s")
            await lab.assert_status(job, "succeeded", attempt=2)

    scenario()


def test_retries_that_no_commit_has_room_for_wait_in_the_log_and_are_not_early_either(lab_of: Any) -> None:
    count = MAX_RETRIED + 16

    @in_loop
    async def scenario() -> None:
        mill = Mill("exactly_once")
        mill.plans = {number: ["fail"] for number in range(count)}
        async with mill.open(lab_of) as lab:
            jobs = [mill.grind.with_(tenant=f"t{number}").prepare(number=number) for number in range(count)]
            await mill.app.send_many(jobs)
            await lab.advance("1s")
            assert len(await lab.jobs(state="retrying")) == count
            await lab.crash_worker()
            await lab.advance("8s")
            assert len(mill.begun) == count
            await lab.advance("2s")
            assert len(await lab.jobs(state="succeeded")) == count
            assert sorted(attempt for _, attempt, _ in mill.begun) == [1] * count + [2] * count

    scenario()


def test_a_suspect_that_a_limit_holds_back_keeps_nobody_waiting(lab_of: Any) -> None:
    app = App("mill")
    app.queue("grain", order="none", partitions=1, limits=[Limit(by="tenant", rate="2/s", burst=1)])
    begun: list[str] = []

    @app.job("grind", queue="grain")
    async def grind(ctx: JobContext) -> None:
        begun.append(ctx.tenant)
        if ctx.tenant == "stuck":
            await asyncio.Event().wait()

    @app.job("sweep", queue="floor")
    async def sweep() -> None:
        begun.append("sweep")

    @in_loop
    async def scenario() -> None:
        async with lab_of(app, patience="20ms", limits=replace(LIMITS, alone_s=300.0, drain_timeout_s=0.1)) as lab:
            await grind.with_(tenant="stuck").send()
            await lab.advance("1s")
            for _ in range(2):
                await lab.crash_worker()
                await lab.advance(0)
            job = await sweep.send()
            await lab.assert_status(job, "succeeded")
            assert begun == ["stuck", "sweep"]

    scenario()


def test_a_suspect_that_waits_for_a_long_job_keeps_nobody_else_waiting(lab_of: Any) -> None:
    app = App("mill")
    app.queue("grain", order="none", partitions=1)
    begun: list[str] = []
    gate = asyncio.Event()

    @app.job("grind", queue="grain", timeout="1d")
    async def grind(ctx: JobContext) -> None:
        begun.append(ctx.tenant)
        await gate.wait()

    @app.job("sweep", queue="floor")
    async def sweep() -> None:
        begun.append("sweep")

    @in_loop
    async def scenario() -> None:
        async with lab_of(app, patience="20ms") as lab:
            jobs = [await grind.with_(tenant=tenant).send() for tenant in ("one", "two")]
            await lab.advance("1s")
            for _ in range(2):
                await lab.crash_worker()
                await lab.advance("1s")
            assert sorted(begun[:4]) == ["one", "one", "two", "two"]
            assert len(begun) == 5  # the other one waits for this one's end
            job = await sweep.send()
            await lab.assert_status(job, "succeeded")
            gate.set()
            await lab.advance("1s")
            for each in jobs:
                await lab.assert_status(each, "succeeded")

    scenario()


def test_a_job_that_waited_for_its_turn_until_after_its_expiry_is_not_begun(lab_of: Any) -> None:
    @in_loop
    async def scenario() -> None:
        mill = Mill("exactly_once")
        mill.plans = {1: ["hang"], 3: ["fail"]}
        async with mill.open(lab_of) as lab:
            first = await mill.grind.with_(tenant="acme").send(number=1)
            late = await mill.grind.with_(tenant="acme", expires="5m").send(number=2)
            retried = await mill.grind.with_(tenant="else", expires="5s").send(number=3)
            await lab.advance("10m")
            await lab.assert_status(retried, "expired")
            await lab.assert_status(late, "queued")
            mill.gate.set()
            await lab.assert_status(first, "succeeded")
            await lab.assert_status(late, "expired")
            assert [number for number, *_ in mill.begun] == [1, 3]

    scenario()
