"""Jobs in processes of their own: what comes back, what a death costs, how they are stopped."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from logqueue_consumers.processes.app_path import AppPath, check_isolation
from logqueue_consumers.processes.frames import MAX_FRAME_BYTES, FrameTooLarge, Tell, frame
from logqueue_consumers.processes.isolated import IsolatedJobs
from logqueue_consumers.processes.process import ChildProcess, ProcessDied, ProcessNotStarted

from logqueue import App
from logqueue.ids import JobId
from logqueue.jobs.context import JobContext
from logqueue.jobs.errors import InvalidDefinition, classify
from tests.workers import isolated_app
from tests.workers.isolated_app import app

GRACE_S = 1.0


class Services:
    """What a worker would give: remembers what was asked."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.kept: dict[str, Any] = {}
        self.cancelled = False

    def progress(self, done: float, total: float | None, message: str | None) -> None:
        self.said.append((done, total, message))

    def log(self, line: str) -> None:
        self.said.append(line)

    async def step(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if name not in self.kept:
            self.kept[name] = await call()
        return self.kept[name]


def context(services: Any = None) -> JobContext:
    return JobContext(
        job_id=JobId("j1"),
        type="t",
        tenant="acme",
        queue="isolated",
        group="g",
        attempt=1,
        max_attempts=3,
        replay=0,
        replaying=False,
        created_ms=0,
        topic="jobs.isolated",
        partition=0,
        offset=5,
        headers={"h": b"\x00\xff"},
        _services=services,
    )


async def call(jobs: IsolatedJobs, type_: str, *, services: Any = None, **arguments: Any) -> Any:
    definition = app.jobs[type_]
    ctx = context(services) if definition.takes_context else None
    found = await jobs.run(definition, ctx, definition.args_type(**arguments), on_start=lambda: None)
    return None if found is None else msgspec.json.decode(found)


@asynccontextmanager
async def pool(limit: int = 1, grace_s: float = GRACE_S) -> AsyncIterator[IsolatedJobs]:
    jobs = IsolatedJobs(app, limit=limit, grace_s=grace_s)
    try:
        yield jobs
    finally:
        await jobs.stop()


def test_a_process_is_kept_for_the_next_job_of_either_kind() -> None:
    async def main() -> None:
        async with pool() as jobs:
            first = await call(jobs, "add", a=1, b=2)
            second = await call(jobs, "add-async", a=3, b=4)
        assert (first["sum"], second["sum"]) == (3, 7)
        assert first["pid"] == second["pid"] != os.getpid()
        assert not alive(first["pid"]), "no process outlives the pool"

    asyncio.run(main())


def test_no_more_processes_than_allowed_run_at_once() -> None:
    async def main() -> None:
        async with pool(limit=2) as jobs:
            found = await asyncio.gather(*(call(jobs, "add", a=n, b=0) for n in range(20)))
        assert [answer["sum"] for answer in found] == list(range(20))
        assert len({answer["pid"] for answer in found}) <= 2

    asyncio.run(main())


def test_errors_come_back_as_what_they_are() -> None:
    async def main() -> None:
        async with pool() as jobs:
            with pytest.raises(isolated_app.TooBad, match="too bad: ") as own:
                await call(jobs, "fail", how="own")
            assert classify(own.value) == "permanent"
            assert "isolated_app.py" in own.value.__notes__[0]
            with pytest.raises(Exception, match="one") as stubborn:
                await call(jobs, "fail", how="stubborn")
            assert type(stubborn.value).__name__ == "Stubborn"
            with pytest.raises(Exception, match="3") as exit_:
                await call(jobs, "fail", how="exit")
            assert type(exit_.value).__name__ == "SystemExit"
            assert (await call(jobs, "add", a=1, b=1))["sum"] == 2, "a handler's exit ends its job, not the process"

    asyncio.run(main())


@pytest.mark.parametrize(("how", "told"), [("exit", "exit code 7"), ("kill", "killed by signal 9")])
def test_a_process_that_dies_is_a_crash_of_its_job_alone(how: str, told: str) -> None:
    async def main() -> None:
        async with pool(limit=2) as jobs:
            neighbour = asyncio.ensure_future(call(jobs, "polite", file=os.devnull, services=(busy := Services())))
            with pytest.raises(ProcessDied, match=told) as died:
                await call(jobs, "die", how=how)
            assert classify(died.value) == "crash"
            assert (await call(jobs, "add", a=1, b=1))["sum"] == 2
            busy.cancelled = True
            assert await neighbour == "as you wish"

    asyncio.run(main())


def test_crashes_bound_the_attempts_of_a_job_whose_process_dies() -> None:
    retry = app.jobs["die"].retry
    assert retry.decide(1, ProcessDied("gone"), random.Random(1)).should_retry
    last = retry.decide(2, ProcessDied("gone"), random.Random(1))
    assert (last.should_retry, last.error_class) == (False, "crash")
    assert retry.decide(2, ValueError("no crash"), random.Random(1)).should_retry


def test_the_context_works_in_a_process() -> None:
    async def main() -> None:
        services = Services()
        async with pool() as jobs:
            assert await call(jobs, "told", services=services, n=5) == [25, "acme", False]
            assert services.said == [(5, 10, "half way"), "a line"]
            services.kept["square"] = 9
            assert await call(jobs, "told", services=services, n=5) == [9, "acme", False], "a kept step does not run"
            assert await call(jobs, "told-async", services=Services(), n=4) == 16

    asyncio.run(main())


def test_the_context_works_within_steps_and_in_steps_beside_each_other() -> None:
    async def main() -> None:
        services = Services()
        async with pool() as jobs:
            assert await call(jobs, "steps-beside", services=services, n=5) == [[False, 5], 5]
        assert services.said == [(5, 10, "in a step")] * 2
        assert services.kept == {"second": [False, 5], "first": 5, "within": 5}

    asyncio.run(main())


def test_a_job_that_ends_in_the_middle_of_a_step_has_ended_as_it_says() -> None:
    """In a worker's own loop it does: the step is given up, the job's end counts, and the process is free again."""

    async def main() -> None:
        async with asyncio.timeout(30), pool() as jobs:
            services = Services()
            [*told, pid] = await call(jobs, "leave-step", services=services, how="cancel")
            assert told == ["step", "handler"], "a cancelled step has cleaned up before the handler goes on"
            assert await call(jobs, "leave-step", services=services, how="forget") == "left"
            with pytest.raises(isolated_app.TooBad, match="in the middle of a step"):
                await call(jobs, "leave-step", services=services, how="raise")
            with pytest.raises(Exception, match="4") as exit_:
                await call(jobs, "exit-in-step", services=services)
            assert type(exit_.value).__name__ == "SystemExit"
            assert services.kept == {}, "what was given up is not kept"
            assert await call(jobs, "told-async", services=services, n=4) == 16
            assert (await call(jobs, "add", a=1, b=1))["pid"] == pid

    asyncio.run(main())


def test_a_job_that_is_stopped_in_a_step_cleans_up_and_leaves_its_process(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "pid"
        async with asyncio.timeout(30), pool(grace_s=3600.0) as jobs:
            running = asyncio.ensure_future(call(jobs, "stopped-step", file=str(file), services=Services()))
            pid = await written(file)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert file.read_text() == "cleaned up"
            assert (await call(jobs, "add", a=1, b=1))["pid"] == int(pid)

    asyncio.run(main())


def test_odd_words_are_mended_where_they_are_said_or_raise_there() -> None:
    async def main() -> None:
        services = Services()
        async with pool() as jobs:
            assert await call(jobs, "odd-words", services=services, nan=False) == "said"
            assert services.said == [(0.5, None, "half ?"), "no file ?"]
            with pytest.raises(ValueError, match="finite") as wrong:
                await call(jobs, "odd-words", services=services, nan=True)
            assert "isolated_app.py" in wrong.value.__notes__[0]

    asyncio.run(main())


def test_a_process_whose_job_could_not_be_served_runs_no_other_one() -> None:
    """It runs that job still, and would give its result to the next."""

    class Broken(Services):
        def log(self, line: str) -> None:
            raise RuntimeError("no room for lines")

    async def main() -> None:
        async with pool() as jobs:
            with pytest.raises(RuntimeError, match="no room"):
                await call(jobs, "told", services=Broken(), n=5)
            assert (await call(jobs, "add", a=1, b=2))["sum"] == 3

    asyncio.run(main())


def test_a_stopped_job_cleans_up_and_leaves_its_process(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "pid"
        async with pool() as jobs:
            running = asyncio.ensure_future(call(jobs, "spin", file=str(file)))
            pid = await written(file)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert file.read_text() == "cleaned up True"
            assert (await call(jobs, "add", a=1, b=1))["pid"] == int(pid)

    asyncio.run(main())


def test_a_plain_job_without_a_context_is_interrupted_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "pid"
        async with pool(grace_s=3600.0) as jobs:
            running = asyncio.ensure_future(call(jobs, "sleep", file=str(file)))
            pid = await written(file)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert file.read_text() == "cleaned up"
            assert (await call(jobs, "add", a=1, b=1))["pid"] == int(pid)

    asyncio.run(main())


def test_a_job_that_ignores_its_stop_is_killed_within_the_grace(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "pid"
        async with pool(grace_s=0.2) as jobs:
            running = asyncio.ensure_future(call(jobs, "deaf", file=str(file)))
            pid = int(await written(file))
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await gone(pid)
            assert (await call(jobs, "add", a=1, b=1))["sum"] == 2

    asyncio.run(main())


def test_a_second_request_kills_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "pid"
        async with pool(grace_s=3600.0) as jobs:
            running = asyncio.ensure_future(call(jobs, "deaf", file=str(file)))
            pid = int(await written(file))
            running.cancel()
            await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await gone(pid)

    asyncio.run(main())


def test_a_job_that_ends_well_when_asked_has_ended_well(tmp_path: Path) -> None:
    async def main() -> None:
        file = tmp_path / "pid"
        async with pool() as jobs:
            running = asyncio.ensure_future(call(jobs, "polite", file=str(file)))
            await written(file)
            running.cancel()
            assert await running == "as you wish"

    asyncio.run(main())


def test_an_app_that_no_other_process_can_import_is_refused() -> None:
    hidden = App("hidden")

    @hidden.job("x", isolation="process")
    def x() -> None: ...

    with pytest.raises(InvalidDefinition, match="a name of a module"):
        check_isolation(hidden)
    check_isolation(app)
    assert AppPath.of(app) == AppPath(module="tests.workers.isolated_app", name="app")


def test_an_unknown_isolation_is_refused_where_the_job_is_declared() -> None:
    with pytest.raises(InvalidDefinition, match="isolation 'thread' is not one of process"):
        App("a").job("x", isolation="thread")(lambda: None)


def test_an_app_that_cannot_be_imported_is_told() -> None:
    async def main() -> None:
        nowhere = AppPath(module="no.such.module", name="app")
        with pytest.raises(ProcessNotStarted, match="cannot import"):
            await ChildProcess.start(nowhere, app.settings)

    asyncio.run(main())


def test_frames_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_FRAME_BYTES > 1024 * 1024
    monkeypatch.setattr("logqueue_consumers.processes.frames.MAX_FRAME_BYTES", 10)
    with pytest.raises(FrameTooLarge):
        frame(Tell("log", b"x" * 20))


async def written(file: Path) -> str:
    async with asyncio.timeout(20):
        while not file.exists() or not file.read_text():
            await asyncio.sleep(0.01)
    return file.read_text()


async def gone(pid: int) -> None:
    """Wait until a process that was killed has heard of it."""
    async with asyncio.timeout(10):
        while alive(pid):
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether it runs: one that was killed is there until its parent has heard of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
