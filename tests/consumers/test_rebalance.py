"""Rebalances: long jobs live through them, and each job still ends once."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

from logqueue import App
from tests.consumers.conftest import FAST, Log, until, working

IMPATIENT = replace(FAST, revoke_grace_s=0.1)


def test_a_long_job_goes_on_through_rebalances_while_its_partition_stays(log: Log) -> None:
    async def main() -> None:
        runs: Counter[int] = Counter()
        release = asyncio.Event()

        def make() -> App:
            app = log.app()
            app.queue("q", order="none", partitions=4)

            @app.job("work", queue="q")
            async def work(*, n: int) -> int:
                runs[n] += 1
                if n == 0:
                    await release.wait()
                return n

            return app

        first, second = make(), make()
        async with working(first, limits=IMPATIENT) as one:
            jobs = await first.send_many(first.jobs["work"].prepare(tenant=f"t{n}", n=n) for n in range(40))
            await log.terminal(count=39)
            async with working(second, limits=IMPATIENT) as other:
                await until(_async(lambda: one.metrics().partitions), lambda count: 0 < count < 9)
                more = [first.jobs["work"].prepare(tenant=f"t{n}", n=n) for n in range(40, 80)]
                await first.send_many(more)
                await log.terminal(count=79)
                kept = any(str(tp.partition) == str(jobs[0].partition) for tp in _jobs_partitions(one))
                await other.stop()
            await until(_async(lambda: one.metrics().partitions), lambda count: count == 9)
            release.set()
            statuses = await log.terminal(count=80)
            await until(lambda: log.done(log.name, "q"), lambda done: done == 80)
        assert {status.state for status in statuses} == {"succeeded"}
        assert len(statuses) == 80, "one terminal status each"
        assert all(runs[n] == 1 for n in range(1, 80))
        assert runs[0] == 1 or not kept

    asyncio.run(main())


def _jobs_partitions(running: object) -> list[object]:
    member = running.worker._member  # type: ignore[attr-defined]
    return [tp for tp in member.partitions if ".jobs." in tp.topic]


def _async(look: object) -> object:
    async def looked() -> object:
        return look()  # type: ignore[operator]

    return looked
