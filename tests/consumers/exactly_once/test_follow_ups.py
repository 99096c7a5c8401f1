"""Follow-up jobs exist if and only if the attempt that sent them succeeded, in both ways of processing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

import msgspec
import pytest
from logqueue_consumers.running.follow_ups import MAX_FOLLOW_UPS
from logqueue_schemas.job_status import State

from logqueue import App, Retry
from logqueue.jobs.context import JobContext
from logqueue.jobs.settings import PROCESSINGS
from tests.consumers.conftest import Log, until, working

JOB = {"job_id": "1", "type": "work", "tenant": "t", "queue": "q", "group": "g", "attempt": 1, "max_attempts": 1}
PLACE = {"replay": 0, "replaying": False, "created_ms": 0, "topic": "t", "partition": 0, "offset": 0, "headers": {}}


def in_mode(log: Log, processing: str) -> App:
    app = App(log.name, settings=replace(log.settings, processing=None), processing=processing)
    app.queue("q", order="none", partitions=2)
    app.queue("next", order="none", partitions=2)
    return app


async def followed(log: Log) -> list[int]:
    return [msgspec.json.decode(record.value)["n"] for record in await log.read(log.settings.topics.jobs("next"))]


@pytest.mark.parametrize("processing", PROCESSINGS)
def test_what_a_failing_attempt_sent_is_never_there(log: Log, processing: str) -> None:
    async def main() -> None:
        app = in_mode(log, processing)
        attempts: Counter[int] = Counter()

        @app.job("follow", queue="next")
        async def follow(*, n: int) -> int:
            return n

        @app.job("work", queue="q", retry=Retry(attempts=2, first="10ms", jitter=False))
        async def work(ctx: JobContext, *, n: int) -> None:
            attempts[n] += 1
            for part in range(3):
                ctx.send(follow.prepare(tenant=ctx.tenant, n=n * 10 + part))
            if n == 0 or (n == 1 and attempts[n] == 1):
                raise ValueError("no")

        @app.job("plain", queue="q")
        def plain(ctx: JobContext, *, n: int) -> None:
            ctx.send(follow.prepare(tenant=ctx.tenant, n=n * 10))

        async with working(app):
            await work.send(n=0)  # fails for good
            await work.send(n=1)  # fails once
            await work.send(n=2)
            await plain.send(n=3)  # in a thread
            # 4 jobs and the follow-ups of the last three: 3 + 3 + 1
            statuses = await log.terminal(count=11)
        assert Counter(status.state for status in statuses) == {State.DEAD: 1, State.SUCCEEDED: 10}
        assert sorted(await followed(log)) == [10, 11, 12, 20, 21, 22, 30]

    asyncio.run(main())


def test_a_fan_out_of_thousands_is_one_transaction_and_all_there(log: Log) -> None:
    count = 5_000

    async def main() -> None:
        app = in_mode(log, "exactly_once")

        @app.job("follow", queue="next")
        async def follow(*, n: int) -> None:
            pass

        @app.job("work", queue="q")
        async def work(ctx: JobContext, *, n: int) -> None:
            for number in range(n):
                ctx.send(follow.prepare(tenant=f"t{number % 50}", n=number))

        async with working(app):
            await work.send(n=count)
            await until(lambda: log.done(log.name, "q"), bool)
            assert sorted(await followed(log)) == list(range(count))

    asyncio.run(main())


def test_follow_ups_have_bounds_and_end_with_their_attempt(log: Log) -> None:
    async def main() -> None:
        app = in_mode(log, "exactly_once")
        late: list[str] = []
        is_over = asyncio.Event()

        @app.job("follow", queue="next")
        async def follow(*, n: int, text: str = "") -> None:
            pass

        @app.job("many", queue="q", retry=Retry(attempts=1))
        async def many(ctx: JobContext) -> None:
            job = follow.prepare(n=1)
            for _ in range(MAX_FOLLOW_UPS + 1):
                ctx.send(job)

        @app.job("large", queue="q", retry=Retry(attempts=1))
        async def large(ctx: JobContext) -> None:
            ctx.send(follow.prepare(n=1, text="x" * 1_000_001))

        @app.job("late", queue="q", retry=Retry(attempts=1), timeout="50ms")
        def too_late(ctx: JobContext) -> None:
            deadline_s = time.monotonic() + 10
            while not late and time.monotonic() < deadline_s:
                try:
                    ctx.send(follow.prepare(n=2))
                except Exception as error:
                    late.append(type(error).__name__)
                time.sleep(0.01)
            loop.call_soon_threadsafe(is_over.set)

        loop = asyncio.get_running_loop()
        async with working(app):
            for job in (many, large, too_late):
                await job.send()
            statuses = await log.terminal(count=3)
            async with asyncio.timeout(10):
                await is_over.wait()
        errors = {status.type: status.error.type for status in statuses if status.error is not None}
        assert errors == {"many": "TooManyFollowUps", "large": "JobTooLarge", "late": "JobTimeout"}
        assert late == ["AttemptOver"]
        assert await followed(log) == []

    asyncio.run(main())


def test_without_a_worker_a_follow_up_goes_nowhere_and_has_its_id() -> None:
    app = App("unit")

    @app.job("follow")
    async def follow(*, n: int) -> None:
        pass

    job = follow.prepare(n=1)
    assert JobContext(**JOB, **PLACE).send(job) == job.id  # type: ignore[arg-type]
