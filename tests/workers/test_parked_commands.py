"""Parked jobs under an operator's hand: cancelled, discarded, run as another type; over an API, with a worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from logqueue import App
from tests.consumers.conftest import Log, until, working
from tests.loops import in_loop
from tests.workers.test_replay_commands import Shell

TYPED = {name: [("ce_id", name.encode()), ("ce_type", b"later")] for name in ("kept", "cancelled", "thrown", "many")}


def make(log: Log, ran: list[tuple[str, int]], *types: str) -> App:
    app = App(log.name, settings=log.settings)
    app.queue("mail", partitions=1)
    for type_ in types:

        @app.job(type_, queue="mail")
        async def handle(ctx, *, n: int) -> int:  # type: ignore[no-untyped-def]
            ran.append((ctx.job_id, ctx.replay))
            return n

    return app


@asynccontextmanager
async def serving(shell: Shell) -> AsyncIterator[httpx.AsyncClient]:
    """An API; its start and its end do not hold up the worker of this process."""
    api = shell.api()
    await asyncio.to_thread(api.__enter__)
    try:
        async with httpx.AsyncClient(base_url=shell.url, timeout=20) as http:
            yield http
    finally:
        await asyncio.to_thread(api.__exit__, None, None, None)


async def states(log: Log) -> dict[str, str]:
    """The last state of every job, by the rule of the view."""
    found: dict[str, tuple[Any, str]] = {}
    for status in await log.statuses():
        at = ((status.replay, status.attempt, status.rank, status.sequence), str(status.state))
        found[status.id] = max(at, found.get(status.id, at))
    return {id_: state for id_, (_, state) in found.items()}


@in_loop
@pytest.mark.timeout(180)
async def test_parked_jobs_are_cancelled_discarded_and_run_as_another_type(log: Log, tmp_path: Path) -> None:
    shell, ran = Shell(log, tmp_path), list[tuple[str, int]]()
    topic = log.settings.topics.jobs("mail")

    async def run(*words: str) -> tuple[int, Any, str]:
        return await asyncio.to_thread(shell.run, *words)

    async with working(make(log, ran, "sent", "other")):
        for headers in TYPED.values():
            await log.produce(topic, b'{"n": 1}', key=b"acme", headers=headers)
        untyped = await log.produce(topic, b'{"n": 7}', key=b"acme")
        nameless = f"{topic}-{untyped.partition}-{untyped.offset}"
        await until(lambda: states(log), lambda found: list(found.values()).count("parked") == 5)
        async with serving(shell) as http:

            async def known() -> int:
                answer = await http.get("/v1/jobs", params={"state": "parked"})
                return len(answer.json().get("items", ()))

            await until(known, lambda count: count == 5)
            code, _, told = await run("job", "retry", "kept")
            assert code == 8 and "is parked" in told and "as another type" in told
            code, _, told = await run("job", "retry", nameless, "--as-type", "snet")
            assert code == 2 and "known are" in told
            assert (await run("job", "cancel", "cancelled", "--reason", "not ours"))[0] == 0
            assert (await run("job", "discard", "thrown", "--by", "ann"))[0] == 0
            assert (await run("job", "retry", nameless, "--as-type", "sent"))[0] == 0
            wanted = {"cancelled": "cancelled", "thrown": "cancelled", nameless: "succeeded", "kept": "parked"}
            await until(lambda: states(log), lambda found: wanted.items() <= found.items())
            details = [json.loads(s.details) for s in await log.statuses() if s.id == "cancelled" and s.details]
            assert details[-1]["cancelled"]["reason"] == "not ours"
            code, counted, _ = await run("jobs", "cancel", "--state", "parked", "--type", "later", "--dry-run")
            assert (code, counted["counts"]["matched"]) == (0, 2)
            asked = {"queue": "mail", "state": ["parked"], "as_type": "other", "limit": 1, "dry_run": False}
            assert (await http.post("/v1/jobs:retry", json=asked)).status_code == 202
            assert (await http.post("/v1/jobs:retry", json=asked | {"queue": None})).status_code == 400
            assert (await http.post("/v1/jobs/kept:cancel", json={"as_type": "other"})).status_code == 400
            await until(lambda: states(log), lambda found: found["many"] == "succeeded")
    assert ran == [(nameless, 1), ("many", 1)]
    # What was ended or went on does not run when its type becomes known; what was left does.
    async with working(make(log, ran, "sent", "other", "later")):
        await until(lambda: states(log), lambda found: found["kept"] == "succeeded")
    assert ran[2:] == [("kept", 0)]


@in_loop
async def test_a_cancel_that_came_while_no_worker_ran_ends_a_parked_job(log: Log) -> None:
    from logqueue.jobs.control import cancel_command

    ran: list[tuple[str, int]] = []
    async with working(make(log, ran, "sent")):
        await log.produce(log.settings.topics.jobs("mail"), b"{}", key=b"acme", headers=TYPED["kept"])
        await until(lambda: states(log), lambda found: found.get("kept") == "parked")
    key, value = cancel_command("kept", replay=0, by="op", at_ms=1).record()
    await log.produce(log.settings.topics.control, value, key=key)
    async with working(make(log, ran, "sent")):
        await until(lambda: states(log), lambda found: found["kept"] == "cancelled")
    async with working(make(log, ran, "sent", "later")) as worker:
        await log.produce(
            log.settings.topics.jobs("mail"), b'{"n": 1}', headers=[("ce_id", b"end"), ("ce_type", b"sent")]
        )
        await until(lambda: states(log), lambda found: found.get("end") == "succeeded")
        assert worker.metrics().parked == 0
    assert ran == [("end", 0)]
