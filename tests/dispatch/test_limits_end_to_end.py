"""Priorities, limits, fairness, pauses and kill switches as users see them, on every engine."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from logqueue_consumers.limits import WorkerLimits

from logqueue import App, Limit, Retry
from logqueue.jobs.control import Command
from tests.consumers.conftest import Log, RunningWorker, log, until, working  # noqa: F401 - a fixture

LIMITS = WorkerLimits(commit_interval_s=0.05, session_timeout_ms=6_000, heartbeat_interval_ms=200, revoke_grace_s=3.0)


async def command(app: App, key: str, **value: Any) -> None:
    """What an operator does."""
    record = Command(key=key, by="test", at_ms=int(time.time() * 1000), value=value).record()
    await _write(app, record)


async def take_back(app: App, key: str) -> None:
    await _write(app, (key.encode(), None))


async def told(running: RunningWorker, key: str, *, is_set: bool = True) -> None:
    """Wait until a worker has read a command, or that it was taken back."""

    async def is_told() -> bool:
        assert running.worker is not None
        control = running.worker._bench.control
        return control is not None and (key in control.state.standing) is is_set

    await until(is_told, bool)


async def _write(app: App, record: tuple[bytes, bytes | None]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=app.settings.bootstrap, acks="all") as producer:
        await producer.send_and_wait(app.settings.topics.control, record[1], key=record[0], partition=0)


def test_jobs_of_a_heavier_class_go_first_and_those_of_a_light_one_do_not_starve(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("mail", order="none", partitions=1, priorities={"high": 6, "normal": 3, "low": 1})
        order: list[str] = []

        @app.job("send", queue="mail")
        async def send(ctx, *, n: int) -> None:  # type: ignore[no-untyped-def]
            order.append(ctx.headers.get("job-priority", b"normal").decode())

        async with app:
            for priority in ("low", "normal", "high"):
                await app.send_many(send.with_(priority=priority).prepare(n=n) for n in range(60))
        assert len(await log.read(log.settings.topics.jobs("mail", "high"))) == 60
        async with working(app, concurrency=1, limits=LIMITS):
            await log.terminal(count=180)
        assert len(order) == 180
        # All classes are in hand after the first fetches; from then on each has its share while it has jobs.
        begin = order.index("high")
        shares = order[begin : begin + 60]
        assert shares.count("high") >= 30
        assert shares.count("low") >= 3

    asyncio.run(main())


def test_no_more_of_a_tenant_run_than_its_limit_allows_while_others_go_on(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("work", order="none", partitions=2, limits=[Limit(by="tenant", running=2)])
        running: dict[str, int] = {}
        most: dict[str, int] = {}

        @app.job("step", queue="work")
        async def step(ctx, *, n: int) -> None:  # type: ignore[no-untyped-def]
            running[ctx.tenant] = running.get(ctx.tenant, 0) + 1
            most[ctx.tenant] = max(most.get(ctx.tenant, 0), running[ctx.tenant])
            await asyncio.sleep(0.005)
            running[ctx.tenant] -= 1

        async with working(app, limits=LIMITS):
            await app.send_many(step.prepare(tenant=f"t{n % 3}", n=n) for n in range(60))
            await log.terminal(count=60)
        assert most == {"t0": 2, "t1": 2, "t2": 2}

    asyncio.run(main())


def test_an_arguments_value_and_a_type_are_limited_too(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("work", order="none", partitions=1, limits=[Limit(by="argument:customer", running=1)])
        running: list[int] = []
        together: list[tuple[int, int]] = []

        @app.job("bill", queue="work", limits=[Limit(by="type", running=2)])
        async def bill(*, customer: int) -> None:
            running.append(customer)
            together.append((len(running), running.count(customer)))
            await asyncio.sleep(0.005)
            running.remove(customer)

        async with working(app, limits=LIMITS):
            await app.send_many(bill.prepare(tenant=f"t{n}", customer=n % 3) for n in range(30))
            await log.terminal(count=30)
        assert max(all_ for all_, _ in together) == 2
        assert max(same for _, same in together) == 1

    asyncio.run(main())


def test_a_rate_holds_over_time(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("work", order="none", partitions=1, limits=[Limit(by="tenant", rate="50/s", burst=5)])
        starts: list[float] = []

        @app.job("call", queue="work")
        async def call() -> None:
            starts.append(time.monotonic())

        async with working(app, limits=LIMITS):
            await app.send_many(call.prepare(tenant="acme") for _ in range(40))
            await log.terminal(count=40)
        for first in range(40):
            for last in range(first + 1, 40):
                span = starts[last] - starts[first]
                assert last - first + 1 <= 5 + 50 * span + 1.0

    asyncio.run(main())


@pytest.mark.parametrize("what", ["queue/work", "tenant/work/acme", "type/step"])
def test_what_is_paused_waits_and_what_is_not_goes_on_until_it_is_resumed(log: Log, what: str) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("work", partitions=1)
        app.queue("other", partitions=1)
        done: list[str] = []

        @app.job("step", queue="work")
        async def step(ctx) -> None:  # type: ignore[no-untyped-def]
            done.append(ctx.tenant)

        @app.job("side", queue="work" if what != "queue/work" else "other")
        async def side(ctx) -> None:  # type: ignore[no-untyped-def]
            done.append("side")

        async with working(app, limits=LIMITS) as worker:
            await command(app, f"pause/{what}")
            await told(worker, f"pause/{what}")
            await step.send(tenant="acme")
            await side.send(tenant="other")
            await log.terminal(count=1)
            assert done == ["side"]
            await take_back(app, f"pause/{what}")
            began = time.monotonic()
            await log.terminal(count=2)
            assert time.monotonic() - began < 8.0, "by the command, not by the look every ten seconds"
        assert done == ["side", "acme"]

    asyncio.run(main())


def test_a_pause_holds_over_a_restart_of_the_worker(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        done: list[str] = []

        @app.job("step")
        async def step(ctx) -> None:  # type: ignore[no-untyped-def]
            done.append(ctx.tenant)

        async with working(app, limits=LIMITS):
            await command(app, "pause/tenant/default/acme", reason="they asked")
        held = await step.send(tenant="acme")
        async with working(app, limits=LIMITS):
            free = await step.send(tenant="other")
            await free.wait(timeout=60)
            assert done == ["other"]
        async with working(app, limits=LIMITS):
            await take_back(app, "pause/tenant/default/acme")
            await held.wait(timeout=60)
        assert sorted(done) == ["acme", "other"]

    asyncio.run(main())


def test_a_limit_can_be_commanded_while_jobs_wait(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("work", order="none", partitions=1)
        release = asyncio.Event()
        running = 0
        most = 0

        @app.job("step", queue="work")
        async def step() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await release.wait()
            await asyncio.sleep(0.002)
            running -= 1

        async with working(app, concurrency=50, limits=LIMITS) as worker:
            await command(app, "limit/queue/work/tenant", running=3)
            await told(worker, "limit/queue/work/tenant")
            await app.send_many(step.prepare(tenant="acme") for _ in range(30))

            async def count() -> int:
                return running

            await until(count, lambda found: found == 3)
            release.set()
            await log.terminal(count=30)
            assert worker.metrics() is not None
        assert most == 3

    asyncio.run(main())


def test_a_kill_switch_ends_the_jobs_that_it_selects_and_no_other(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        done: list[int] = []

        @app.job("mail.send")
        async def send(*, campaign: int) -> None:
            done.append(campaign)

        async with working(app, limits=LIMITS) as worker:
            await command(app, "kill/bad-campaign", type="mail.send", arguments={"campaign": 7})
            await told(worker, "kill/bad-campaign")
            bad = await send.send(tenant="a", campaign=7)
            good = await send.send(tenant="a", campaign=8)
            assert (await good.wait(timeout=60)).state == "succeeded"
            assert (await bad.wait(timeout=60)).state == "cancelled"
            await take_back(app, "kill/bad-campaign")
            await told(worker, "kill/bad-campaign", is_set=False)
            again = await send.send(tenant="a", campaign=7)
            assert (await again.wait(timeout=60)).state == "succeeded"
        assert done == [8, 7]

    asyncio.run(main())


def test_a_spread_tenants_jobs_go_to_many_partitions_and_are_shown_as_its_own(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("wide", order="none", partitions=8, spread=8)
        tenants: set[str] = set()

        @app.job("step", queue="wide")
        async def step(ctx) -> None:  # type: ignore[no-untyped-def]
            tenants.add(ctx.tenant)

        async with working(app, limits=LIMITS):
            handles = await app.send_many(step.prepare(tenant="acme") for _ in range(64))
            assert len({handle.partition for handle in handles}) > 3
            assert (await handles[-1].wait(timeout=60)).state == "succeeded"
            statuses = await log.terminal(count=64)
        assert tenants == {"acme"}
        assert {status.tenant for status in statuses} == {"acme"}

    asyncio.run(main())


def test_a_flooding_tenant_of_an_unordered_queue_slows_only_itself(log: Log) -> None:  # noqa: F811
    async def main() -> None:
        app = log.app()
        app.queue("work", order="none", partitions=1)
        order: list[str] = []

        @app.job("step", queue="work")
        async def step(ctx) -> None:  # type: ignore[no-untyped-def]
            order.append(ctx.tenant)
            await asyncio.sleep(0.001)

        async with app:
            await app.send_many(step.prepare(tenant="flood") for _ in range(1_000))
            await app.send_many(step.prepare(tenant="quiet") for _ in range(10))
        async with working(app, concurrency=4, limits=LIMITS):
            await log.terminal(count=1_010)
        last_quiet = max(place for place, tenant in enumerate(order) if tenant == "quiet")
        assert last_quiet < 900
        first_quiet = order.index("quiet")
        assert last_quiet - first_quiet <= 30

    asyncio.run(main())


def test_a_tenants_limit_is_exact_over_workers_and_retries_because_it_has_one_owner(log: Log) -> None:  # noqa: F811
    limits = replace(LIMITS, memory_retry_delay_s=0.0)  # every retry goes through the retry topic

    async def main() -> None:
        apps = [log.app(), log.app()]
        running: dict[str, int] = {}
        most = 0
        attempts = 0

        async def step(ctx, *, n: int) -> None:  # type: ignore[no-untyped-def]
            nonlocal most, attempts
            attempts += 1
            running[ctx.tenant] = running.get(ctx.tenant, 0) + 1
            most = max(most, running[ctx.tenant])
            await asyncio.sleep(0.003)
            running[ctx.tenant] -= 1
            if ctx.attempt == 1 and n % 2:
                raise ConnectionError("again")

        for app in apps:
            app.queue("work", order="none", partitions=4, limits=[Limit(by="tenant", running=1)])
            app.job("step", queue="work", retry=Retry(first="1ms", jitter=0.0))(step)
        async with working(apps[0], limits=limits) as one, working(apps[1], limits=limits) as two:

            async def owned() -> list[int]:
                return [worker.metrics().partitions for worker in (one, two)]

            await until(owned, lambda counts: min(counts) > 0)
            send = apps[0].jobs["step"]
            await apps[0].send_many(send.prepare(tenant=f"t{n % 6}", n=n) for n in range(60))
            await log.terminal(count=60)
        assert attempts == 90
        assert most == 1

    asyncio.run(main())
