"""kill -9 of the worker that owns the schedules, in mid work: nothing early, nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from logqueue_consumers.keeper.job_entries import LEAD_MS

from logqueue.jobs.headers import NOT_BEFORE, SCHEDULED_AT
from logqueue.jobs.times import parse_time
from tests.consumers.conftest import Log, until
from tests.keeper.scheduling_child import make_app

JOBS = 150


def start(log: Log, folder: Path) -> subprocess.Popen[str]:
    arguments = [log.settings.bootstrap, log.name, str(folder / "side"), str(folder / "cache")]
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.keeper.scheduling_child", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    while "ready" not in (line := child.stdout.readline()):
        assert line, f"the child ended with {child.wait()}"
    return child


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def test_a_killed_owner_leaves_nothing_undone_and_nothing_done_twice(log: Log, tmp_path: Path) -> None:
    async def scenario() -> None:
        app = make_app(log.name, log.settings, str(tmp_path / "other"))
        retry, jobs = log.settings.topics.retry("q", app.group), log.settings.topics.jobs("q")

        async def released() -> list[str]:
            return [dict(record.headers)["ce_id"].decode() for record in await log.read(retry)]

        child = await asyncio.to_thread(start, log, tmp_path)
        try:
            late = app.jobs["late"]
            sent = await app.send_many(
                late.with_(delay=6 + number * 0.02, tenant=f"t{number}").prepare() for number in range(JOBS)
            )
            await until(released, lambda ids: len(ids) >= JOBS // 3)
            os.kill(child.pid, signal.SIGKILL)
            end(child)
            child = await asyncio.to_thread(start, log, tmp_path)
            await until(released, lambda ids: len(set(ids)) == JOBS)
            ran = tmp_path / "side"
            ids = {job.id for job in sent}

            async def done() -> set[str]:
                return set(ran.read_text().split()) & ids

            await until(done, lambda found: len(found) == JOBS)
        finally:
            end(child)
            await app.close()
        assert Counter(await released()) == Counter(dict.fromkeys(ids, 1))
        for record in await log.read(retry):
            assert record.timestamp >= parse_time(dict(record.headers)[NOT_BEFORE].decode()) - LEAD_MS
        assert "early" not in ran.read_text()
        ticks = [dict(record.headers) for record in await log.read(jobs) if SCHEDULED_AT in dict(record.headers)]
        times = sorted(parse_time(headers[SCHEDULED_AT].decode()) for headers in ticks)
        assert times == list(range(times[0], times[-1] + 1, 1000)), "every second once, also those of the change"

    asyncio.run(scenario())
