"""Long jobs and rolling deploys: rebalances do not interrupt a job, restarts do not repeat one."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from logqueue_consumers.membership.sticky_assignor import StickyAssignor, share_out

from logqueue import App
from logqueue.ids import TopicPartition
from logqueue.jobs.partitioning import partition_of
from tests.consumers.conftest import FAST, Log, RunningWorker, until, working
from tests.consumers.scaling_child import make_app
from tests.consumers.test_scaling import Child, runs, wait_for

PARTITIONS = 4


def names(log: Log, running: RunningWorker) -> set[int]:
    assert running.worker is not None and running.worker._member is not None
    topic = log.settings.topics.jobs("long")
    return {tp.partition for tp in running.worker._member.partitions if tp.topic == topic}


def test_members_name_the_partitions_first_where_jobs_run_longest() -> None:
    class Given:
        assignment = (("jobs.q", [0, 1, 2, 3]), ("retry.q.g", [0, 1, 2, 3]))

    busy = [TopicPartition("jobs.q", 3), TopicPartition("jobs.q", 9), TopicPartition("retry.q.g", 1)]
    assignor = StickyAssignor(lambda topic: "q", lambda: busy)
    assignor.on_assignment(Given())  # type: ignore[arg-type]
    partitions = [TopicPartition(topic, n) for topic, numbers in Given.assignment for n in numbers]
    claims = [TopicPartition(topic, n) for topic, numbers in assignor._claims() for n in numbers]
    assert claims[:2] == [busy[0], busy[2]], "what it does not have it does not claim"
    assert sorted(claims) == sorted(partitions)
    topics = {"jobs.q", "retry.q.g"}
    shares = share_out(partitions, {"a": topics, "b": topics}, {"a": claims}, lambda topic: "q")
    assert {partition.partition for partition in shares["a"]} == {1, 3}


@pytest.mark.parametrize("number", [0, PARTITIONS - 1])
def test_a_job_runs_on_while_workers_come_and_go(log: Log, number: int) -> None:
    """Wherever its partition lies in the order, it stays with the worker that runs its job."""

    async def main() -> None:
        let_go, starts = asyncio.Event(), Counter[str]()
        tenant = next(f"t{n}" for n in range(1_000) if partition_of(f"t{n}".encode(), PARTITIONS) == number)

        def app(name: str) -> App:
            made = log.app()
            made.queue("long", partitions=PARTITIONS)

            @made.job("hour", queue="long", timeout="2h")
            async def hour() -> str:
                starts[name] += 1
                await let_go.wait()
                return name

            return made

        first = app("first")
        async with working(first) as running:
            job = await first.jobs["hour"].send(tenant=tenant)
            await until(lambda: done(starts["first"]), bool)
            async with working(app("second")) as other:
                await until(lambda: done(names(log, other)), lambda found: len(found) == PARTITIONS // 2)
                await until(lambda: done(names(log, running)), lambda found: len(found) == PARTITIONS // 2)
                assert number in names(log, running)
            await until(lambda: done(names(log, running)), lambda found: len(found) == PARTITIONS)
            let_go.set()
            state = await job.wait(timeout=60)
            assert (state.result, state.attempt) == ("first", 1)
        assert starts == {"first": 1}, "nobody ran it a second time"

    asyncio.run(main())


async def done(value: object) -> object:
    return value


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_rolling_deploy_repeats_no_job(log: Log, tmp_path: Path) -> None:
    """Two workers are replaced one after the other while jobs run: each job begins once, in one process."""
    side, part = tmp_path / "runs", 1_000

    async def main() -> None:
        app = make_app(log.name, log.settings, str(side))
        work, jobs = app.jobs["work"], 0

        async def send() -> None:
            nonlocal jobs
            await app.send_many(work.prepare(tenant=f"t{n % 500}", n=n) for n in range(jobs, jobs + part))
            jobs += part

        await send()
        children = [Child(log, side), Child(log, side)]
        try:
            for old in (0, 1):
                children.append(Child(log, side))
                await wait_for(children[-1].is_ready)
                await send()
                await wait_for(lambda: len(runs(side)) > part * (old + 1))  # noqa: B023
                children[old].process.send_signal(signal.SIGTERM)
                assert await children[old].ended() == 0, children[old].text()
            await send()
            await app.close()
            await wait_for(lambda: len({job for kind, job, _ in runs(side) if kind == "end"}) == jobs, patience_s=90)
            for child in children[2:]:
                child.process.send_signal(signal.SIGTERM)
                assert await child.ended() == 0, child.text()
        finally:
            for child in children:
                child.process.kill()
                child.process.wait(10)
        starts = Counter(job for kind, job, _ in runs(side) if kind == "start")
        assert sorted(starts) == list(range(jobs))
        assert max(starts.values()) == 1, "no job began twice"
        assert all("stopped" in child.text() for child in children)
        assert {pid for _, _, pid in runs(side)} >= {child.process.pid for child in children[2:]}, "the new ones worked"

    asyncio.run(main())


def test_cpu_bound_plain_handlers_do_not_cost_a_worker_its_membership(log: Log) -> None:
    """Threads that use the processor without a pause leave the loop enough turns for heartbeats."""

    async def main() -> None:
        app = log.app()
        app.queue("long", partitions=PARTITIONS, order="none")

        @app.job("spin", queue="long")
        def spin(*, turns: int) -> int:
            return sum(number * number for number in range(turns))

        async with working(app, limits=FAST) as running:
            assert running.worker is not None and running.worker._member is not None
            member = running.worker._member.member_id
            jobs = [await spin.send(turns=1_500_000) for _ in range(12)]
            for job in jobs:
                assert (await job.wait(timeout=60)).attempt == 1
            assert running.worker._member.member_id == member
        assert len([status for status in await log.statuses() if status.is_terminal]) == 12

    asyncio.run(main())


@pytest.mark.slow
def test_an_async_handler_that_blocks_the_loop_does_not_cost_a_worker_its_membership(log: Log) -> None:
    """A thread sends the group's heartbeats for longer than the session timeout, then the loop goes on as before."""

    async def main() -> None:
        app = log.app()
        app.queue("long", partitions=PARTITIONS)
        limits = replace(FAST, session_timeout_ms=6_000)

        @app.job("compute", queue="long")
        async def compute(*, seconds: float) -> int:
            until_s, turns = time.monotonic() + seconds, 0
            while time.monotonic() < until_s:
                turns += 1
            return turns

        async with working(app, limits=limits) as running:
            assert running.worker is not None and running.worker._member is not None
            assert running.worker.pulse is not None
            before = running.worker._member.identity()
            job = await compute.send(seconds=limits.session_timeout_ms / 1000 + 1.5)
            assert (await job.wait(timeout=60)).attempt == 1
            assert running.worker.pulse.beats >= 2
            await (await compute.send(seconds=0.0)).wait(timeout=60)
            assert running.worker._member.identity() == before, "the same member in the same generation"
        assert [str(s.state) for s in await log.statuses() if s.is_terminal] == ["succeeded", "succeeded"]

    asyncio.run(main())
