"""Jobs that wait long: moved to `jobs.schedules`, back when due, never early or twice, cancelled while they wait."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from logqueue_consumers.limits import WorkerLimits

from logqueue import JobContext, Retry, Snooze
from logqueue.jobs.control import cancel_command, run_now_command
from tests.consumers.conftest import FAST, Log, until, working

IMPATIENT = replace(FAST, memory_retry_delay_s=0.35)
"""Everything that waits longer than this goes to the keeper."""


async def waiting(log: Log) -> dict[bytes, Any]:
    """What stands in `jobs.schedules`."""
    records = await log.read(log.settings.topics.schedules)
    gone = {record.key for record in records if record.value is None}
    return {record.key: record for record in records if record.key not in gone}


def test_a_far_job_waits_in_the_schedules_and_runs_when_it_is_due(log: Log) -> None:
    async def scenario() -> None:
        app, runs = log.app(), []

        @app.job("late", queue="q")
        async def late(ctx: JobContext, *, n: int) -> int:
            runs.append((time.time(), ctx.job_id, ctx.attempt, n))
            return n

        async with working(app, limits=IMPATIENT):
            sent = int(time.time() * 1000) / 1000  # clocks are read in milliseconds
            job = await late.with_(delay="5s", tenant="acme").send(n=7)
            state = await job.wait(timeout=60)
        assert state.result == 7
        assert [(job_id, attempt, n) for _, job_id, attempt, n in runs] == [(job.id, 1, 7)]
        assert runs[0][0] >= sent + 5.0
        assert await log.states(job.id) == ["scheduled", "queued", "succeeded"]
        statuses = [status for status in await log.statuses() if status.id == job.id]
        assert statuses[0].due_at is not None and statuses[0].due_at / 1e6 >= sent + 5.0
        assert [status.version for status in statuses] == sorted(status.version for status in statuses)
        assert {(s.topic, s.partition, s.offset) for s in statuses} == {(job.topic, job.partition, job.offset)}
        assert {s.tenant for s in statuses} == {"acme"}
        assert await waiting(log) == {}

    asyncio.run(scenario())


def test_a_job_of_next_year_survives_the_workers_and_is_not_run(log: Log) -> None:
    async def scenario() -> None:
        app, runs = log.app(), []

        @app.job("late", queue="q")
        async def late(*, n: int) -> None:
            runs.append(n)

        next_year = datetime.now(UTC) + timedelta(days=365)
        async with working(app, limits=FAST):
            job = await late.with_(run_at=next_year).send(n=1)
            await until(lambda: waiting(log), lambda found: len(found) == 1)
        async with working(app, limits=FAST):
            done = await late.send(n=2)
            await done.wait(timeout=60)
        found = await waiting(log)
        assert list(found) == [f"job/{app.group}/q/{job.id}".encode()]
        assert runs == [2]

    asyncio.run(scenario())


def test_a_missing_key_comes_back_as_it_was(log: Log) -> None:
    async def scenario() -> None:
        app, seen = log.app(), []
        app.queue("q", default_type="late")

        @app.job("late", queue="q")
        async def late(ctx: JobContext) -> None:
            seen.append((ctx.job_id, ctx.tenant, ctx.headers.get("mine")))

        async with working(app, limits=IMPATIENT):
            due = (datetime.now(UTC) + timedelta(seconds=5)).isoformat().encode()
            headers = [("job-not-before", due), ("mine", b"1")]
            at = await log.produce(log.settings.topics.jobs("q"), b"{}", headers=headers)
            (done,) = await log.terminal(count=1)
        assert seen == [(f"{at.topic}-{at.partition}-{at.offset}", "default", b"1")]
        assert done.id == seen[0][0] and done.state == "succeeded"
        retried = await log.read(log.settings.topics.retry("q", app.group))
        assert [(record.key, record.value) for record in retried] == [(None, b"{}")]

    asyncio.run(scenario())


def test_a_late_retry_waits_in_the_schedules_and_keeps_its_count(log: Log) -> None:
    async def scenario() -> None:
        app, attempts = log.app(), []

        @app.job("shaky", queue="q", retry=Retry(attempts=3, first="400ms", factor=1.0, jitter=0.0))
        async def shaky(ctx: JobContext) -> int:
            attempts.append(ctx.attempt)
            if ctx.attempt < 3:
                raise ValueError("not yet")
            return ctx.attempt

        async with working(app, limits=IMPATIENT):
            job = await shaky.send()
            state = await job.wait(timeout=60)
        assert state.result == 3
        assert attempts == [1, 2, 3]
        kept = [record for record in await log.read(log.settings.topics.schedules) if record.value is not None]
        assert [dict(record.headers)["job-attempt"] for record in kept] == [b"2", b"3"]
        statuses = [status for status in await log.statuses() if status.id == job.id]
        assert [status.version for status in statuses] == sorted(status.version for status in statuses)

    asyncio.run(scenario())


def test_a_snooze_uses_up_no_attempt(log: Log) -> None:
    async def scenario() -> None:
        app, attempts = log.app(), []

        @app.job("sleepy", queue="q", retry=Retry(attempts=1))
        async def sleepy(ctx: JobContext) -> int:
            attempts.append(ctx.attempt)
            if len(attempts) == 1:
                ctx.snooze("50ms")
            if len(attempts) == 2:
                raise Snooze("700ms")
            return len(attempts)

        async with working(app, limits=IMPATIENT):
            job = await sleepy.send()
            state = await job.wait(timeout=60)
        assert state.result == 3
        assert attempts == [1, 1, 1]
        statuses = [status for status in await log.statuses() if status.id == job.id]
        assert [status.version for status in statuses] == sorted(status.version for status in statuses)
        assert [str(s.state) for s in statuses if s.state != "running"][-3:] == ["scheduled", "queued", "succeeded"]

    asyncio.run(scenario())


def test_a_job_that_expires_while_it_waits_is_not_run(log: Log) -> None:
    async def scenario() -> None:
        app, runs = log.app(), []

        @app.job("sleepy", queue="q")
        async def sleepy(ctx: JobContext) -> None:
            runs.append(ctx.attempt)
            raise Snooze("1h")

        async with working(app, limits=IMPATIENT):
            job = await sleepy.with_(expires="5s").send()
            state = await job.wait(timeout=60)
        assert str(state.state) == "expired"
        assert runs == [1]
        assert await waiting(log) == {}

    asyncio.run(scenario())


def test_a_waiting_job_is_cancelled_and_another_hurried(log: Log) -> None:
    async def scenario() -> None:
        app, runs = log.app(), []

        @app.job("late", queue="q")
        async def late(*, n: int) -> None:
            runs.append(n)

        async with working(app, limits=FAST):
            gone, soon = [await late.with_(delay="1d").send(n=n) for n in (1, 2)]
            await until(lambda: waiting(log), lambda found: len(found) == 2)
            now_ms = int(time.time() * 1000)
            for command in (
                cancel_command(gone.id, replay=0, by="ann", at_ms=now_ms, reason="moot"),
                run_now_command(soon.id, replay=0, by="ann", at_ms=now_ms),
            ):
                key, value = command.record()
                await log.produce(log.settings.topics.control, value, key=key)
            assert str((await gone.wait(timeout=60)).state) == "cancelled"
            assert str((await soon.wait(timeout=60)).state) == "succeeded"
        assert runs == [2]
        assert await waiting(log) == {}
        control = {record.key: record.value for record in await log.read(log.settings.topics.control)}
        assert control[f"cancel/{gone.id}".encode()] is None

    asyncio.run(scenario())


def test_more_near_retries_than_memory_holds_go_to_the_keeper(log: Log) -> None:
    async def scenario() -> None:
        app, runs = log.app(), []

        @app.job("late", queue="q")
        async def late(*, n: int) -> None:
            runs.append(n)

        limits: WorkerLimits = replace(FAST, max_delayed=3)
        async with working(app, limits=limits):
            jobs = [await late.with_(delay="2s", tenant=f"t{n}").send(n=n) for n in range(12)]
            for job in jobs:
                await job.wait(timeout=60)
        assert sorted(runs) == list(range(12))

    asyncio.run(scenario())
