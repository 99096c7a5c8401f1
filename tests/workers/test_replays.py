"""Replays by choice, with effects denied and results compared, against both engines."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from logqueue_consumers.replaying.replay import run_replay
from logqueue_schemas.job_status import JobStatus

from logqueue import App, Retry
from logqueue.jobs.effects import Effects
from tests.consumers.conftest import FAST, Log, working


def make_app(log: Log, sent: list[Any], *, version: int, bonus: int = 0) -> App:
    app = log.app()
    app.queue("pay", partitions=2)

    async def mail(to: str) -> dict[str, str]:
        sent.append(to)
        return {"mail": f"m-{to}"}

    @app.job("price", queue="pay", version=version, retry=Retry(attempts=1))
    async def price(ctx, *, n: int) -> dict[str, Any]:  # type: ignore[no-untyped-def]
        if n == 3 and version == 2:
            raise ValueError("three")
        return {"total": n * 10 + bonus, "at": version}

    @app.job("remind", queue="pay", version=version)
    async def remind(ctx, *, n: int) -> object:  # type: ignore[no-untyped-def]
        return await ctx.effect(mail, f"t{n}@x")

    return app


async def lived(log: Log, app: App, type_: str, count: int) -> list[JobStatus]:
    async with working(app):
        await app.send_many(app.jobs[type_].prepare(tenant=f"t{n}", n=n) for n in range(count))
        return await log.terminal(count=count)


def test_a_replay_of_new_code_tells_what_it_changes(log: Log) -> None:
    async def main() -> None:
        await lived(log, make_app(log, [], version=1), "price", 6)
        options: dict[str, Any] = {"topic": "jobs.pay", "limits": FAST, "compare": True}
        same = await run_replay(make_app(log, [], version=1), group=f"s{log.name}", **options)
        assert same.comparison is not None
        assert same.comparison.is_same
        assert same.comparison.verdicts["same"] == 6
        changed = make_app(log, [], version=2, bonus=1)
        found = (await run_replay(changed, group=f"c{log.name}", ignore=("/at",), **options)).comparison
        assert found is not None
        assert {verdict: count for verdict, count in found.verdicts.items() if count} == {
            "different": 5,
            "now-fails": 1,
        }
        assert found.paths == {"/total": 5}, "the ignored path does not count"
        failing = next(example for example in found.examples if example.verdict == "now-fails")
        assert failing.replayed_error == "ValueError"

    asyncio.run(main())


def test_effects_touch_nothing_in_a_replay_unless_they_are_what_was_recorded(log: Log) -> None:
    async def main() -> None:
        sent: list[str] = []
        app = make_app(log, sent, version=1)
        statuses = await lived(log, app, "remind", 3)
        assert sorted(sent) == ["t0@x", "t1@x", "t2@x"]
        details = msgspec.json.decode(statuses[0].details or b"")
        assert details["version"] == 1
        assert [list(value) for value in details["effects"].values()] == [["mail"]]
        options: dict[str, Any] = {"topic": "jobs.pay", "limits": FAST, "compare": True}
        denied = await run_replay(app, group=f"d{log.name}", **options)
        none = await run_replay(app, group=f"n{log.name}", effects=Effects.NONE, **options)
        recorded = await run_replay(app, group=f"r{log.name}", effects=Effects.RECORDED, **options)
        assert (denied.dead, none.succeeded, recorded.succeeded) == (3, 3, 3)
        assert none.comparison is not None
        assert none.comparison.verdicts["different"] == 3
        assert recorded.comparison is not None
        assert recorded.comparison.is_same
        assert len(sent) == 3, "nobody got a mail from a replay"

    asyncio.run(main())


def test_chosen_records_alone_run_and_an_interrupted_choice_goes_on(log: Log) -> None:
    async def main() -> None:
        app = make_app(log, [], version=1)
        statuses = await lived(log, app, "price", 40)
        chosen: dict[int, list[int]] = {}
        for status in sorted(statuses, key=lambda status: status.offset):
            if status.offset % 3 == 1:
                chosen.setdefault(status.partition, []).append(status.offset)
        count = sum(map(len, chosen.values()))
        progress: list[tuple[int, int]] = []
        group = f"q{log.name}"
        summary = await run_replay(
            app,
            topic="jobs.pay",
            group=group,
            chosen=chosen,
            limits=FAST,
            on_progress=lambda *at: progress.append(at),
        )
        assert (summary.is_complete, summary.records, summary.succeeded) == (True, count, count)
        assert progress[-1] == (count, count)
        ran = {(status.partition, status.offset) for status in await log.statuses() if status.shadow}
        assert ran == {(partition, offset) for partition, offsets in chosen.items() for offset in offsets}
        again = await run_replay(app, topic="jobs.pay", group=group, chosen=chosen, limits=FAST)
        assert (again.is_complete, again.resumed, again.succeeded) == (True, count, 0)
        nothing = await run_replay(app, topic="jobs.pay", group=f"e{log.name}", chosen={}, limits=FAST)
        assert (nothing.is_complete, nothing.records) == (True, 0)

    asyncio.run(main())


@pytest.mark.parametrize("is_replay", [False, True])
def test_a_context_without_a_worker_runs_effects_live_and_denies_them_in_a_replay(is_replay: bool) -> None:
    from logqueue.jobs.errors import EffectDenied
    from tests.workers.test_isolated_jobs import context

    ctx = msgspec.structs.replace(context(), replaying=is_replay)
    if is_replay:
        with pytest.raises(EffectDenied):
            ctx.effect(lambda n: n + 1, 1)
    else:
        assert ctx.effect(lambda n: n + 1, 1) == 2
