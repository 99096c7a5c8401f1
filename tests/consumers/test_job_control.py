"""Cancel and run-now, carried out by workers; progress and log lines of running jobs. On every engine."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from logqueue_schemas.job_status import JobStatus

from logqueue import Retry
from logqueue.jobs.context import JobContext
from logqueue.jobs.control import Command, cancel_command, fold, run_now_command
from logqueue.jobs.errors import JobCancelled
from tests.consumers.conftest import FAST, PATIENCE_S, Log, until, working
from tests.loops import in_loop


async def command(log: Log, *commands: Command) -> None:
    for each in commands:
        key, value = each.record()
        await log.produce(log.settings.topics.control, value, key=key)


def cancel(job_id: str, **changes: Any) -> Command:
    return cancel_command(job_id, **{"replay": 0, "by": "op", "at_ms": now_ms(), **changes})


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def details(status: JobStatus) -> Any:
    assert status.details is not None
    return json.loads(status.details)


async def standing(log: Log, is_enough: Callable[[Any], bool]) -> None:
    async def look() -> Any:
        return fold((record.key, record.value) for record in await log.read(log.settings.topics.control))

    await until(look, is_enough)


@in_loop
async def test_a_cancelled_job_that_waits_in_the_log_never_runs_and_its_command_is_withdrawn(log: Log) -> None:
    app, ran = log.app(), []

    @app.job("work", queue="q")
    async def work(*, n: int) -> None:
        ran.append(n)

    jobs = await app.send_many(work.prepare(n=n) for n in range(3))
    await app.close()
    app = log.app()
    ran = []
    app.job("work", queue="q")(work.handler)
    await app.client()
    await (await app.client()).send(work.prepare(n=9))
    await command(log, cancel(jobs[1].id, reason="not wanted"))
    async with working(app):
        ended = {status.id: status for status in await log.terminal(count=4)}
        assert ended[jobs[1].id].state == "cancelled"
        assert details(ended[jobs[1].id])["cancelled"]["reason"] == "not wanted"
        assert details(ended[jobs[1].id])["cancelled"]["by"] == "op"
        assert {str(s.state) for s in ended.values() if s.id != jobs[1].id} == {"succeeded"}
        await standing(log, lambda state: not state.cancels)


@in_loop
async def test_a_running_async_handler_is_cancelled_at_its_await_and_not_retried(log: Log) -> None:
    app = log.app()
    started, cleaned = asyncio.Event(), asyncio.Event()

    @app.job("work", queue="q", retry=Retry(attempts=5, first="10ms"))
    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    async with working(app):
        job = await work.send()
        await started.wait()
        await command(log, cancel(job.id))
        (ended,) = await log.terminal(count=1)
        assert ended.state == "cancelled" and ended.attempt == 1 and cleaned.is_set()
        assert ended.error is None
        await standing(log, lambda state: not state.cancels)


@in_loop
async def test_a_handler_in_a_thread_sees_its_cancel_and_decides(log: Log) -> None:
    app, started = log.app(), threading.Semaphore(0)

    @app.job("stops", queue="q")
    def stops(ctx: JobContext) -> None:
        started.release()
        while True:
            ctx.raise_if_cancelled()
            time.sleep(0.01)

    @app.job("ends", queue="p")
    def ends(ctx: JobContext) -> str:
        started.release()
        while not ctx.cancelled:
            time.sleep(0.01)
        return "saved what there was"

    async with working(app):
        first, second = await stops.send(), await ends.send()
        for _ in range(2):
            await asyncio.to_thread(started.acquire)
        await command(log, cancel(first.id), cancel(second.id))
        ended = {status.id: status for status in await log.terminal(count=2)}
        assert ended[first.id].state == "cancelled"
        assert ended[second.id].state == "succeeded" and ended[second.id].result == b'"saved what there was"'
        await standing(log, lambda state: not state.cancels)


@in_loop
async def test_a_thread_that_ignores_its_cancel_is_left_alone_when_its_time_is_up(log: Log) -> None:
    app, started, release = log.app(), threading.Event(), threading.Event()

    @app.job("deaf", queue="q", timeout="1s", retry=Retry(attempts=3, first="10ms"))
    def deaf() -> None:
        started.set()
        release.wait(PATIENCE_S)

    try:
        async with working(app):
            job = await deaf.send()
            await asyncio.to_thread(started.wait)
            await command(log, cancel(job.id))
            (ended,) = await log.terminal(count=1)
            assert ended.state == "cancelled" and ended.attempt == 1
    finally:
        release.set()


@in_loop
async def test_jobs_that_wait_in_memory_are_cancelled_where_they_wait(log: Log) -> None:
    app, started, release = log.app(), asyncio.Event(), asyncio.Event()

    @app.job("work", queue="q", retry=Retry(attempts=2, first="1h", cap="1h"))
    async def work(*, n: int) -> None:
        started.set()
        await release.wait()

    @app.job("fails", queue="p", retry=Retry(attempts=2, first="20s", cap="20s"))
    async def fails() -> None:
        raise ValueError

    async with working(app):
        first, behind = [await work.send(tenant="t", n=n) for n in range(2)]
        delayed = await work.with_(tenant="u", delay="1h").send(n=3)
        failed = await fails.send(tenant="v")
        await started.wait()

        async def waiting() -> Iterable[str]:
            return {str(s.state) for s in await log.statuses()}

        await until(waiting, lambda found: {"scheduled", "retrying"} <= set(found))
        await command(log, *(cancel(job.id) for job in (behind, delayed, failed)))
        ended = {status.id: status for status in await log.terminal(count=3)}
        assert {id_: str(status.state) for id_, status in ended.items()} == {
            behind.id: "cancelled",
            delayed.id: "cancelled",
            failed.id: "cancelled",
        }
        assert ended[failed.id].attempt == 2
        release.set()
        await log.terminal(count=4)
        assert (await log.states(first.id))[-1] == "succeeded"


@in_loop
async def test_a_cancel_ends_with_its_replay(log: Log) -> None:
    app = log.app()

    @app.job("work", queue="q")
    async def work() -> None: ...

    async with working(app):
        await command(log, cancel("again", replay=0))
        await log.produce(
            log.settings.topics.jobs("q"),
            b"{}",
            headers=[("ce_type", b"work"), ("ce_id", b"again"), ("job-replay", b"1")],
        )
        (ended,) = await log.terminal(count=1)
        assert ended.state == "succeeded"


@in_loop
async def test_run_now_runs_what_waits_for_its_time(log: Log) -> None:
    app, ran = log.app(), []

    @app.job("work", queue="q", retry=Retry(attempts=2, first="20s", cap="20s"))
    async def work(ctx: JobContext, *, n: int) -> None:
        ran.append((n, ctx.attempt))
        if n == 2 and ctx.attempt == 1:
            raise ValueError

    async with working(app):
        delayed = await work.with_(tenant="a", delay="10m").send(n=1)
        retried = await work.with_(tenant="b").send(n=2)

        async def waiting() -> dict[str, str]:
            return {s.id: str(s.state) for s in await log.statuses()}

        await until(waiting, lambda found: found == {delayed.id: "scheduled", retried.id: "retrying"})
        await command(log, *(run_now_command(job.id, replay=0, by="op", at_ms=now_ms()) for job in (delayed, retried)))
        ended = await log.terminal(count=2)
        assert {str(status.state) for status in ended} == {"succeeded"}
        assert sorted(ran) == [(1, 1), (2, 1), (2, 2)]
        await standing(log, lambda state: not state.run_nows)


@in_loop
async def test_a_handler_may_cancel_its_own_job(log: Log) -> None:
    app = log.app()

    @app.job("work", queue="q")
    async def work() -> None:
        raise JobCancelled("the customer is gone")

    async with working(app):
        await work.send()
        (ended,) = await log.terminal(count=1)
        assert ended.state == "cancelled"
        assert details(ended)["cancelled"]["by"] == "handler"
        assert details(ended)["cancelled"]["reason"] == "the customer is gone"


@in_loop
async def test_progress_and_log_lines_show_while_a_job_runs_and_stay_over_its_retries(log: Log) -> None:
    app, release = log.app(), asyncio.Event()

    @app.job("work", queue="q", retry=Retry(attempts=2, first="10ms"))
    async def work(ctx: JobContext) -> str:
        ctx.log(f"attempt {ctx.attempt} begins")
        ctx.progress(1, 4, "reading")
        if ctx.attempt == 1:
            raise ValueError
        await release.wait()
        ctx.progress(4, 4)
        return "done"

    async with working(app, limits=FAST_TOPIC):
        await work.send()

        async def shown() -> list[Any]:
            return [details(s) for s in await log.statuses() if s.state == "running" and s.details is not None]

        found = await until(shown, bool)
        assert found[-1]["progress"]["done"] == 1 and found[-1]["progress"]["message"] == "reading"
        release.set()
        (ended,) = await log.terminal(count=1)
        assert details(ended)["progress"]["done"] == 4
        assert [entry["line"] for entry in details(ended)["log"]] == ["attempt 1 begins", "attempt 2 begins"]


@in_loop
async def test_handlers_in_threads_report_too(log: Log) -> None:
    app = log.app()

    @app.job("work", queue="q")
    def work(ctx: JobContext) -> None:
        for n in range(500):
            ctx.log(f"line {n}")
            ctx.progress(n, 500)

    async with working(app):
        await work.send()
        (ended,) = await log.terminal(count=1)
        found = details(ended)
        assert found["progress"]["done"] == 499
        assert [entry["line"] for entry in found["log"]] == [f"line {n}" for n in range(400, 500)]
        assert found["log_dropped"] == 400


FAST_TOPIC = type(FAST)(
    commit_interval_s=0.05,
    session_timeout_ms=6_000,
    heartbeat_interval_ms=200,
    revoke_grace_s=3.0,
    memory_retry_delay_s=0.0,
)
