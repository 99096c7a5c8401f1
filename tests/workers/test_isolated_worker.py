"""Isolated jobs in a worker on a log: results, crashes, hard stops; and what the worker says of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
from logqueue_schemas.job_status import JobStatus

from tests.consumers.conftest import FAST, Log, working
from tests.workers.isolated_app import app
from tests.workers.test_isolated_jobs import alive, written

LIMITS = replace(FAST, isolated_processes=2, isolated_grace_s=1.0)


def test_isolated_jobs_end_as_their_handlers_do_and_their_deaths_hurt_nobody_else(log: Log, tmp_path: Path) -> None:
    deaf_file, spin_file = tmp_path / "deaf", tmp_path / "spin"

    async def main() -> None:
        app.configure(log.settings)
        async with working(app, limits=LIMITS) as running:
            sent = {
                "add": await app.jobs["add"].send(tenant="a", a=1, b=2),
                "told": await app.jobs["told"].send(tenant="b", n=3),
                "die": await app.jobs["die"].send(tenant="c", how="exit"),
                "own": await app.jobs["fail"].send(tenant="d", how="own"),
                "deaf": await app.jobs["deaf"].send(tenant="e", file=str(deaf_file)),
                "spin": await app.jobs["spin"].send(tenant="f", file=str(spin_file)),
            }
            pid = int(await written(deaf_file))
            found = {status.id: status for status in await log.terminal(count=len(sent))}
            assert not alive(pid), "its time was up and it did not end: it was killed"
            assert running.metrics().running == 0
        by_name: dict[str, JobStatus] = {name: found[job.id] for name, job in sent.items()}
        assert msgspec.json.decode(by_name["add"].result or b"")["sum"] == 3
        assert msgspec.json.decode(by_name["told"].result or b"") == [9, "b", False]
        assert msgspec.json.decode(by_name["told"].details or b"")["progress"]["done"] == 3
        errors = {name: (s.error.error_class, s.attempt) for name, s in by_name.items() if s.error is not None}
        assert errors == {"die": ("crash", 2), "own": ("permanent", 1), "deaf": ("timeout", 1), "spin": ("timeout", 1)}
        assert spin_file.read_text() == "cleaned up True"

    asyncio.run(main())


def test_a_stop_hands_isolated_jobs_back_and_leaves_no_process(log: Log, tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def main() -> None:
        app.configure(log.settings)
        async with working(app, limits=replace(LIMITS, drain_timeout_s=0.0, isolated_grace_s=0.2)) as running:
            job = await app.jobs["wait"].send(tenant="a", file=str(file))
            pid = int(await written(file))
            metrics = await running.stop()
            assert metrics.interrupted == 1
            assert not alive(pid)
        file.write_text("")
        async with working(app, limits=LIMITS):
            state = await job.wait(timeout=60)
            assert (state.attempt, state.result) == (1, "waited")

    asyncio.run(main())
