"""Workers and brokers that are killed in the middle of transactions: each job ends once, with one follow-up."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from logqueue_schemas.job_status import TERMINAL

from logqueue import App
from logqueue.jobs.context import JobContext
from logqueue.jobs.settings import EXACTLY_ONCE, Settings
from tests.consumers.conftest import Log, until, working
from tests.consumers.exactly_once.children import Child, check_all_once, runs, wait_for
from tests.consumers.exactly_once.test_zombies import send
from tests.consumers.test_broker_death import KillableBroker

JOBS = 600


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_what_a_killed_worker_had_not_committed_happens_once_all_the_same(log: Log, tmp_path: Path) -> None:
    """Killed before its offsets are written, and before its end is asked for; replaced under its name."""
    side = tmp_path / "runs"

    async def main() -> None:
        sent = await send(log, side, range(JOBS))
        children: list[Child] = []
        try:
            for share, request_name in ((0.2, "TxnOffsetCommitRequest"), (0.5, "EndTxnRequest")):
                children.append(Child(log, side, "first", "static"))
                await wait_for(lambda share=share: len({n for n, _ in runs(side)}) > JOBS * share)  # type: ignore[misc]
                Path(f"{side}.freeze").write_text(request_name)
                await children[-1].frozen()
                children[-1].kill()
            children.append(Child(log, side, "first", "static"))
            await until(lambda: log.done(log.name, "first"), lambda done: done >= JOBS, patience_s=40)
            await children[-1].stopped()
        finally:
            for child in children:
                child.kill()
        assert len(runs(side)) < JOBS * 2
        await check_all_once(log, sent)

    asyncio.run(main())


@pytest.mark.slow
def test_a_broker_that_is_killed_in_the_middle_makes_nothing_happen_twice(tmp_path: Path) -> None:
    broker = KillableBroker(tmp_path / "data")

    async def main() -> None:
        settings = Settings(bootstrap=f"127.0.0.1:{broker.port}", topic_prefix="once.")
        log = Log(settings, "once")
        app = App("once", settings=settings, processing=EXACTLY_ONCE)
        app.queue("q", order="none", partitions=4)
        app.queue("next", order="none", partitions=4)
        ran: Counter[int] = Counter()

        @app.job("follow", queue="next")
        async def follow(*, n: int) -> None:
            pass

        @app.job("work", queue="q")
        async def work(ctx: JobContext, *, n: int) -> None:
            ran[n] += 1
            await asyncio.sleep(0.01)
            ctx.send(follow.prepare(tenant=ctx.tenant, n=n))

        async with working(app, concurrency=20):
            await app.send_many(work.prepare(tenant=f"t{n}", n=n) for n in range(JOBS))
            for share in (0.3, 0.6):
                await wait_for(lambda share=share: len(ran) > JOBS * share)  # type: ignore[misc]
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(broker.restart)
            statuses = await log.terminal(count=2 * JOBS)
        followed = [msgspec.json.decode(record.value)["n"] for record in await log.read("once.jobs.next")]
        assert Counter(followed) == Counter(range(JOBS))
        ended = Counter(status.id for status in statuses if status.state in TERMINAL)
        assert len(ended) == 2 * JOBS
        assert set(ended.values()) == {1}

    try:
        asyncio.run(main())
    finally:
        broker.kill()
