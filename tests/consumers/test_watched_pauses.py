"""In a partition that was taken over from a dead worker, whoever a pause or a limit holds back holds up nobody else."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace

import pytest
from logqueue_consumers.commits.notes import MAX_NAMED, read_notes
from logqueue_consumers.crashes.naming import JobNaming
from logqueue_consumers.crashes.watch import watch_for
from logqueue_consumers.dispatch.steering import Steering
from logqueue_consumers.engine import JobEngine
from logqueue_consumers.intake.job_reader import JobReader
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.outcome import LiveRules
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow

from logqueue import App, Limit
from logqueue.clock import ManualClock
from logqueue.jobs.control import ControlState
from logqueue.jobs.steering import command, pause_key, reason_value
from logqueue.jobs.topics import TopicKind, TopicNames
from tests.consumers.test_coming_back import Record
from tests.loops import in_loop

OTHERS = 5
FLOOD = MAX_NAMED + 8
PATIENCE_S = 10.0


@pytest.mark.parametrize("is_paused", [True, False], ids=["paused", "rated"])
@in_loop
async def test_a_tenant_that_is_held_back_does_not_hold_up_the_others_of_a_watched_partition(is_paused: bool) -> None:
    app, ran, limits = App("shop"), list[str](), WorkerLimits()
    others_ran = asyncio.Event()
    app.queue("q", order="none", limits=[] if is_paused else [Limit(by="tenant", rate="1/h", burst=1)])

    @app.job("t", queue="q", limits=[])
    async def work(*, who: str) -> None:
        ran.append(who)
        if ran.count("other") == OTHERS:
            others_ran.set()

    clock = ManualClock()
    outbox = SimpleNamespace(
        start=lambda job: None, run=asyncio.Event().wait, add=lambda outcome: None, is_lingering=False
    )
    engine = JobEngine(
        reader=JobReader(app, "shop"),
        rules=LiveRules(TopicNames(), "shop"),
        limits=limits,
        clock=clock,
        random=Random(0),
        group="shop",
        refresh_schemas=lambda: asyncio.sleep(0),
        make_outbox=lambda _: outbox,  # type: ignore[arg-type, return-value]
    )
    control = ControlState()
    if is_paused:
        pause = command(pause_key(queue="q", tenant="acme"), reason_value(None), by="me", at_ms=0)
        control.apply(*pause.record())
    Steering(
        engine,
        app,
        SimpleNamespace(state=control, listeners=[]),  # type: ignore[arg-type]
        partitions={"q": 1},
        limits=limits,
        clock=clock,
    )
    partition = OwnedPartition("jobs.q", 0, kind=TopicKind.JOBS, queue="q", order="none", window=PartitionWindow(0))
    partition.watch = watch_for(read_notes(";b1AQ==", base=0), base=0, end=FLOOD + OTHERS)
    engine.open(partition)
    naming = JobNaming(
        engine,
        group="shop",
        limits=limits,
        hurry=asyncio.Event(),
        partitions=lambda: [partition],
        commit=lambda: asyncio.sleep(0),
    )
    flood = [Record(n, b'{"who": "acme"}', key=b"acme", headers=(("ce_type", b"t"),)) for n in range(FLOOD)]
    others = [
        Record(n, b'{"who": "other"}', key=b"t%d" % n, headers=(("ce_type", b"t"),))
        for n in range(FLOOD, FLOOD + OTHERS)
    ]
    engine.deliver(partition, [*flood, *others])
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        tasks = [group.create_task(engine.run()), group.create_task(naming.run())]
        await others_ran.wait()
        for task in tasks:
            task.cancel()
    assert ran.count("acme") == (0 if is_paused else 1)
