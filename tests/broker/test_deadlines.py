"""Many deadlines behind one timer: they come in order, once, and a bug in one stops no other."""

from __future__ import annotations

import asyncio

import pytest

from logqueue.broker.deadlines import Deadlines

PATIENCE_SECONDS = 50


class Wait:
    """Notes when its time came."""

    def __init__(self, name: str, log: list[str], *, is_broken: bool = False) -> None:
        self.is_done = False
        self._name = name
        self._log = log
        self._is_broken = is_broken

    def on_deadline(self) -> None:
        self.is_done = True
        self._log.append(self._name)
        if self._is_broken:
            raise RuntimeError("a bug")


def run(*waits: tuple[float, Wait]) -> int:
    """Let every deadline pass; how often the end of a wake-up was told."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        began, turns = loop.time(), []
        deadlines = Deadlines(loop, after_wake=lambda: turns.append(1))
        for seconds, wait in waits:
            deadlines.push(loop.time() + seconds, wait)
        while not all(wait.is_done for _, wait in waits) and loop.time() < began + PATIENCE_SECONDS:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)  # whatever comes too often
        deadlines.close()
        return len(turns)

    return asyncio.run(main())


def test_deadlines_come_in_their_order() -> None:
    log: list[str] = []
    run((0.02, Wait("second", log)), (0.001, Wait("first", log)), (0.03, Wait("third", log)))
    assert log == ["first", "second", "third"]


def test_what_is_done_is_not_woken() -> None:
    log: list[str] = []
    done = Wait("done", log)
    done.is_done = True
    run((0.001, done), (0.002, Wait("other", log)))
    assert log == ["other"]


def test_finished_ones_are_forgotten_even_if_their_time_is_far() -> None:
    async def main() -> None:
        deadlines = Deadlines(asyncio.get_running_loop(), after_wake=lambda: None)
        for _ in range(5000):
            wait = Wait("far", [])
            deadlines.push(1e9, wait)
            wait.is_done = True
        assert len(deadlines) < 2500
        deadlines.close()

    asyncio.run(main())


def test_a_bug_in_one_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    turns = run((0.001, Wait("broken", log, is_broken=True)), (0.001, Wait("with it", log)), (0.01, Wait("later", log)))
    assert log == ["broken", "with it", "later"]
    assert turns >= 1, "the end of a wake-up is told all the same"
    assert "please report this" in caplog.text


def test_one_that_asks_for_a_later_deadline_when_woken_does_not_put_off_those_before_it() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        log: list[str] = []
        ended = loop.create_future()
        deadlines = Deadlines(loop, after_wake=lambda: None)

        class Again(Wait):
            def on_deadline(self) -> None:
                super().on_deadline()
                deadlines.push(loop.time() + 60, Wait("much later", log))

        class Last(Wait):
            def on_deadline(self) -> None:
                super().on_deadline()
                ended.set_result(None)

        deadlines.push(loop.time() + 0.001, Again("again", log))
        deadlines.push(loop.time() + 0.01, Last("soon", log))
        async with asyncio.timeout(50):
            await ended
        deadlines.close()
        return log

    assert asyncio.run(main()) == ["again", "soon"]
