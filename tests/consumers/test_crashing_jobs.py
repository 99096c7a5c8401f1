"""Jobs that end their worker's process: each is found out and dead-lettered, and its neighbours are not blamed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

from logqueue_schemas.job_status import TERMINAL, State

from tests.consumers import crashing_child
from tests.consumers.conftest import PATIENCE_S, Log

JOBS = 120
POISON = {17, 61}


def test_jobs_that_end_their_process_are_dead_and_the_others_succeed(log: Log, tmp_path: Path) -> None:
    side = tmp_path / "runs"
    asyncio.run(_send(log, side))
    ends = 0
    while not _work_is_done_by_one_worker(log, side):
        ends += 1
        assert ends <= len(POISON) * (crashing_child.CRASHES + 1), "each poisoned job ends so many workers at most"
    asyncio.run(_check(log, side))


async def _send(log: Log, side: Path) -> None:
    app = crashing_child.make_app(log.name, log.settings, str(side))
    job = app.jobs["work"]
    await app.send_many(job.prepare(tenant=f"t{n}", n=n, is_poison=n in POISON) for n in range(JOBS))
    await app.close()


def _work_is_done_by_one_worker(log: Log, side: Path) -> bool:
    """Run one worker until the work is done; false when the worker ends before."""
    command = [sys.executable, crashing_child.__file__, log.settings.bootstrap, log.name, str(side)]
    worker = subprocess.Popen(command)

    async def watch() -> bool:
        async with asyncio.timeout(PATIENCE_S * 2):
            while worker.poll() is None:
                if len({status.id for status in await log.statuses() if status.state in TERMINAL}) == JOBS:
                    return True
                await asyncio.sleep(0.05)
        return False

    try:
        return asyncio.run(watch())
    finally:
        worker.terminate()
        worker.wait(PATIENCE_S)


async def _check(log: Log, side: Path) -> None:
    last = {status.id: status for status in await log.statuses()}
    dead = [status for status in last.values() if status.state is State.DEAD]
    assert len(last) == JOBS
    assert Counter(status.state for status in last.values()) == {
        State.SUCCEEDED: JOBS - len(POISON),
        State.DEAD: len(POISON),
    }
    assert {(status.error.type, status.error.error_class) for status in dead if status.error} == {
        ("WorkerCrashed", "crash")
    }
    letters = await log.read(log.settings.topics.dlq(crashing_child.QUEUE, log.name))
    assert {dict(letter.headers)["job-error-class"] for letter in letters} == {b"crash"}
    assert len(letters) == len(POISON)
    runs = Counter(int(line) for line in side.read_text().split())
    for n in POISON:
        assert crashing_child.CRASHES <= runs[n] <= len(POISON) * (crashing_child.CRASHES + 1)
