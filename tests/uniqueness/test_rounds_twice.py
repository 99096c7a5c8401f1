"""A job that two API processes send round again at the same moment starts once, though neither knows of the other."""

from __future__ import annotations

from typing import Any

import pytest
from logqueue_consumers.control.decisions import Verb
from logqueue_consumers.control.operator import Operator
from logqueue_consumers.view.job import Identity, Job, JobKey, Outcome, State

from logqueue.clock import SystemClock
from logqueue.jobs.errors import Permanent, Snooze
from tests.consumers.conftest import Log, until, working
from tests.loops import in_loop


def known(log: Log, handle: Any, group: str) -> Job:
    """The dead job as both views show it."""
    at = Identity(0, handle.created_ms, handle.topic, handle.partition, handle.offset, "q", handle.tenant)
    return Job(JobKey(handle.id), "work", at, Outcome(0, 1, 5, 1, State.DEAD, 1, group))


async def retry(log: Log, *jobs: Job) -> None:
    operator = Operator(log.settings, SystemClock())
    try:
        assert await operator.apply(Verb.RETRY, jobs, by="op", is_strict=True) == len(jobs)
    finally:
        await operator.stop()


@pytest.mark.parametrize("key", [None, "k"])
@in_loop
async def test_a_retry_asked_for_by_two_api_processes_at_once_starts_once(log: Log, key: str | None) -> None:
    app, ran = log.app(), list[tuple[str, int]]()
    app.queue("q", partitions=1)

    @app.job("work", queue="q")
    async def work(ctx) -> None:  # type: ignore[no-untyped-def]
        ran.append((ctx.job_id, ctx.replay))
        if ctx.replay == 0:
            raise Permanent("not yet")
        if ctx.replay == 2 and ran.count((ctx.job_id, 2)) == 1:
            raise Snooze("10ms")

    async with working(app):
        (job, other) = [await work.with_(idempotency_key=key and f"{key}{n}").send() for n in range(2)]
        await log.terminal(count=2)
        for _ in range(2):
            await retry(log, known(log, job, app.group))
        await retry(log, known(log, other, app.group))
        await until(log.statuses, lambda found: sum(s.state == "succeeded" for s in found) == 2)
        assert sorted(ran[2:]) == sorted([(job.id, 1), (other.id, 1)])
        # A round that is asked to wait is no double of itself, and the next replay is none either.
        again = known(log, job, app.group)
        await retry(log, again._replace(outcome=again.outcome._replace(replay=1)))
        await until(log.statuses, lambda found: sum(s.state == "succeeded" for s in found) == 3)
        assert ran[4:] == [(job.id, 2), (job.id, 2)]
    assert {str(s.state) for s in await log.statuses() if s.replay} == {"queued", "scheduled", "succeeded"}
