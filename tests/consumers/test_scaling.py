"""Workers join, stop and die while 20,000 jobs run: nothing is lost, a stop repeats nothing, a kill what it held."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from logqueue_schemas.job_status import TERMINAL

from tests.consumers.conftest import Log, until
from tests.consumers.scaling_child import make_app

JOBS = 20_000
TENANTS = 1_000
CONCURRENCY = 100
CHILD = Path(__file__).with_name("scaling_child.py")


class Child:
    """One worker process."""

    def __init__(self, log: Log, side: Path, *more: str) -> None:
        self.output = side.with_name(f"{side.name}.{len(list(side.parent.iterdir()))}.out")
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(CHILD), log.settings.bootstrap, log.name, str(side), *more], stdout=out, stderr=out
            )

    def text(self) -> str:
        return self.output.read_text()

    def is_ready(self) -> bool:
        assert self.process.poll() in (None, 0, -signal.SIGKILL), self.text()
        return "ready\n" in self.text()

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, 60)


def runs(side: Path) -> list[tuple[str, int, int]]:
    """Lines of the side file: start or end, job, process."""
    if not side.exists():
        return []
    lines = (line.split() for line in side.read_text().splitlines())
    return [(kind, int(job), int(pid)) for kind, job, pid in lines]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_job_ends_once_while_workers_come_stop_and_are_killed(log: Log, tmp_path: Path) -> None:
    side = tmp_path / "runs"

    async def main() -> None:
        app = make_app(log.name, log.settings, str(side))
        work = app.jobs["work"]
        await app.send_many(work.prepare(tenant=f"t{n % TENANTS}", n=n) for n in range(JOBS))
        await app.close()
        children = [Child(log, side)]
        try:
            await wait_for(lambda: len(runs(side)) > 1_000)
            children += [Child(log, side), Child(log, side)]
            pids = [child.process.pid for child in children]
            await wait_for(lambda: all(Counter(pid for _, _, pid in runs(side))[pid] > 500 for pid in pids))
            children[1].process.send_signal(signal.SIGTERM)
            assert await children[1].ended() == 0, children[1].text()
            begun = len(runs(side))
            await wait_for(lambda: len(runs(side)) > begun + 3_700)
            children[2].process.kill()
            await children[2].ended()
            seen = runs(side)
            assert len(seen) < 2 * JOBS, "the kill came while jobs ran"
            ended_there = {job for kind, job, pid in seen if kind == "end" and pid == pids[2]}
            held = {job for kind, job, pid in seen if kind == "start" and pid == pids[2]} - ended_there
            assert held, "the killed worker ran jobs"

            async def ended() -> int:
                return len({status.id for status in await log.statuses() if status.state in TERMINAL})

            await until(ended, lambda count: count == JOBS, patience_s=100.0)
            await until(lambda: log.done(log.name, "load"), lambda done: done == JOBS)
            children[0].process.send_signal(signal.SIGTERM)
            assert await children[0].ended() == 0, children[0].text()
        finally:
            for child in children:
                child.process.kill()
                child.process.wait(10)
        await check(log, side, held=held, killed=pids[2], children=children)

    asyncio.run(main())


@pytest.mark.slow
def test_a_killed_static_member_is_replaced_at_once(log: Log, tmp_path: Path) -> None:
    side, jobs = tmp_path / "runs", 1_000

    async def main() -> None:
        app = make_app(log.name, log.settings, str(side))
        work = app.jobs["work"]
        await app.send_many(work.prepare(tenant=f"t{n % TENANTS}", n=n) for n in range(jobs))
        await app.close()
        children = [Child(log, side, "static-1")]
        try:
            await wait_for(lambda: len(runs(side)) > jobs)
            children[0].process.kill()
            await children[0].ended()
            children.append(Child(log, side, "static-1"))
            # Within half of the session of the one that was killed.
            await wait_for(lambda: len({job for kind, job, _ in runs(side) if kind == "end"}) == jobs, patience_s=60)
            await until(lambda: log.done(log.name, "load"), lambda done: done == jobs)
        finally:
            for child in children:
                child.process.kill()
                child.process.wait(10)
        statuses = [status for status in await log.statuses() if status.state in TERMINAL]
        assert len({status.id for status in statuses}) == len(statuses) == jobs, "finished jobs do not run again"

    asyncio.run(main())


async def check(log: Log, side: Path, *, held: set[int], killed: int, children: list[Child]) -> None:
    starts: dict[int, list[int]] = defaultdict(list)
    for kind, job, pid in runs(side):
        if kind == "start":
            starts[job].append(pid)
    assert sorted(starts) == list(range(JOBS)), "nothing is lost"
    repeated = {job: pids for job, pids in starts.items() if len(pids) > 1}
    assert all(len(pids) == 2 and pids[0] == killed for pids in repeated.values()), repeated
    statuses = [status for status in await log.statuses() if status.state in TERMINAL]
    assert {status.state for status in statuses} == {"succeeded"}
    assert {status.attempt for status in statuses} == {1}
    terminal = Counter(status.id for status in statuses)
    assert len(terminal) == JOBS
    print(f"held {len(held)}, repeated {len(repeated)}, terminal twice {sum(n > 1 for n in terminal.values())}")
    assert max(terminal.values()) == 1, "a job whose outcome was written never runs again"
    assert held <= set(repeated), "what ran in the killed worker ran again"
    assert len(repeated) <= 4 * CONCURRENCY, "those that ran, and those whose outcomes were on their way"
    assert all("stopped" in child.text() for child in children[:2])
    assert all(child.text().split("stopped ")[1].split()[1] == "0" for child in children[:2]), "none was interrupted"


async def wait_for(is_so: object, patience_s: float = 60.0) -> None:
    async with asyncio.timeout(patience_s):
        while not is_so():  # type: ignore[operator]
            await asyncio.sleep(0.05)
