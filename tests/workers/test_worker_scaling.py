"""How many workers `up` runs: generated loads against the rules, and the workforce that follows."""

from __future__ import annotations

import argparse
import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logqueue_api.cli.arguments import process_range
from logqueue_api.up.child import ChildSpec, Notice
from logqueue_api.up.counts import QueueCounts, Rates
from logqueue_api.up.scaling import Load, ScaleLimits, Scaler
from logqueue_api.up.workforce import Workforce

from logqueue.clock import ManualClock

LIMITS = ScaleLimits(least=1, most=8)
CAPACITY = 10


def load(queued: int = 0, *, oldest: float | None = None, running: int = 0, ended: int = 0) -> Load:
    return Load(queued=queued, oldest_seconds=oldest, running=running, ended=ended, capacity=CAPACITY)


loads = st.builds(
    load,
    queued=st.integers(0, 50),
    oldest=st.none() | st.floats(0, 100),
    running=st.integers(0, 100),
    ended=st.integers(0, 1_000),
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 40), loads), max_size=80), st.integers(1, 4), st.integers(0, 6))
def test_the_number_stays_in_its_bounds_and_changes_only_after_a_pause(
    history: list[tuple[float, Load]], least: int, more: int
) -> None:
    limits = ScaleLimits(least=least, most=least + more)
    scaler, now, changed_at, before = Scaler(limits, now=0.0), 0.0, 0.0, least
    for step, one in history:
        now += step
        wanted = scaler.decide(one, now)
        assert limits.least <= wanted <= limits.most
        if wanted != before:
            assert now - changed_at >= limits.pause
            assert wanted in (min(before * 2, limits.most), before - 1), "doubles, or goes down by one"
            changed_at, before = now, wanted


@settings(deadline=None)
@given(st.integers(0, 12), st.integers(1, 8))
def test_a_constant_load_comes_to_rest_with_enough_workers(needed: int, least: int) -> None:
    """`needed` workers' worth of jobs at any time: fewer workers leave a backlog, more have nothing left to wait."""
    limits = ScaleLimits(least=least, most=8)
    scaler, ended, counts = Scaler(limits, now=0.0), 0, []
    for second in range(1_200):
        workers, ended = scaler.wanted, ended + 1
        lacks = workers < needed
        one = load(
            100 if lacks else 0,
            oldest=30.0 if lacks else None,
            running=min(needed, workers) * CAPACITY,
            ended=ended,
        )
        counts.append(scaler.decide(one, float(second)))
    assert len(set(counts[-300:])) == 1, "it does not swing"
    assert counts[-1] >= min(needed, limits.most)
    assert counts[-1] <= max(2 * needed, least), "nor keep many more than it needs"


def test_a_backlog_doubles_the_workers_until_the_bound_and_their_end_brings_them_back() -> None:
    scaler = Scaler(LIMITS, now=0.0)
    seen = [scaler.decide(load(500, oldest=9.0, running=1, ended=n), float(n)) for n in range(60)]
    assert sorted(set(seen)) == [1, 2, 4, 8]
    assert seen.index(8) <= 3 * LIMITS.pause + LIMITS.grow_after
    for second in range(60, 60 + int(8 * LIMITS.shrink_after)):
        last = scaler.decide(load(ended=60), float(second))
    assert last == 1


@pytest.mark.parametrize(
    "still",
    [load(500, oldest=900.0, ended=5), load(500, oldest=0.5, running=5, ended=5)],
    ids=["nothing moves: paused or held", "nothing waits for long"],
)
def test_waiting_alone_makes_nothing_grow(still: Load) -> None:
    scaler = Scaler(LIMITS, now=0.0)
    assert {scaler.decide(still, 30.0 + second) for second in range(300)} == {1}


def test_numbers_of_processes_are_read() -> None:
    assert process_range("3") == (3, 3)
    assert process_range("1..4") == (1, 4)
    assert process_range("auto")[0] == 1 <= process_range("auto")[1]
    for wrong in ("4..1", "0", "x", "1..", "-1..2"):
        with pytest.raises(argparse.ArgumentTypeError):
            process_range(wrong)


def test_the_oldest_age_is_told_for_each_queue() -> None:
    items = [{"oldest_queued_age_s": 3}, {"oldest_queued_age_s": None}, {}]
    assert [queue.oldest_seconds for queue in Rates().take({"items": items}, now=0.0)] == [3.0, None, None]


class FakeSupervisor:
    """Children without processes."""

    def __init__(self) -> None:
        self.children: dict[str, Any] = {}
        self.restarted: list[str] = []
        self.drained = asyncio.Event()

    def launch(self, spec: ChildSpec) -> Any:
        assert spec.name not in self.children
        self.children[spec.name] = SimpleNamespace(name=spec.name, pid=100 + len(self.children))
        return self.children[spec.name]

    async def start(self, spec: ChildSpec) -> Any:
        return self.launch(spec)

    async def retire(self, name: str) -> None:
        await self.drained.wait()
        del self.children[name]

    def restart(self, name: str) -> None:
        self.restarted.append(name)


def workforce(supervisor: FakeSupervisor, clock: ManualClock, told: list[Notice]) -> Workforce:
    return Workforce(
        supervisor,  # type: ignore[arg-type]
        make=lambda name: ChildSpec(name=name, command=lambda ready: [], environment={}),
        queues=("p", "q"),
        limits=ScaleLimits(least=1, most=4, grow_after=1.0, shrink_after=10.0, pause=1.0),
        capacity=CAPACITY,
        clock=clock,
        on_notice=told.append,
    )


def test_the_workforce_grows_with_the_backlog_and_gives_back_the_last_workers_first() -> None:
    async def main() -> None:
        supervisor, clock, told = FakeSupervisor(), ManualClock(), []
        force = workforce(supervisor, clock, told)
        await force.start()
        for ended in range(6):
            clock.advance(1.0)
            force.scale([QueueCounts("q", {"queued": 50, "running": 9, "succeeded": ended}, oldest_seconds=5.0)])
        assert force.names == ["worker-1", "worker-2", "worker-3", "worker-4"]
        assert "2 workers instead of 1: 50 jobs wait" in told[0].text
        for _ in range(12):
            clock.advance(1.0)
            force.scale([QueueCounts("q", {})])
        assert force.names == ["worker-1", "worker-2", "worker-3"]
        assert "worker-4" in supervisor.children, "it drains still"
        supervisor.drained.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert list(supervisor.children) == ["worker-1", "worker-2", "worker-3"]

    asyncio.run(main())


def test_a_worker_that_says_it_is_stuck_is_started_anew_once() -> None:
    async def main() -> None:
        supervisor, told = FakeSupervisor(), []
        force = workforce(supervisor, ManualClock(), told)
        await force.start()
        here = {"host": socket.gethostname(), "state": "stuck", "problem": "no progress"}
        document = {"items": [{"pid": 100, **here}, {"pid": 7, **here}]}
        force.replace_stuck(document)
        force.replace_stuck(document)
        force.replace_stuck(None)
        assert supervisor.restarted == ["worker-1"]
        assert "is stuck (no progress)" in told[0].text

    asyncio.run(main())


def test_a_stuck_worker_of_another_machine_has_its_process_id_by_chance() -> None:
    async def main() -> None:
        supervisor, told = FakeSupervisor(), []
        force = workforce(supervisor, ManualClock(), told)
        await force.start()
        force.replace_stuck({"items": [{"pid": 100, "host": f"not-{socket.gethostname()}", "state": "stuck"}]})
        assert (supervisor.restarted, told) == ([], [])
        force.replace_stuck({"items": [{"pid": 100, "host": socket.gethostname(), "state": "stuck"}]})
        assert supervisor.restarted == ["worker-1"], "its namesake did not use up its turn"

    asyncio.run(main())


def test_the_backlog_of_queues_that_others_work_on_makes_nothing_grow() -> None:
    async def main() -> None:
        supervisor, clock, told = FakeSupervisor(), ManualClock(), []
        force = workforce(supervisor, clock, told)
        await force.start()
        for ended in range(6):
            clock.advance(1.0)
            counts = {"queued": 50, "running": 9, "succeeded": ended}
            force.scale([QueueCounts("theirs", counts, oldest_seconds=5.0), QueueCounts("q", {"running": 1})])
        assert (force.names, told) == (["worker-1"], [])
        for _ in range(6):
            clock.advance(1.0)
            force.scale([QueueCounts(queue, {"queued": 9, "running": 1}, oldest_seconds=5.0) for queue in "pq"])
        assert "2 workers instead of 1: 18 jobs wait" in told[0].text

    asyncio.run(main())
