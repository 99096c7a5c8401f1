"""A flood or a paused tenant larger than the window keeps nobody else waiting, keeps its order, and loses nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.consumers.conftest import FAST, Log, log, until, working  # noqa: F401 - a fixture
from tests.dispatch.test_limits_end_to_end import command, take_back

SMALL = replace(FAST, max_unfinished_per_partition=256)
"""Half of it is free for all, then a tenant has at most 64 more in hand."""


@pytest.mark.parametrize("order", ["tenant", "none"])
def test_a_flood_beyond_the_window_keeps_no_other_tenant_waiting(log: Log, order: str) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("work", order=order, partitions=1)
        may_go_on = asyncio.Event()
        flood: list[int] = []
        quiet: list[int] = []

        @app.job("step", queue="work")
        async def step(ctx, *, n: int) -> None:  # type: ignore[no-untyped-def]
            if ctx.tenant == "flood":
                await may_go_on.wait()
                flood.append(n)
            else:
                quiet.append(n)

        async with app:
            await app.send_many(step.prepare(tenant="flood", n=n) for n in range(2_000))
            await app.send_many(step.prepare(tenant="quiet", n=n) for n in range(20))
        async with working(app, concurrency=4 if order == "tenant" else 400, limits=SMALL):

            async def count() -> int:
                return len(quiet)

            await until(count, lambda found: found == 20)
            assert not flood
            may_go_on.set()
            await log.terminal(count=2_020)
        if order == "tenant":
            assert flood == list(range(2_000))
        assert sorted(flood) == list(range(2_000))
        assert await log.done(app.group, "work") == 2_020

    asyncio.run(main())


def test_what_is_aside_when_a_worker_stops_is_run_once_and_in_order_by_the_next(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("work", partitions=1)
        flood: list[int] = []
        quiet: list[int] = []
        stuck = asyncio.Event()

        @app.job("step", queue="work")
        async def step(ctx, *, n: int) -> None:  # type: ignore[no-untyped-def]
            if ctx.tenant == "flood":
                if n == 300 and not stuck.is_set():
                    stuck.set()
                    await asyncio.sleep(60)
                flood.append(n)
            else:
                quiet.append(n)

        async with app:
            for start in range(0, 1_500, 100):
                await app.send_many(step.prepare(tenant="flood", n=n) for n in range(start, start + 100))
                await app.send_many([step.prepare(tenant="quiet", n=start)])

        async def count() -> int:
            return len(quiet)

        async with working(app, limits=replace(SMALL, drain_timeout_s=0.1)):
            await until(count, lambda found: found == 15)
            await stuck.wait()
            assert flood == list(range(300))
        async with working(app, limits=SMALL):
            await log.terminal(count=1_515)
        assert flood == list(range(1_500))
        assert quiet == list(range(0, 1_500, 100))

    asyncio.run(main())


def test_a_paused_tenant_with_more_jobs_than_the_window_keeps_nobody_waiting(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("work", partitions=1)
        done: list[tuple[str, int]] = []

        @app.job("step", queue="work")
        async def step(ctx, *, n: int) -> None:  # type: ignore[no-untyped-def]
            done.append((ctx.tenant, n))

        async with app:
            await app.send_many(step.prepare(tenant="paused", n=n) for n in range(1_000))
            await app.send_many(step.prepare(tenant="free", n=n) for n in range(20))
        await command(app, "pause/tenant/work/paused")
        async with working(app, limits=SMALL):
            await log.terminal(count=20)
            assert {tenant for tenant, _ in done} == {"free"}
            await take_back(app, "pause/tenant/work/paused")
            await log.terminal(count=1_020)
        assert [n for tenant, n in done if tenant == "paused"] == list(range(1_000))
        assert len(done) == 1_020

    asyncio.run(main())
