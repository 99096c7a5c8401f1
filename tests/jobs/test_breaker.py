"""Circuit breakers as state machines: never more than allowed begin, and it always comes back."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from logqueue.jobs.breaker import Breaker, BreakerState, Circuit
from logqueue.jobs.errors import InvalidDefinition

JOBS = st.integers(0, 6)


def test_it_opens_with_the_last_failure_that_it_takes_and_half_opens_in_time() -> None:
    circuit = Circuit(Breaker("bank", failures=3, window="10s", open_for="5s"))
    assert [circuit.failed("j", at) for at in (0.0, 1.0, 2.0)] == [False, False, True]
    assert not circuit.may_begin("k", 6.9)
    assert circuit.state(6.9) is BreakerState.OPEN
    assert circuit.may_begin("k", 7.0) and not circuit.may_begin("l", 7.0)
    assert circuit.may_begin("k", 7.0), "asked again, the same job still holds its place"
    assert circuit.succeeded("k", 8.0)
    assert circuit.state(8.0) is BreakerState.CLOSED and circuit.may_begin("l", 8.0)


def test_failures_that_are_older_than_the_window_do_not_count() -> None:
    circuit = Circuit(Breaker("bank", failures=2, window="10s"))
    assert not circuit.failed("a", 0.0)
    assert not circuit.failed("b", 10.0)
    assert circuit.failed("c", 19.9)


def test_a_failed_trial_opens_it_again_and_one_that_says_nothing_gives_its_place_back() -> None:
    circuit = Circuit(Breaker("bank", failures=1, open_for="5s", half_open=2))
    circuit.failed("a", 0.0)
    assert circuit.may_begin("b", 5.0) and circuit.may_begin("c", 5.0) and not circuit.may_begin("d", 5.0)
    circuit.gave_up("b")
    assert circuit.may_begin("d", 5.0)
    assert not circuit.failed("a", 5.5), "a job that began before says nothing new"
    assert circuit.failed("c", 6.0)
    assert circuit.state(10.9) is BreakerState.OPEN


def test_a_trial_that_is_never_heard_of_again_does_not_hold_its_place_for_ever() -> None:
    circuit = Circuit(Breaker("bank", failures=1, open_for="5s"))
    circuit.failed("a", 0.0)
    assert circuit.may_begin("lost", 5.0)
    assert not circuit.may_begin("next", 9.9)
    assert circuit.may_begin("next", 10.0)


@pytest.mark.parametrize(
    "wrong", [{"failures": 0}, {"half_open": 0}, {"window": 0}, {"open_for": "0s"}, {"name": ""}, {"name": "x" * 101}]
)
def test_a_breaker_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidDefinition):
        Breaker(**{"name": "b", **wrong})  # type: ignore[arg-type]


class CircuitMachine(RuleBasedStateMachine):
    """Jobs begin when they may, end as they like, and are sometimes lost."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker("b", failures=3, window=10.0, open_for=5.0, half_open=2)
        self.circuit = Circuit(self.breaker)
        self.now_s = 100.0
        self.running: set[int] = set()
        self.trials = 0

    @rule(seconds=st.floats(0.1, 8.0))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(job=JOBS)
    def a_job_asks(self, job: int) -> None:
        if job in self.running:
            return
        state = self.circuit.state(self.now_s)
        may = self.circuit.may_begin(job, self.now_s)
        assert may or state is not BreakerState.CLOSED
        assert not (may and state is BreakerState.OPEN)
        if may:
            self.running.add(job)

    @rule(job=JOBS)
    def a_job_succeeds(self, job: int) -> None:
        if job in self.running:
            self.running.discard(job)
            if self.circuit.succeeded(job, self.now_s):
                assert self.circuit.state(self.now_s) is BreakerState.CLOSED

    @rule(job=JOBS)
    def a_job_fails(self, job: int) -> None:
        if job in self.running:
            self.running.discard(job)
            before = self.circuit.state(self.now_s)
            if self.circuit.failed(job, self.now_s):
                assert before is not BreakerState.OPEN
                assert self.circuit.state(self.now_s) is BreakerState.OPEN

    @rule(job=JOBS)
    def a_job_is_lost(self, job: int) -> None:
        self.running.discard(job)

    @invariant()
    def it_comes_back(self) -> None:
        """Whatever happened, one that asks after the breaker's time may begin: nothing is left alone for ever."""
        later = self.now_s + 2 * self.breaker.open_for_s
        assert self.circuit.state(later) is not BreakerState.OPEN

    @invariant()
    def no_more_try_than_may(self) -> None:
        if self.circuit.state(self.now_s) is BreakerState.HALF_OPEN:
            fresh = [n for n in range(100, 110) if self.circuit.may_begin(n, self.now_s)]
            for n in fresh:
                self.circuit.gave_up(n)
            assert len(fresh) <= self.breaker.half_open


TestCircuit = CircuitMachine.TestCase
TestCircuit.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
