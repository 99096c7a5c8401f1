"""Rebalances: a long job goes on while its partition stays, runs elsewhere when it goes, and ends once either way."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from logqueue import App
from logqueue.jobs.partitioning import partition_of
from tests.consumers.conftest import FAST, Log, until, working

PARTITIONS = 4
IMPATIENT = replace(FAST, revoke_grace_s=0.1)


@pytest.mark.parametrize(("earlier", "expected_runs"), [(0, 1), (PARTITIONS // 2, 2)], ids=["stays", "goes"])
def test_a_long_job_ends_once_through_a_rebalance(log: Log, earlier: int, expected_runs: int) -> None:
    """A worker keeps its share of partitions, first those where jobs run longest: `earlier` others began before."""

    async def main() -> None:
        runs: Counter[int] = Counter()
        interruptions: list[str] = []
        release = asyncio.Event()

        def make(name: str) -> App:
            app = log.app()
            app.queue("q", order="none", partitions=PARTITIONS)

            @app.job("work", queue="q")
            async def work(*, n: int) -> str:
                runs[n] += 1
                try:
                    if n <= 0:
                        await release.wait()
                except asyncio.CancelledError:
                    interruptions.append(name)
                    raise
                return name

            return app

        first, second = make("first"), make("second")
        tenants = {partition_of(str(n).encode(), PARTITIONS): str(n) for n in range(200)}
        async with working(first, limits=IMPATIENT) as one:
            for number in range(earlier):
                await first.jobs["work"].send(tenant=tenants[number], n=-1 - number)
                await until(_value(lambda: runs[-1 - number]), bool)  # noqa: B023
            tenant = tenants[PARTITIONS - 1]
            long = await first.jobs["work"].send(tenant=tenant, n=0)
            await first.send_many(first.jobs["work"].prepare(tenant=f"t{n}", n=n) for n in range(1, 40))
            await log.terminal(count=39)
            async with working(second, limits=IMPATIENT):

                async def shared() -> int:
                    return one.metrics().partitions

                # 4 job, 4 retry, 1 parked: the newcomer takes the upper half of each topic
                await until(shared, lambda owned: owned == 5)
                await until(_value(lambda: runs[0]), lambda number: number == expected_runs)
                release.set()
                statuses = await log.terminal(count=40 + earlier)
                await until(lambda: log.done(log.name, "q"), lambda done: done == 40 + earlier)
        (status,) = [status for status in statuses if status.id == long.id]
        assert status.result == (b'"first"' if expected_runs == 1 else b'"second"')
        assert interruptions == ([] if expected_runs == 1 else ["first"])
        assert status.attempt == 1
        assert all(runs[n] == 1 for n in range(1, 40))

    asyncio.run(main())


def _value(look: object) -> object:
    async def looked() -> object:
        return look()  # type: ignore[operator]

    return looked
