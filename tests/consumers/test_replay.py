"""Replay: the same handlers over history, in a shadow group, without a trace in the live one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.replaying.extent import InvalidReplay
from logqueue_consumers.replaying.replay import run_replay
from logqueue_schemas.job_status import TERMINAL

from logqueue import App, Retry
from tests.consumers.conftest import FAST, Log, working
from tests.consumers.exactly_once.marked_shop import JOBS, THROUGH_TOPICS, Shop
from tests.loops import in_loop


def make_app(log: Log, seen: list[tuple[int, bool, str]]) -> App:
    app = log.app()
    app.queue("flights", partitions=4)

    @app.job("fly", queue="flights", retry=Retry(attempts=2, first="10ms"))
    async def fly(ctx, *, n: int) -> int:  # type: ignore[no-untyped-def]
        seen.append((n, ctx.replaying, ctx.group))
        if n % 10 == 7:
            raise ValueError("seven")
        return n

    return app


async def live_run(log: Log, app: App, count: int) -> None:
    async with working(app):
        await app.send_many(app.jobs["fly"].prepare(tenant=f"t{n % 7}", n=n) for n in range(count))
        await log.terminal(count=count)


def test_a_replay_runs_history_again_and_leaves_the_live_group_alone(log: Log) -> None:
    async def main() -> None:
        seen: list[tuple[int, bool, str]] = []
        app = make_app(log, seen)
        await live_run(log, app, 100)
        topic = log.settings.topics.jobs("flights")
        committed = await log.committed(app.group)
        live = [status for status in await log.statuses() if not status.shadow]
        letters = len(await log.read(log.settings.topics.dlq("flights", app.group)))
        seen.clear()
        progress: list[tuple[int, int]] = []
        summary = await run_replay(
            app, topic=topic, group="audit" + log.name, on_progress=lambda *at: progress.append(at), limits=FAST
        )
        assert summary.is_complete
        assert (summary.records, summary.succeeded, summary.dead, summary.resumed) == (100, 90, 10, 0)
        assert progress[-1] == (100, 100)
        assert {n for n, _, _ in seen} == set(range(100))
        assert {(replaying, group) for _, replaying, group in seen} == {(True, "audit" + log.name)}
        statuses = await log.statuses()
        assert [status for status in statuses if not status.shadow] == live
        shadows = [status for status in statuses if status.shadow and status.state in TERMINAL]
        assert len({status.key for status in shadows}) == 100
        assert all(status.key.startswith(f"audit{log.name}/".encode()) for status in shadows)
        assert await log.committed(app.group) == committed
        assert len(await log.read(log.settings.topics.dlq("flights", app.group))) == letters
        assert await log.read(log.settings.topics.dlq("flights", "audit" + log.name)) == []

    asyncio.run(main())


@in_loop
async def test_markers_of_transactions_are_no_records_of_a_replay(log: Log) -> None:
    shop = Shop(log)
    async with working(shop.app, limits=THROUGH_TOPICS):
        await shop.run_jobs()
    topic = log.settings.topics.jobs("next")
    progress: list[tuple[int, int]] = []
    summary = await run_replay(
        shop.app, topic=topic, group="audit" + log.name, on_progress=lambda *at: progress.append(at), limits=FAST
    )
    assert summary.is_complete
    assert summary.records == summary.succeeded == len(await log.read(topic)) == JOBS - 1
    assert progress[-1] == (JOBS - 1, JOBS - 1)
    assert all(done <= total for done, total in progress)


def test_an_interrupted_replay_goes_on_where_it_was(log: Log) -> None:
    async def main() -> None:
        seen: list[tuple[int, bool, str]] = []
        app = make_app(log, seen)
        await live_run(log, app, 300)
        seen.clear()
        topic, stop = log.settings.topics.jobs("flights"), asyncio.Event()
        limits = WorkerLimits(max_unfinished=20, commit_interval_s=0.05)

        def stop_half_way(done: int, total: int) -> None:
            if done > 50:
                stop.set()

        first = await run_replay(
            app, topic=topic, group=f"r{log.name}", stop=stop, on_progress=stop_half_way, limits=limits
        )
        second = await run_replay(app, topic=topic, group=f"r{log.name}", limits=FAST)
        assert second.is_complete
        assert second.records == 300
        assert second.resumed == first.succeeded + first.dead
        assert {n for n, _, _ in seen} == set(range(300))
        runs = [n for n, _, _ in seen if n % 10 != 7]
        assert len(runs) == len(set(runs)), "nothing that was done is done again"
        third = await run_replay(app, topic=topic, group=f"r{log.name}", limits=FAST)
        assert (third.is_complete, third.resumed, third.succeeded) == (True, 300, 0)

    asyncio.run(main())


def test_start_and_end_bound_a_replay_by_offset_and_by_time(log: Log) -> None:
    async def main() -> None:
        seen: list[tuple[int, bool, str]] = []
        app = make_app(log, seen)
        app.queue("one", partitions=1)

        @app.job("step", queue="one")
        async def step(ctx, *, n: int) -> int:  # type: ignore[no-untyped-def]
            if ctx.replaying:
                seen.append((n, True, ctx.group))
            return n

        async with working(app):
            for n in range(6):
                await step.send(n=n)
            await log.terminal(count=6)
        records = await log.read(log.settings.topics.jobs("one"))
        await run_replay(app, topic="jobs.one", group=f"a{log.name}", start=2, end=5, limits=FAST)
        assert sorted(n for n, _, _ in seen) == [2, 3, 4]
        seen.clear()
        at = datetime.fromtimestamp(records[4].timestamp / 1000, UTC)
        expected = [n for n, record in enumerate(records) if record.timestamp >= records[4].timestamp]
        await run_replay(app, topic="jobs.one", group=f"b{log.name}", start=at, limits=FAST)
        assert sorted(n for n, _, _ in seen) == expected

    asyncio.run(main())


def test_what_cannot_be_replayed_is_told_before_anything_runs(log: Log) -> None:
    async def main() -> None:
        app = make_app(log, [])
        await live_run(log, app, 1)
        cases = {
            "no topic of jobs": {"topic": "elsewhere", "group": "g"},
            "live group": {"topic": "jobs.flights", "group": app.group},
            "no queue": {"topic": "jobs.other", "group": "g"},
        }
        for text, options in cases.items():
            with pytest.raises(InvalidReplay, match=text):
                await run_replay(app, **options, limits=FAST)

    asyncio.run(main())
