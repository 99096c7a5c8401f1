"""Breakers in a worker: work pauses and comes back, attempts are not burnt, others go on. On every engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from logqueue_consumers import workbench

from logqueue import App, Breaker, Retry
from logqueue.clock import SystemClock, Timer
from logqueue.jobs.errors import InvalidDefinition, Permanent
from tests.consumers.conftest import Log, until, working
from tests.loops import in_loop

OPEN_FOR_S = 3600.0


class LeapingClock(SystemClock):
    """The machine's clock, on which an hour can go by at once."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._long: list[tuple[Timer, Callable[..., object], tuple[Any, ...]]] = []

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s

    def call_later(self, delay_s: float, call: Callable[..., object], *args: Any) -> Timer:
        timer = super().call_later(delay_s, call, *args)
        if delay_s >= OPEN_FOR_S:
            self._long.append((timer, call, args))
        return timer

    def leap(self) -> None:
        self._ahead_s += OPEN_FOR_S
        for timer, call, args in self._long:
            timer.cancel()
            call(*args)
        self._long.clear()


@in_loop
async def test_an_open_breaker_holds_its_type_back_and_lets_the_others_go_on(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, calls, is_down = log.app(), Counter[str](), [True]
    bank = Breaker("bank", failures=3, window="1m", open_for=OPEN_FOR_S)
    clock = LeapingClock()
    monkeypatch.setattr(workbench, "SystemClock", lambda: clock)

    @app.job("pay", queue="q", breaker=bank, retry=Retry(attempts=20, first="10ms", cap="10ms"))
    async def pay(*, n: int) -> int:
        calls["pay"] += 1
        if is_down[0]:
            raise ConnectionError("the bank is away")
        return n

    @app.job("refund", queue="q", breaker=bank)
    async def refund() -> None:
        calls["refund"] += 1

    @app.job("other", queue="q")
    async def other() -> None:
        calls["other"] += 1

    async with working(app, concurrency=1) as worker:
        await app.send_many(pay.prepare(tenant=f"t{n}", n=n) for n in range(30))

        async def state() -> str:
            return worker.metrics().breakers["bank"]

        await until(state, lambda found: found == "open")
        begun = calls["pay"]
        assert begun == 3, "those that were ready wait instead of failing"
        await refund.send(tenant="x")
        await other.send(tenant="y")
        await log.terminal(count=1)
        assert (calls["other"], calls["refund"]) == (1, 0)
        is_down[0] = False
        clock.leap()
        ended = await log.terminal(count=32)
        assert {str(status.state) for status in ended} == {"succeeded"}
        assert max(status.attempt for status in ended) <= 5, "attempts were not burnt while it was open"
        assert await state() == "closed"


@in_loop
async def test_half_open_tries_as_few_as_it_says_and_opens_again(log: Log) -> None:
    app, calls = log.app(), []
    breaker = Breaker(failures=2, open_for="300ms", half_open=1)

    @app.job("pay", queue="q", breaker=breaker, retry=Retry(attempts=100, first="10ms", cap="10ms"))
    async def pay(*, n: int) -> None:
        calls.append(n)
        if len(calls) <= 5:
            raise ConnectionError

    async with working(app, concurrency=1) as worker:
        await app.send_many(pay.prepare(tenant=f"t{n}", n=n) for n in range(20))
        assert set(worker.metrics().breakers) == {"pay"}, "without a name it is the type's own"
        await log.terminal(count=20)
        # Two open it; three trials, one at a time, fail and open it again; the fourth closes it.
        assert len(calls) == 25


@in_loop
async def test_what_says_nothing_of_the_dependency_does_not_open_it(log: Log) -> None:
    app = log.app()

    @app.job("pay", queue="q", breaker=Breaker(failures=2))
    async def pay() -> None:
        raise Permanent("wrong account")

    async with working(app) as worker:
        await app.send_many(pay.prepare(tenant=f"t{n}") for n in range(6))
        await log.terminal(count=6)
        assert worker.metrics().breakers == {"pay": "closed"}


def test_jobs_that_share_a_breaker_must_mean_the_same_one() -> None:
    app = App("a")

    @app.job("one", breaker=Breaker("bank", failures=3))
    async def one() -> None: ...

    @app.job("two", breaker=Breaker("bank", failures=4))
    async def two() -> None: ...

    with pytest.raises(InvalidDefinition, match="bank"):
        app.check()
