"""Replays over REST: handlers may print what they like, and nothing runs that the log was not told of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from logqueue_api.rest.problems import Problem, unavailable
from logqueue_api.rest.replay_runs import MAX_SUMMARY_BYTES, ReplayRun, ReplayRuns

from logqueue.clock import ManualClock
from tests.consumers.conftest import until
from tests.loops import in_loop

PATIENCE_SECONDS = 60

CHATTER = f"""
import json, sys
def say(line): print(line, flush=True)
sys.stderr.write("\\r 50%" * {MAX_SUMMARY_BYTES // 2})
say("." * {3 * MAX_SUMMARY_BYTES})
for line in (
    '{{"event":"progress"}}',
    '{{"event":"progress","done":"all","total":[]}}',
    '{{"is_complete":"nearly"}}',
    '{{"is_complete":true}}',
    "[" * 5_000 + "]" * 5_000,
    '{{"is_complete":true,"group":"shadow","topic":"jobs.pay","x":' + "[" * 300 + "]" * 300 + "}}",
    '{{"event":"progress","done":3,"total":null}}',
    '{{"event":"progress","done":8,"total":9}}',
):
    say(line)
"""
SUMMARY = """
say(json.dumps({"topic": "jobs.pay", "group": "shadow", "is_complete": True, "comparison": "x" * 500_000}))
"""


def replays(program: str) -> ReplayRuns:
    return ReplayRuns(ManualClock(), environment={}, command=[sys.executable, "-c", program])


async def start(runs: ReplayRuns, *words: str, note: Any = None) -> ReplayRun:
    async def noted(run: ReplayRun) -> None:
        return None

    return await runs.start(words, group="shadow", topic="jobs.pay", by="ada", note=note or noted)


async def ended(runs: ReplayRuns, run: ReplayRun) -> ReplayRun:
    async def state() -> str:
        return run.state

    await until(state, lambda found: found != "running", patience_s=PATIENCE_SECONDS)
    await runs.close()
    return run


@in_loop
async def test_handlers_may_print_long_lines_and_ones_like_the_replays_own() -> None:
    runs = replays(CHATTER + SUMMARY)
    run = await ended(runs, await start(runs))
    assert (run.state, run.done, run.total) == ("done", 8, 9), run.detail
    assert run.summary is not None
    assert len(run.summary["comparison"]) == 500_000


@in_loop
async def test_a_summary_that_a_handler_prints_is_none() -> None:
    runs = replays(CHATTER)
    run = await ended(runs, await start(runs))
    assert (run.state, run.summary) == ("failed", None)
    assert run.detail is not None and "50%" in run.detail


@in_loop
async def test_what_cannot_be_put_on_record_is_not_run(tmp_path: Path) -> None:
    async def refuse(run: ReplayRun) -> None:
        with pytest.raises(Problem) as again:
            await start(runs)
        assert again.value.status == 409, "its place is taken"
        raise unavailable("the log is away")

    runs = replays("import pathlib, sys; pathlib.Path(sys.argv[1]).touch()")
    first = await ended(runs, await start(runs, str(tmp_path / "first")))
    assert (tmp_path / "first").exists()
    with pytest.raises(Problem, match="the log is away"):
        await start(runs, str(tmp_path / "second"), note=refuse)
    assert runs.all() == [first]
    await runs.close()
    assert not (tmp_path / "second").exists()
