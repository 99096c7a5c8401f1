"""Work in threads with loops of their own: its end, its errors, its cancellation, and who waits for a place."""

from __future__ import annotations

import asyncio
import threading

import pytest
from logqueue_api.rest.aside import Scans, aside
from logqueue_api.rest.problems import Problem

from tests.loops import in_loop

LONG_SECONDS = 3600.0
SOON_SECONDS = 20.0


@in_loop
async def test_it_runs_in_another_thread_and_its_answer_or_error_comes_back() -> None:
    async def name() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise ValueError("as it is")

    assert (await aside(name)).startswith("logqueue-aside")
    with pytest.raises(ValueError, match="as it is"):
        await aside(fail)


@pytest.mark.parametrize("has_begun", [True, False])
@in_loop
async def test_a_cancellation_ends_it_in_its_thread(has_begun: bool) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(LONG_SECONDS)
        finally:
            ended.set()

    task = asyncio.create_task(aside(wait))
    await asyncio.sleep(0)
    if has_begun:
        assert await asyncio.to_thread(begun.wait, SOON_SECONDS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if begun.is_set():
        assert await asyncio.to_thread(ended.wait, SOON_SECONDS)


@in_loop
async def test_who_waits_for_a_place_for_too_long_is_told() -> None:
    scans = Scans(most=1, wait_seconds=0)
    begun, may_end = threading.Event(), threading.Event()

    async def first() -> str:
        begun.set()
        may_end.wait(SOON_SECONDS)
        return "read"

    async def second() -> str:
        return "read too"

    reading = asyncio.create_task(scans.run(first))
    assert await asyncio.to_thread(begun.wait, SOON_SECONDS)
    with pytest.raises(Problem, match="other requests that read whole topics are under way") as raised:
        await scans.run(second)
    assert raised.value.status == 503
    may_end.set()
    assert await reading == "read"
    assert await Scans(most=1).run(second) == "read too"
