"""Steps of a job run once: over retries, interruptions, other workers. On every engine; the store beside a model."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from logqueue_consumers.control import step_store
from logqueue_consumers.control.step_store import MAX_RESULT_BYTES, StepStore
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.running.context_services import encode_step
from logqueue_consumers.writing.batch_producer import BatchProducer

from logqueue import Retry
from logqueue.jobs.connection import new_reader, stop_client
from logqueue.jobs.context import JobContext
from logqueue.jobs.errors import StepRefused
from logqueue.jobs.headers import JobHeaders
from logqueue.jobs.settings import Settings
from logqueue.jobs.steady_fetch import FetchingEnded
from tests.consumers.conftest import FAST, Log, until, working
from tests.loops import in_loop


async def kept_steps(log: Log) -> dict[bytes, bytes | None]:
    """The steps topic as compaction would leave it, withdrawn ones left out."""
    last = {record.key: record.value for record in await log.read(log.settings.topics.steps)}
    return {key: value for key, value in last.items() if value is not None}


@in_loop
async def test_a_step_runs_once_however_often_its_job_does_and_is_forgotten_with_it(log: Log) -> None:
    app, ran = log.app(), []

    @app.job("order", queue="q", retry=Retry(attempts=4, first="10ms"))
    async def order(ctx: JobContext) -> list[Any]:
        async def charge(amount: int) -> dict[str, int]:
            ran.append(("charge", ctx.attempt))
            return {"charged": amount}

        def reserve() -> tuple[int, int]:
            ran.append(("reserve", ctx.attempt))
            return (1, 2)

        receipt = await ctx.step("charge", charge, 5)
        if ctx.attempt == 1:
            raise ConnectionError
        places = await ctx.step("reserve", reserve)
        if ctx.attempt < 4:
            raise ConnectionError
        return [receipt, places, ctx.attempt]

    async with working(app):
        await order.send(tenant="acme")
        (ended,) = await log.terminal(count=1)
        assert msgspec.json.decode(ended.result or b"") == [{"charged": 5}, [1, 2], 4]
        assert ran == [("charge", 1), ("reserve", 2)]
        await until(lambda: kept_steps(log), lambda kept: not kept)


@in_loop
async def test_steps_survive_the_worker(log: Log) -> None:
    ran: list[str] = []
    waiting = asyncio.Event()

    def make() -> Any:
        app = log.app()

        @app.job("order", queue="q")
        async def order(ctx: JobContext, *, is_last: bool = False) -> int:
            def first() -> int:
                ran.append("first")
                return 7

            found = await ctx.step("first", first)
            if len(ran) == 1 and not waiting.is_set():
                waiting.set()
                await asyncio.Event().wait()
            return found

        return app, order

    app, order = make()
    async with working(app) as worker:
        await order.send()
        await waiting.wait()
        await worker.stop(hurry=True)  # the job goes back, its attempt unchanged
    app, order = make()
    async with working(app):
        (ended,) = await log.terminal(count=1)
        assert ended.result == b"7" and ended.attempt == 1
    assert ran == ["first"]


@in_loop
async def test_plain_handlers_have_steps_and_retries_through_the_topic_keep_them(log: Log) -> None:
    app, ran = log.app(), []

    @app.job("order", queue="q", retry=Retry(attempts=3, first="50ms"))
    def order(ctx: JobContext) -> int:
        found = ctx.step_sync("first", lambda: ran.append(ctx.attempt) or 3)
        if ctx.attempt < 3:
            raise ConnectionError
        return found

    limits = type(FAST)(
        commit_interval_s=0.05, session_timeout_ms=6_000, heartbeat_interval_ms=200, memory_retry_delay_s=0.0
    )
    async with working(app, limits=limits):
        await order.send()
        (ended,) = await log.terminal(count=1)
        assert (ended.result, ended.attempt, ran) == (b"3", 3, [1])


@in_loop
async def test_a_step_that_cannot_be_kept_ends_the_job(log: Log) -> None:
    app = log.app()

    @app.job("twice", queue="q", retry=Retry(attempts=3))
    async def twice(ctx: JobContext) -> None:
        await ctx.step("s", int)
        await ctx.step("s", int)

    @app.job("unnamed", queue="q")
    async def unnamed(ctx: JobContext) -> None:
        await ctx.step("", int)

    async with working(app):
        await twice.send()
        await unnamed.send()
        ended = await log.terminal(count=2)
        assert {(str(s.state), s.error.type if s.error else None) for s in ended} == {("dead", "StepRefused")}


@in_loop
async def test_without_a_worker_steps_just_run() -> None:
    ctx = JobContext(
        job_id="j", type="t", tenant="t", queue="q", group="g", attempt=1, max_attempts=1, replay=0, replaying=False,
        created_ms=0, topic="t", partition=0, offset=0, headers={},
    )  # fmt: skip

    async def double(n: int) -> int:
        return 2 * n

    assert await ctx.step("a", double, 4) == 8
    assert ctx.step_sync("b", lambda n: n + 1, 4) == 5
    ctx.progress(1, 2)
    ctx.log("x")
    assert not ctx.cancelled
    ctx.raise_if_cancelled()


@pytest.mark.parametrize("result", [object(), "x" * (MAX_RESULT_BYTES + 1)])
def test_results_that_have_no_bounded_json_are_refused(result: object) -> None:
    with pytest.raises(StepRefused):
        encode_step("s", result)


@pytest.mark.parametrize("error", [FetchingEnded("for good"), TimeoutError()], ids=["ended", "too slow"])
@in_loop
async def test_a_reader_that_has_failed_is_not_asked_again(
    log: Log, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    readers: list[AIOKafkaConsumer] = []
    stopped: list[AIOKafkaConsumer] = []

    def reader(settings: Settings) -> AIOKafkaConsumer:
        readers.append(made := new_reader(settings))
        if len(readers) == 1:
            monkeypatch.setattr(made, "getmany", AsyncMock(side_effect=error))
        return made

    async def stop(client: AIOKafkaConsumer, **options: Any) -> None:
        stopped.append(client)
        await stop_client(client, **options)

    monkeypatch.setattr(step_store, "new_reader", reader)
    monkeypatch.setattr(step_store, "stop_client", stop)
    producer = BatchProducer(log.settings, batch_bytes=WorkerLimits().batch_bytes, max_backoff_s=1.0)
    await producer.start()
    store = StepStore(log.settings, producer, group="g")
    try:
        await store.keep(job_of("a"), "s", b"1")
        with pytest.raises(type(error)):
            await store.find(job_of("a"), "s", is_first=True)
        assert stopped == readers[:1]
        assert await store.find(job_of("a"), "s", is_first=True) == b"1"
        assert len(readers) == 2
    finally:
        await store.stop()
        await producer.stop()


@pytest.mark.parametrize("seed", range(3))
def test_any_worker_finds_what_any_other_has_kept(log: Log, seed: int) -> None:
    """Random lives of a few jobs that two stores take turns with, beside a dictionary."""
    rng = Random(seed)

    async def main() -> None:
        limits = WorkerLimits()
        producer = BatchProducer(log.settings, batch_bytes=limits.batch_bytes, max_backoff_s=1.0)
        await producer.start()
        stores = [StepStore(log.settings, producer, group="g") for _ in range(2)]
        other = StepStore(log.settings, producer, group="other")
        kept: dict[tuple[str, str], bytes] = {}
        try:
            for _ in range(60):
                store, job = rng.choice(stores), job_of(f"job-{rng.randrange(5)}")
                steps = [f"s{n}" for n in range(rng.randrange(1, 4))]
                for place, step in enumerate(steps):  # one attempt
                    found = await store.find(job, step, is_first=place == 0)
                    assert found == kept.get((job.id, step))
                    assert await other.find(job, step, is_first=place == 0) is None
                    if found is None:
                        kept[job.id, step] = b"%d" % rng.randrange(1000)
                        await store.keep(job, step, kept[job.id, step])
                if rng.random() < 0.3:
                    await store.withdraw([job])
                    kept = {key: value for key, value in kept.items() if key[0] != job.id}
        finally:
            for store in (*stores, other):
                await store.stop()
            await producer.stop()

    asyncio.run(main())


@in_loop
async def test_a_round_of_an_operator_begins_anew_also_where_nobody_withdrew_the_steps_before(log: Log) -> None:
    """The worker that kept them has gone, and the one that saw the job die had none of it."""
    producer = BatchProducer(log.settings, batch_bytes=WorkerLimits().batch_bytes, max_backoff_s=1.0)
    await producer.start()
    first, second = (StepStore(log.settings, producer, group="g") for _ in range(2))
    try:
        await first.keep(job_of("a"), "charge", b"1")
        await second.withdraw([job_of("a")])
        assert await second.find(job_of("a", replay=1), "charge", is_first=True) is None
        await second.keep(job_of("a", replay=1), "charge", b"2")
        assert await first.find(job_of("a", replay=1), "charge", is_first=True) == b"2"
        assert await first.find(job_of("a"), "charge", is_first=False) == b"1"
        await second.withdraw([job_of("a", replay=1)])
        assert await first.find(job_of("a", replay=1), "charge", is_first=True) is None
        assert len(await kept_steps(log)) == 1, "what was withdrawn is that of its own round"
    finally:
        await first.stop()
        await second.stop()
        await producer.stop()


@in_loop
async def test_a_key_that_is_no_text_ends_no_step(log: Log) -> None:
    producer = BatchProducer(log.settings, batch_bytes=WorkerLimits().batch_bytes, max_backoff_s=1.0)
    await producer.start()
    store = StepStore(log.settings, producer, group="g")
    try:
        assert await store.find(job_of("a"), "s", is_first=True) is None
        await store.keep(job_of("a"), "s", b"1")
        (record,) = await log.read(log.settings.topics.steps)
        await log.produce(record.topic, b"1", key=b'["\xff", "a", "s"]', partition=record.partition)
        assert await store.find(job_of("a"), "s", is_first=True) == b"1"
    finally:
        await store.stop()
        await producer.stop()


def job_of(job_id: str, *, replay: int = 0) -> Any:
    """As much of a job as a store looks at."""
    return SimpleNamespace(id=job_id, key=b"acme", headers=JobHeaders(replay=replay))
