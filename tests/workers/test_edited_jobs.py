"""A job whose arguments an operator has changed is exported and compared with those, not with its first record's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from logqueue_consumers.control.rounds import MAX_EDIT_BYTES
from logqueue_consumers.letters.dead_letters import DeadLetters, LetterFilter

from logqueue import App
from logqueue.jobs.errors import Permanent
from logqueue.testing.cases import load_case
from tests.consumers.conftest import Log, until, working
from tests.loops import in_loop
from tests.workers.test_parked_commands import serving
from tests.workers.test_replay_commands import Shell

WRONG: list[tuple[str, Any]] = [("ce_id", b"odd"), ("ce_type", b"sum"), ("x", None)]  # a null header is no trouble


def make(log: Log, broken: set[int]) -> App:
    app = App(log.name, settings=log.settings)
    app.queue("sums", partitions=1)

    @app.job("sum", queue="sums")
    async def add(*, a: int, note: str = "") -> int:
        if a in broken:
            raise Permanent(a)
        return a + 1

    return app


@in_loop
@pytest.mark.timeout(180)
async def test_an_export_of_an_edited_job_has_the_arguments_that_its_result_is_of(log: Log, tmp_path: Path) -> None:
    shell, broken = Shell(log, tmp_path), {4}

    async def run(*words: str) -> tuple[int, Any, str]:
        return await asyncio.to_thread(shell.run, *words)

    async def succeeded() -> int:
        return sum(status.state == "succeeded" for status in await log.statuses())

    app = make(log, broken)
    letters = DeadLetters(log.settings, queue="sums", group=app.group)
    async with working(app), serving(shell) as http:
        for name in (b"odd", b"huge"):
            await log.produce(
                log.settings.topics.jobs("sums"), b'{"b": 1}', key=b"acme", headers=[("ce_id", name), *WRONG[1:]]
            )
        await log.terminal(count=2)
        assert (await run("dlq", "replay", "sums", "odd", "--args", '{"a": 4}'))[0] == 0
        # It dies again: the letter is that of the edited job, and so is what comes of it.
        await until(letters.newest, lambda found: sum(letter.id == "odd" for letter in found) == 2)
        broken.clear()
        assert (await run("dlq", "replay", "sums", "odd"))[0] == 0
        huge = json.dumps({"a": 1, "note": "x" * MAX_EDIT_BYTES}).encode()
        await letters.replay(LetterFilter(ids=frozenset({"huge"})), by="op", edit=lambda job: job.with_arguments(huge))
        await until(succeeded, lambda count: count == 2)

        async def shown() -> Any:
            return (await http.get("/v1/jobs", params={"state": "succeeded"})).json().get("items", [])

        await until(shown, lambda items: len(items) == 2)
        code, told, errors = await run("export", "odd", "huge", "-o", "cases.jsonl")
        assert (code, told["jobs"], told["unknown"]) == (0, 1, 1), errors
        assert (await run("export", "huge", "-o", "none.jsonl"))[0] == 4
        details = (await http.get("/v1/jobs/odd")).json()["details"]
        assert details["edited"] == {"args": {"a": 4}}
    case = load_case(tmp_path / "cases.jsonl")
    assert (case.id, case.args, case.recorded and case.recorded.result) == ("odd", {"a": 4}, 5)
    assert await case.run_async(make(log, set())) == 5
