"""The ready queue against a plain model: limits hold, rates hold, order holds, nobody starves, nothing is lost."""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from logqueue_consumers.dispatch.bucket import PAUSED, Bounds, Bucket
from logqueue_consumers.dispatch.priority_class import NOISY_RATIO
from logqueue_consumers.dispatch.ready_queue import AGING_S, Placed, ReadyQueue

WEIGHTS = {"high": 6.0, "normal": 3.0, "low": 1.0}
TENANTS = "abcd"


class FakeJob:
    """Only its identity counts."""

    def __init__(self, number: int, placed: Placed, tenant: str = "t") -> None:
        self.number = number
        self.placed = placed
        self.tenant = tenant

    @property
    def flow(self) -> tuple[str, str, tuple[Bucket, ...]]:
        """Jobs that share it keep their order."""
        return self.tenant, self.placed.priority, self.placed.buckets

    def __repr__(self) -> str:
        return f"job {self.number}"


class ReadyQueueMachine(RuleBasedStateMachine):
    """Two limits (one per tenant, one for all), a rate per tenant, a pause; jobs come, start and end; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0
        self.number = 0
        self.waiting: list[FakeJob] = []
        self.running: list[FakeJob] = []
        self.starts: list[tuple[float, str]] = []

    @initialize(
        shared=st.integers(1, 4),
        of_tenant=st.integers(1, 3),
        rate=st.sampled_from([0.5, 2.0, 10.0]),
        burst=st.integers(1, 3),
    )
    def declare(self, shared: int, of_tenant: int, rate: float, burst: int) -> None:
        self.queue = ReadyQueue(concurrency=10)
        self.shared = Bucket(Bounds(running=shared), self.now_s)
        self.of_tenant = {name: Bucket(Bounds(running=of_tenant), self.now_s) for name in TENANTS}
        self.rated = {name: Bucket(Bounds(rate=rate, burst=float(burst)), self.now_s) for name in TENANTS}
        self.pause = Bucket(Bounds(), self.now_s)
        self.rate, self.burst = rate, burst

    def buckets(self, tenant: str, kind: int) -> tuple[Bucket, ...]:
        return [
            (),
            (self.of_tenant[tenant],),
            (self.shared, self.of_tenant[tenant]),
            (self.of_tenant[tenant], self.rated[tenant]),
            (self.pause, self.shared),
        ][kind]

    @rule(tenant=st.sampled_from(TENANTS), kind=st.integers(0, 4), name=st.sampled_from(sorted(WEIGHTS)))
    def a_job_comes(self, tenant: str, kind: int, name: str) -> None:
        placed = Placed("q", name, WEIGHTS[name], 1.0, self.buckets(tenant, kind))
        self.number += 1
        job = FakeJob(self.number, placed, tenant)
        self.waiting.append(job)
        self.queue.add(job, placed, self.now_s)  # type: ignore[arg-type]

    @rule()
    def one_starts(self) -> None:
        job: Any = self.queue.take(self.now_s)
        if job is None:
            for waiting in self.waiting:
                assert any(not bucket.has_room(self.now_s) for bucket in waiting.placed.buckets), "nothing is forgotten"
            return
        same = [other for other in self.waiting if other.flow == job.flow]
        before = [other for other in same if other.number < job.number]
        assert not before, "jobs of one tenant, class and limits keep their order"
        self.waiting.remove(job)
        self.running.append(job)
        if len(job.placed.buckets) == 2 and job.placed.buckets[1] is self.rated[job.tenant]:
            self.starts.append((self.now_s, job.tenant))

    @rule(data=st.data())
    def one_ends(self, data: st.DataObject) -> None:
        if self.running:
            job = data.draw(st.sampled_from(self.running))
            self.running.remove(job)
            self.queue.freed(self.queue.ended(job), self.now_s)  # type: ignore[arg-type]

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.queue.fill(self.now_s)

    @rule(is_paused=st.booleans())
    def an_operator_pauses_or_resumes(self, is_paused: bool) -> None:
        waiting, running = self.queue.drain(), self.queue.release_all()
        self.pause.change(PAUSED if is_paused else Bounds(), self.now_s)
        assert {id(job) for job in waiting} == {id(job) for job in self.waiting}
        for job in running:
            self.queue.adopt(job, job.placed, self.now_s)  # type: ignore[attr-defined]
        for job in waiting:
            self.queue.add(job, job.placed, self.now_s)  # type: ignore[attr-defined]

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert len(self.queue) == len(self.waiting)
        assert self.queue.running_count == len(self.running)
        for bucket in (self.shared, *self.of_tenant.values()):
            running = sum(bucket in job.placed.buckets for job in self.running)
            assert running == bucket.running
            assert bucket.bounds.running is not None and running <= bucket.bounds.running

    @invariant()
    def rates_hold(self) -> None:
        for tenant in TENANTS:
            times = [at for at, name in self.starts if name == tenant]
            for first in range(len(times)):
                allowed = self.burst + self.rate * (times[-1] - times[first]) + 1e-6
                # A slow bucket begins with one token whoever owned it before.
                assert len(times) - first <= allowed + (1 if self.rate < 1 else 0)


ReadyQueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestReadyQueue = ReadyQueueMachine.TestCase


@given(st.lists(st.sampled_from([0.5, 1.0, 3.0, 6.0, 20.0]), min_size=2, max_size=5), st.integers(1, 4))
def test_every_class_has_its_picks_within_the_stated_bound(weights: list[float], tenants: int) -> None:
    queue = ReadyQueue(concurrency=10)
    for name, weight in enumerate(weights):
        for number in range(400):
            placed = Placed("q", f"c{name}", weight, 1.0, ())
            queue.add(FakeJob(number, placed, f"t{number % tenants}"), placed, 0.0)  # type: ignore[arg-type]
    picks = []
    for _ in range(300):
        job: Any = queue.take(0.0)
        queue.freed(queue.ended(job), 0.0)
        picks.append(int(job.placed.priority[1:]))
    for name, weight in enumerate(weights):
        bound = 2 * ceil(sum(weights) / weight) + len(weights)
        places = [-1, *(place for place, pick in enumerate(picks) if pick == name), 300]
        assert max(later - earlier for earlier, later in pairwise(places)) <= bound


def test_a_class_that_was_not_served_for_the_aging_time_is_next_whatever_its_weight() -> None:
    queue = ReadyQueue(concurrency=1)
    for number in range(50):
        for name, weight in (("high", 1000.0), ("low", 0.01)):
            placed = Placed("q", name, weight, 1.0, ())
            queue.add(FakeJob(number, placed), placed, 0.0)  # type: ignore[arg-type]
    picks = []
    for now_s in (0.0, 1.0, AGING_S - 1, AGING_S, AGING_S + 1):
        job: Any = queue.take(now_s)
        queue.freed(queue.ended(job), now_s)
        picks.append(job.placed.priority)
    assert picks == ["high", "high", "high", "low", "high"]


@given(st.integers(1, 5), st.integers(1, 5))
def test_tenants_share_by_weight(one: int, other: int) -> None:
    queue = ReadyQueue(concurrency=1000)
    for tenant, weight in (("one", one), ("other", other)):
        placed = Placed("q", "", 1.0, float(weight), ())
        for number in range(600):
            queue.add(FakeJob(number, placed, tenant), placed, 0.0)  # type: ignore[arg-type]
    picks: list[str] = []
    for _ in range(60 * (one + other)):
        job: Any = queue.take(0.0)
        queue.freed(queue.ended(job), 0.0)
        picks.append(job.tenant)
    assert abs(picks.count("one") - 60 * one) <= 2


def test_a_tenant_that_holds_more_than_its_share_of_the_runners_waits_for_quiet_ones() -> None:
    queue = ReadyQueue(concurrency=100)
    placed = Placed("q", "", 1.0, 1.0, ())
    for number in range(100):
        queue.add(FakeJob(number, placed, "noisy"), placed, 0.0)  # type: ignore[arg-type]
    long: list[Any] = [queue.take(0.0) for _ in range(20)]
    for number in range(30):
        queue.add(FakeJob(number, placed, "quiet"), placed, 0.0)  # type: ignore[arg-type]
    picks: list[Any] = [queue.take(0.0) for _ in range(12)]
    share = int(100 * NOISY_RATIO)
    assert [job.tenant for job in picks[:share]] == ["quiet"] * share
    for job in long:
        queue.freed(queue.ended(job), 0.0)
    assert {job.tenant for job in [queue.take(0.0) for _ in range(2)]} == {"noisy"}  # type: ignore[union-attr]


def test_a_bucket_that_nobody_filled_gives_no_burst_to_its_new_owner() -> None:
    bucket = Bucket(Bounds(rate=10.0, burst=5.0), 50.0)
    assert not bucket.has_room(50.0)
    assert bucket.has_room(50.1)
    later = Bucket(Bounds(rate=10.0, burst=5.0), 50.0)
    starts = 0
    while later.has_room(60.0):
        later.start()
        starts += 1
    assert starts == 5


def test_a_slow_bucket_begins_with_one_token_so_that_restarts_starve_nobody() -> None:
    bucket = Bucket(Bounds(rate=1 / 3600, burst=1.0), 50.0)
    assert bucket.has_room(50.0)
    bucket.start()
    assert not bucket.has_room(60.0)
    assert bucket.filled_at(60.0) == 50.0 + 3600.0
