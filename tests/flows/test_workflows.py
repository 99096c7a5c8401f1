"""Workflows run on every engine: chains, groups, chords, DAGs, callbacks, nodes that add nodes, cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from logqueue_schemas.job_status import State

from logqueue import App, Retry
from logqueue.clock import ManualClock
from logqueue.jobs.errors import InvalidDefinition, Permanent
from logqueue.jobs.flows import chain, chord, group
from logqueue.jobs.unique import KeyConflict
from tests.consumers.conftest import Log, neighbours, until, working


@asynccontextmanager
async def running(app: App, **options: Any) -> AsyncIterator[Any]:
    async with working(app, **options) as worker:
        yield worker


def test_a_chain_hands_each_job_the_result_of_the_one_before(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("double")
        async def double(ctx, *, n: int = 0) -> int:  # type: ignore[no-untyped-def]
            return (sum(ctx.results.values()) or n) * 2

        async with running(app):
            flow = await chain(app, [double.prepare(n=3), double.prepare(), double.prepare()]).send(tenant="acme")
            state = (await flow.wait()).raise_for_state()
            assert state.nodes == {"1": "succeeded", "2": "succeeded", "3": "succeeded"}
            assert (await flow.job("3").wait()).result == 24

    asyncio.run(main())


def test_a_chord_waits_for_the_whole_group_and_a_failure_cancels_what_comes_after(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("part", retry=Retry(attempts=1))
        async def part(*, n: int) -> int:
            if n == 13:
                raise Permanent("unlucky")
            return n

        @app.job("total")
        async def total(ctx) -> dict:  # type: ignore[no-untyped-def,type-arg]
            return {"sum": sum(ctx.results.values()), "failed": ctx.results.failed}

        async with running(app):
            parts = [part.prepare(n=n) for n in range(10)]
            good = await chord(app, parts, total.prepare()).send(tenant="acme")
            bad = await chord(app, [*parts, part.prepare(n=13)], total.prepare()).send(tenant="acme")
            mild = await chord(app, [*parts, part.prepare(n=13)], total.prepare(), on_failure="ignore").send()
            assert (await good.wait()).has_succeeded
            assert (await good.job("then").wait()).result == {"sum": 45, "failed": {}}
            state = await bad.wait()
            assert (state.state, state.nodes["then"]) == ("failed", "cancelled")
            assert (state.counts.succeeded, state.counts.failed, state.counts.cancelled) == (10, 1, 1)
            assert (await bad.job("then").wait()).state is State.CANCELLED
            assert (await mild.wait()).has_succeeded
            assert (await mild.job("then").wait()).result == {"sum": 45, "failed": {"11": "dead"}}

    asyncio.run(main())


def test_thousands_of_jobs_go_in_one_workflow_and_the_callback_gets_the_counts(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        app.queue("wide", order="none")
        seen: list[dict[str, int]] = []

        @app.job("one", queue="wide")
        async def one(*, n: int) -> None: ...

        @app.job("report")
        async def report(ctx) -> None:  # type: ignore[no-untyped-def]
            seen.append(ctx.results.counts)

        async with running(app):
            flow = group(app, [one.prepare(n=n) for n in range(2_000)]).on_complete(report.prepare())
            sent = await flow.send(tenant="acme")
            state = await sent.wait(timeout=60)
            assert state.has_succeeded
            assert state.counts.total == 2_000
        assert seen == [{"total": 2_000, "succeeded": 2_000, "failed": 0, "cancelled": 0}]

    asyncio.run(main())


def test_a_running_job_adds_nodes_and_the_workflow_waits_for_them(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        pages: list[int] = []

        @app.job("page")
        async def page(ctx, *, n: int) -> int:  # type: ignore[no-untyped-def]
            pages.append(n)
            if n < 5:
                ctx.add(f"page-{n + 1}", page.prepare(n=n + 1), after=f"page-{n}")
            return n

        @app.job("finish")
        async def finish(ctx) -> list[int]:  # type: ignore[no-untyped-def]
            return sorted(pages)

        async with running(app):
            flow = app.workflow("crawl").add("page-1", page.prepare(n=1)).on_complete(finish.prepare())
            sent = await flow.send(tenant="acme")
            assert (await sent.wait()).has_succeeded
            assert (await sent.job("on-complete").wait()).result == [1, 2, 3, 4, 5]

    asyncio.run(main())


def test_cancelling_ends_blocked_jobs_and_tells_the_one_that_runs(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        begun = asyncio.Event()

        @app.job("slow")
        async def slow() -> None:
            begun.set()
            await asyncio.sleep(600)

        @app.job("after")
        async def after() -> None:
            raise AssertionError("it must not run")

        async with running(app):
            flow = app.workflow("long").add("a", slow.prepare()).add("b", after.prepare(), after="a")
            flow.add("c", after.with_(delay="30d").prepare())
            sent = await flow.send(tenant="acme")
            await begun.wait()
            assert await log.states(sent.job_id("b")) == ["blocked"]
            await until(lambda: log.states(sent.job_id("c")), lambda states: states == ["scheduled"])
            await sent.cancel(by="tester")
            state = await sent.wait()
            assert state.state == "cancelled"
            assert state.nodes == {"a": "cancelled", "b": "cancelled", "c": "cancelled"}

    asyncio.run(main())


def test_the_same_workflow_sent_twice_under_one_id_runs_once(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        runs: list[int] = []

        @app.job("once")
        async def once() -> None:
            runs.append(1)

        async with running(app):
            flow = app.workflow("twice").add("a", once.prepare())
            first = await flow.send(tenant="acme", id="order-7")
            again = await flow.send(tenant="acme", id="order-7")
            assert (await first.wait()).has_succeeded
            assert (await again.wait()).has_succeeded
            await until(lambda: log.done(app.group, "default"), lambda done: done >= 1)  # and a marker
        assert runs == [1]

    asyncio.run(main())


def test_the_handle_of_a_workflow_sent_again_after_its_end_tells_how_it_ended(log: Log) -> None:
    async def main() -> None:
        app = log.app()
        later = App(log.name, settings=log.settings, clock=ManualClock(time_ms=app.clock.time_ms() + 60_000))

        @app.job("once")
        async def once() -> None: ...

        flow = app.workflow("twice").add("a", once.prepare()).add("b", once.prepare(), after="a")
        again = later.workflow("twice").add("a", once.prepare())
        async with running(app), later:
            first = await (await flow.send(tenant="acme", id="order-7")).wait()
            sent = await again.send(tenant="acme", id="order-7")
            assert await sent.wait() == first
            assert await sent.status() == first
        assert first.nodes == {"a": "succeeded", "b": "succeeded"}

    asyncio.run(main())


def test_a_tenant_whose_workflow_has_the_id_of_anothers_is_told_of_the_conflict_and_of_nothing_else(log: Log) -> None:
    async def main() -> None:
        app = log.app()

        @app.job("say")
        async def say(*, what: str) -> str:
            return what

        one, other = neighbours()
        async with running(app):
            first = await app.workflow("a").add("n", say.prepare(what="first")).send(tenant=one, id="order-7")
            second = await app.workflow("b").add("n", say.prepare(what="second")).send(tenant=other, id="order-7")
            with pytest.raises(KeyConflict, match="order-7 did not run: its id is taken by another tenant's"):
                await second.wait()
            with pytest.raises(KeyConflict):
                await second.status()
            await second.cancel()
            assert (await first.wait()).has_succeeded
            assert (await first.job("n").wait()).result == "first"

    asyncio.run(main())


def test_definitions_that_cannot_work_are_refused(log: Log) -> None:
    app = log.app()

    @app.job("job")
    async def job() -> None: ...

    flow = app.workflow("bad").add("a", job.prepare(tenant="acme"))
    with pytest.raises(InvalidDefinition, match="twice"):
        flow.add("a", job.prepare())
    with pytest.raises(InvalidDefinition, match="not added before"):
        flow.add("b", job.prepare(), after="c")
    with pytest.raises(InvalidDefinition, match="policy"):
        flow.add("b", job.prepare(), after="a", on_failure="explode")
    with pytest.raises(InvalidDefinition, match="not of the form"):
        flow.add("b/c", job.prepare())
    with pytest.raises(InvalidDefinition, match="idempotency key"):
        flow.add("b", job.with_(idempotency_key="k").prepare())
    with pytest.raises(InvalidDefinition, match="one tenant"):
        flow.submission("globex")
    with pytest.raises(InvalidDefinition, match="no node"):
        app.workflow("empty").submission(None)
