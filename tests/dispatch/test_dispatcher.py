"""The timer of a dispatcher: it comes no later than the first token that a waiting flow could start with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from logqueue_consumers.dispatch.bucket import Bounds, Bucket
from logqueue_consumers.dispatch.dispatcher import MIN_WAIT_S, Dispatcher
from logqueue_consumers.dispatch.ready_queue import Placed
from logqueue_consumers.lab.virtual_clock import VirtualClock
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.running.runner import RunnerPool

from logqueue.clock import SystemClock

HOURLY = Bounds(rate=1 / 3600)
EACH_SECOND = Bounds(rate=1.0)
ONE_EACH_SECOND = Bounds(rate=1.0, running=1)
CLOCK_STEP_S = 0.001


class FakeJob:
    """A job, and what bounds it."""

    partition = SimpleNamespace(queue="q")
    definition = SimpleNamespace(type="t")

    def __init__(self, tenant: str, *buckets: Bucket) -> None:
        self.tenant = tenant
        self.buckets = buckets


class Places:
    """Jobs bring their buckets."""

    is_stale = False
    free: Mapping[tuple[str, str], Placed] = {}

    def place(self, job: FakeJob, now_s: float) -> Placed:
        return Placed("q", "", 1.0, 1.0, job.buckets)


class World:
    """A dispatcher on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = VirtualClock(time_ms=0)
        self.wakes = 0
        self.dispatcher: Any = Dispatcher(
            Places(),  # type: ignore[arg-type]
            concurrency=8,
            clock=self.clock,
            wake=self.woken,
        )

    def woken(self) -> None:
        self.wakes += 1

    def bucket(self, bounds: Bounds) -> Bucket:
        """A bucket with a token in it."""
        return Bucket(bounds, self.clock.monotonic() - 1.0)

    def pass_s(self, seconds: float) -> None:
        self.clock.move_to(self.clock.time_ms() + round(seconds * 1000))

    def run_all(self) -> list[FakeJob | None]:
        """Run what may start, one after the other; None where it was found that nothing may."""
        found = []
        while self.dispatcher:
            job = self.dispatcher.popleft()
            if job is not None:
                self.dispatcher.ended(job)
            found.append(job)
        return found


def test_a_flow_found_blocked_where_another_job_starts_does_not_wait_for_a_later_timer() -> None:
    world = World()
    slow, fast = world.bucket(HOURLY), world.bucket(EACH_SECOND)
    of_slow = FakeJob("slow", slow)
    world.dispatcher.extend([of_slow, FakeJob("slow", slow)])
    assert world.run_all() == [of_slow, None], "the timer is set"
    first, waiting, free = FakeJob("fast", fast), FakeJob("fast", fast), [FakeJob("free"), FakeJob("free")]
    world.dispatcher.extend([first, waiting])
    assert world.dispatcher.popleft() is first
    world.dispatcher.ended(first)
    world.dispatcher.extend(free)
    assert world.run_all() == free, "every call that finds a flow blocked returns a job"
    world.pass_s(1.0)
    assert (world.wakes, world.run_all()) == (1, [waiting])


def test_a_flow_that_waited_for_a_job_to_end_then_waits_for_its_token() -> None:
    world = World()
    bucket = world.bucket(ONE_EACH_SECOND)
    first, second = FakeJob("t", bucket), FakeJob("t", bucket)
    world.dispatcher.extend([first, second])
    assert [world.dispatcher.popleft(), world.dispatcher.popleft()] == [first, None]
    world.pass_s(0.1)
    world.dispatcher.ended(first)
    assert not world.dispatcher
    world.pass_s(0.9)
    assert (world.wakes, world.run_all()) == (1, [second])


class DispatcherMachine(RuleBasedStateMachine):
    """Jobs with several limits come, start and end, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        bounds = (HOURLY, EACH_SECOND, ONE_EACH_SECOND, Bounds(running=2), Bounds(rate=10.0, burst=3.0))
        self.buckets = [self.world.bucket(bound) for bound in bounds]
        self.running: list[FakeJob] = []

    @rule(number=st.integers(0, 4), other=st.none() | st.integers(0, 4), count=st.integers(1, 3))
    def jobs_come(self, number: int, other: int | None, count: int) -> None:
        places = dict.fromkeys(place for place in (number, other) if place is not None)
        buckets = [self.buckets[place] for place in places]
        self.world.dispatcher.extend(FakeJob(f"t{number}", *buckets) for _ in range(count))

    @rule()
    def a_job_without_limits_comes(self) -> None:
        self.world.dispatcher.append(FakeJob("free"))

    @rule()
    def one_starts(self) -> None:
        job = self.world.dispatcher.popleft()
        if job is not None:
            self.running.append(job)

    @rule(data=st.data())
    def one_ends(self, data: st.DataObject) -> None:
        if self.running:
            job = data.draw(st.sampled_from(self.running))
            self.running.remove(job)
            self.world.dispatcher.ended(job)

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_s(seconds)

    @rule()
    def limits_are_looked_at_again(self) -> None:
        waiting = list(self.world.dispatcher)
        self.world.dispatcher.clear()
        self.world.dispatcher.extend(waiting)

    @invariant()
    def the_timer_comes_in_time(self) -> None:
        clock = self.world.clock
        now_s, next_ms = clock.monotonic(), clock.next_ms()
        for bucket in self.buckets:
            at_s = bucket.filled_at(now_s) if bucket.waiting else None
            if at_s is not None:
                assert next_ms is not None, "a flow waits for a token, and nobody looks"
                wait_s = (next_ms - clock.time_ms()) / 1000
                assert wait_s <= max(MIN_WAIT_S, at_s - now_s) + CLOCK_STEP_S


DispatcherMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestDispatcher = DispatcherMachine.TestCase


def test_a_job_that_is_taken_while_its_partition_stops_gives_back_what_bounds_it() -> None:
    class Results:
        """As the engine: the end of a job gives the next one of its lane its turn, whatever stops meanwhile."""

        def __init__(self) -> None:
            self.next_of_lane: list[Any] = []

        def started(self, job: Any) -> None: ...

        def succeeded(self, job: Any, result: bytes | None) -> None:
            job.partition.is_stopping = True
            while self.next_of_lane:
                dispatcher.append(self.next_of_lane.pop())

    class Arguments(msgspec.Struct):
        """None."""

    async def handler() -> None: ...

    definition = SimpleNamespace(type="t", timeout_s=9.0, version=None, is_bare=True, handler=handler)
    clock, results = SystemClock(), Results()
    bucket = Bucket(Bounds(running=2), clock.monotonic())
    pool = RunnerPool(results, limits=WorkerLimits(), clock=clock, group="g", is_shadow=False)  # type: ignore[arg-type]
    dispatcher: Any = Dispatcher(Places(), concurrency=8, clock=clock, wake=pool.wake)  # type: ignore[arg-type]
    pool.ready, pool.on_ended = dispatcher, dispatcher.ended

    def job(partition: Any) -> Any:
        made: Any = FakeJob("a", bucket)
        made.partition, made.definition, made.arguments = partition, definition, Arguments()
        made.headers, made.is_over = SimpleNamespace(expires_ms=None), False
        return made

    async def main() -> None:
        running = asyncio.create_task(pool.run())
        for _ in range(3):  # rebalances
            partition = SimpleNamespace(queue="q", is_stopping=False)
            results.next_of_lane = [job(partition)]
            dispatcher.append(job(partition))
            pool.wake()
            async with asyncio.timeout(10):
                while not partition.is_stopping or dispatcher or pool.running_count:
                    await asyncio.sleep(0)
            assert bucket.running == 0
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(main())
