"""Gates: what they hold waits in order and within a bound, what they finish ends once, what they let go runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from logqueue_consumers.gates import ROUND_MS, Fate, Finish, Gatekeeper, Hold, Verdict

from logqueue.clock import ManualClock


@dataclass
class FakePartition:
    is_stopping: bool = False


@dataclass(eq=False)
class FakeJob:
    name: str
    partition: FakePartition = field(default_factory=FakePartition)


class FakeRules:
    is_shadow = False

    def scheduled(self, job: Any, *, due_ms: int, now_us: int) -> str:
        return f"{job.name} at {due_ms}"


class Door:
    """A gate whose answers the test sets."""

    def __init__(self) -> None:
        self.answers: dict[str, Verdict] = {}

    def check(self, job: Any, now_ms: int) -> Verdict | None:
        return self.answers.get(job.name)


class Bench:
    def __init__(self, *, limit: int = 10) -> None:
        self.routed: list[str] = []
        self.went_on: list[str] = []
        self.ended: list[Any] = []
        self.clock = ManualClock()
        self.door = Door()
        self.keeper = Gatekeeper(
            route=self.route,
            go_on=lambda job: self.went_on.append(job.name),
            end=self.ended.append,
            wake=lambda: None,
            rules=FakeRules(),  # type: ignore[arg-type]
            clock=self.clock,
            limit=limit,
        )
        self.keeper.gates.append(self.door)

    def route(self, job: Any) -> None:
        if self.keeper.ask(job) is Fate.GOES_ON:
            self.routed.append(job.name)

    def ask(self, name: str, **options: Any) -> Fate:
        return self.keeper.ask(FakeJob(name), **options)  # type: ignore[arg-type]


def run(test: Any) -> None:
    async def main() -> None:
        bench = Bench()
        try:
            test(bench)
        finally:
            bench.keeper.stop()

    asyncio.run(main())


def test_held_jobs_are_asked_again_in_their_order_when_their_reason_may_be_gone() -> None:
    def test(bench: Bench) -> None:
        for name in "abc":
            bench.door.answers[name] = Hold("breaker")
            assert bench.ask(name) is Fate.HELD
        bench.door.answers = {"b": Hold("breaker")}
        bench.keeper.recheck("breaker")
        assert bench.routed == ["a", "c"]
        assert bench.keeper.held_count == 1
        bench.keeper.recheck("another reason")
        assert bench.routed == ["a", "c"]

    run(test)


def test_a_job_at_the_head_of_its_lane_goes_on_from_there() -> None:
    def test(bench: Bench) -> None:
        bench.door.answers["a"] = Hold("x")
        assert bench.ask("a", has_lane=True) is Fate.HELD
        bench.door.answers.clear()
        bench.keeper.recheck_all()
        assert (bench.went_on, bench.routed) == (["a"], [])

    run(test)


def test_what_is_finished_ends_and_is_not_held() -> None:
    def test(bench: Bench) -> None:
        bench.door.answers["a"] = Finish("cancelled")  # type: ignore[arg-type]
        assert bench.ask("a") is Fate.OVER
        assert bench.ended == ["cancelled"]
        assert bench.keeper.held_count == 0

    run(test)


def test_more_held_jobs_than_the_bound_go_round_through_the_retry_topic() -> None:
    async def main() -> None:
        bench = Bench(limit=2)
        for name in "abc":
            bench.door.answers[name] = Hold("x")
        assert [bench.ask(name) for name in "abc"] == [Fate.HELD, Fate.HELD, Fate.OVER]
        assert bench.ended == [f"c at {bench.clock.time_ms() + ROUND_MS}"]
        bench.keeper.stop()

    asyncio.run(main())


def test_held_jobs_of_a_partition_that_stops_are_forgotten() -> None:
    def test(bench: Bench) -> None:
        leaving = FakeJob("a", FakePartition())
        bench.door.answers = {"a": Hold("x"), "b": Hold("x")}
        bench.keeper.ask(leaving)  # type: ignore[arg-type]
        bench.ask("b")
        leaving.partition.is_stopping = True
        bench.keeper.drop_stopping()
        assert bench.keeper.held_count == 1
        bench.door.answers.clear()
        bench.keeper.recheck_all()
        assert bench.routed == ["b"]

    run(test)
