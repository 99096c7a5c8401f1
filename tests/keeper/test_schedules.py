"""Cron schedules on a log: declared in code, set and paused by operators, one job per run whoever owns them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from logqueue import App, JobContext
from logqueue.jobs.errors import InvalidArguments, InvalidDefinition
from logqueue.jobs.schedules import Mark, Override, decode_state, encode, new_schedule
from tests.consumers.conftest import FAST, Log, until, working


async def written(log: Log, key: str, value: bytes | None) -> None:
    """What REST and CLI write."""
    await log.produce(log.settings.topics.schedules, value, key=key.encode(), partition=0)


async def latest(log: Log, key: str) -> bytes | None:
    found = [r.value for r in await log.read(log.settings.topics.schedules) if r.key == key.encode()]
    return found[-1] if found else None


def app_with_ticks(log: Log, **schedule: Any) -> tuple[App, list[tuple[str, datetime | None, str]]]:
    app, seen = log.app(), []

    @app.job("tick", queue="q")
    async def tick(ctx: JobContext, *, n: int = 0) -> int:
        seen.append((ctx.job_id, ctx.scheduled_at, ctx.tenant))
        return n

    if schedule:
        app.schedule("ticks", job=tick, **schedule)
    return app, seen


def test_a_declared_schedule_makes_a_job_per_run_with_its_time(log: Log) -> None:
    async def scenario() -> None:
        app, seen = app_with_ticks(log, cron="* * * * * *", tenant="acme", arguments={"n": 4})
        async with working(app, limits=FAST):
            done = await log.terminal(count=3)
        assert {str(status.state) for status in done} == {"succeeded"}
        assert {status.result for status in done} == {b"4"}
        ids = [job_id for job_id, _, _ in seen]
        assert len(ids) == len(set(ids))
        for job_id, at, tenant in seen:
            assert at is not None and at <= datetime.now(UTC)
            assert job_id == f"ticks@{at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}"
            assert tenant == "acme"

    asyncio.run(scenario())


def test_a_schedule_that_is_no_longer_declared_ends_with_the_next_start(log: Log) -> None:
    async def scenario() -> None:
        app, _ = app_with_ticks(log, cron="* * * * * *")
        async with working(app, limits=FAST):
            await log.terminal(count=1)
        app, _ = app_with_ticks(log)
        async with working(app, limits=FAST):
            await until(lambda: latest(log, "state/ticks"), lambda value: value is None)
        assert await latest(log, f"declared/{app.name}") is None

    asyncio.run(scenario())


def test_operators_set_pause_and_run_schedules(log: Log) -> None:
    async def scenario() -> None:
        app, seen = app_with_ticks(log, every="1d")
        async with working(app, limits=FAST):
            await until(lambda: latest(log, "state/ticks"), lambda value: value is not None)
            await written(log, "run/ticks/one", encode(Mark(by="ann", at=1)))
            await until(lambda: latest(log, "run/ticks/one"), lambda value: value is None)
            await log.terminal(count=1)
            assert [job_id for job_id, _, _ in seen] == ["ticks@run-one"]
            quick = new_schedule("ticks", type="tick", queue="q", arguments={"n": 9}, cron="* * * * * *")
            await written(log, "schedule/ticks", encode(Override(schedule=quick, by="ann")))
            await log.terminal(count=2)
            await written(log, "pause/ticks", encode(Mark(by="ann", at=2)))

            async def state() -> Any:
                value = await latest(log, "state/ticks")
                return None if value is None else decode_state(value)

            await until(state, lambda found: found is not None and found.next is None)
            await written(log, "schedule/ticks", encode(Override(removed=True, by="ann")))
            await until(state, lambda found: found is None)
        assert {status.result for status in await log.terminal(count=2)} == {b"0", b"9"}

    asyncio.run(scenario())


@pytest.mark.parametrize("overlap", ["skip", "buffer"])
def test_the_next_run_waits_until_a_worker_tells_of_the_end(log: Log, overlap: str) -> None:
    async def scenario() -> None:
        app = log.app()
        running, most, finished = 0, 0, []

        @app.job("slow", queue="q")
        async def slow(ctx: JobContext) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(1.2)  # longer than the schedule's interval
            running -= 1
            finished.append(ctx.job_id)

        app.schedule("slow", job=slow, cron="* * * * * *", overlap=overlap)
        async with working(app, limits=FAST):
            await log.terminal(count=2)
        assert most == 1
        assert len(finished) == len(set(finished))

    asyncio.run(scenario())


def test_any_number_of_workers_makes_one_job_per_run(log: Log) -> None:
    async def scenario() -> None:
        apps = [app_with_ticks(log, cron="* * * * * *") for _ in range(2)]
        async with working(apps[0][0], limits=FAST), working(apps[1][0], limits=FAST):
            await log.terminal(count=3)
        made = [dict(r.headers)["ce_id"] for r in await log.read(log.settings.topics.jobs("q"))]
        assert len(made) >= 3
        assert len(made) == len(set(made))

    asyncio.run(scenario())


def test_a_schedule_that_cannot_work_is_refused_where_it_is_declared() -> None:
    app = App("a")

    @app.job("tick")
    async def tick(*, n: int) -> None: ...

    with pytest.raises(InvalidArguments, match="n"):
        app.schedule("x", job=tick, every="1m")
    with pytest.raises(InvalidDefinition, match="Schedule 'x': cron"):
        app.schedule("x", job=tick, cron="nonsense", arguments={"n": 1})
    with pytest.raises(InvalidDefinition, match="overlap"):
        app.schedule("x", job=tick, every="1m", overlap="maybe", arguments={"n": 1})
    app.schedule("x", job=tick, every="1m", arguments={"n": 1})
    with pytest.raises(InvalidDefinition, match="twice"):
        app.schedule("x", job=tick, every="1m", arguments={"n": 1})
    assert msgspec.json.decode(encode(app.schedules["x"]))["every_ms"] == 60_000
