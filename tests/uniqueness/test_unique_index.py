"""The index of taken places against a plain list of jobs: any order of submissions, ends, restarts and repeats."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, precondition, rule
from logqueue_consumers.uniqueness.index import AWAY_MARGIN_MS, Claim, Claimant, Fate, UniqueIndex
from logqueue_schemas.job_status import TERMINAL, State

WINDOW_MS = 1_000
CLAIMS = {
    "key-a": Claim(place="key-a", window_ms=WINDOW_MS, digest="same"),
    "lasting": Claim(place="lasting", window_ms=WINDOW_MS, lasting=frozenset({"succeeded"})),
    "passing": Claim(place="passing", window_ms=None),
    "latest": Claim(place="latest", window_ms=None, on_conflict="replace"),
}


@dataclass
class ModelJob:
    """What the list knows of a job that was accepted."""

    claimant: Claimant
    claim: Claim
    state: State = State.QUEUED
    ended_ms: int = 0
    away_until_ms: int = 0
    is_away: bool = False

    def holds(self, now_ms: int) -> bool:
        is_over = self.state in TERMINAL
        if self.claim.is_key:
            return not is_over or now_ms < self.ended_ms + WINDOW_MS
        if self.claim.window_ms is None:
            return not is_over
        in_window = now_ms < self.claimant.created_ms + WINDOW_MS
        return in_window and (not is_over or self.state in self.claim.lasting)


class Sameness(RuleBasedStateMachine):
    """Submissions and ends in time order; the index may be lost and built again at any moment."""

    jobs = Bundle("jobs")

    @initialize(place=st.sampled_from(sorted(CLAIMS)))
    def begin(self, place: str) -> None:
        self.place = place
        self.index = UniqueIndex()
        self.topic: dict[str, bytes] = {}
        self.accepted: list[ModelJob] = []
        self.now_ms = 10_000
        self.offset = 0

    def last(self, place: str) -> ModelJob | None:
        return next((job for job in reversed(self.accepted) if job.claim.place == place), None)

    def write(self, written: list[object]) -> None:
        for record in written:
            if record.value is None:  # type: ignore[attr-defined]
                self.topic.pop(record.place, None)  # type: ignore[attr-defined]
            else:
                self.topic[record.place] = record.value  # type: ignore[attr-defined]

    @rule(step=st.sampled_from([1, 300, 998, WINDOW_MS]))
    def time_passes(self, step: int) -> None:
        self.now_ms += step

    @rule(target=jobs, is_other=st.booleans())
    def submit(self, is_other: bool) -> object:
        claim = CLAIMS[self.place]
        if claim.is_key and is_other:
            claim = Claim(place=claim.place, window_ms=WINDOW_MS, digest="other")
        self.offset += 1
        job = Claimant(id=f"job-{self.offset}", topic="jobs.q", offset=self.offset, created_ms=self.now_ms)
        holder = self.last(claim.place)
        fate = self.index.claim(job, [claim]).fate
        assert self.index.claim(job, [claim]).fate is fate, "asking again changes nothing"
        if holder is None or not holder.holds(self.now_ms) or claim.on_conflict == "replace":
            assert fate is Fate.TAKES
            self.accepted.append(ModelJob(job, claim))
            return self.accepted[-1]
        expected = Fate.LOSES
        if claim.is_key:
            expected = Fate.SAME if claim.digest == holder.claim.digest else Fate.CONFLICTS
        assert fate is expected
        return multiple()

    @rule(job=jobs, state=st.sampled_from([State.SUCCEEDED, State.DEAD]))
    def end(self, job: ModelJob, state: State) -> None:
        if job.is_away or job.state in TERMINAL:
            return
        self.write(self.index.ended(job.claimant, [job.claim], state, at_ms=self.now_ms, due_ms=None))
        job.state, job.ended_ms = state, self.now_ms

    @rule(job=jobs, delay_ms=st.integers(1, 500))
    def go_away(self, job: ModelJob, delay_ms: int) -> None:
        """It goes to the retry topic."""
        if job.is_away or job.state in TERMINAL:
            return
        due_ms = self.now_ms + delay_ms
        self.write(self.index.ended(job.claimant, [job.claim], State.RETRYING, at_ms=self.now_ms, due_ms=due_ms))
        job.state, job.is_away, job.away_until_ms = State.RETRYING, True, due_ms + AWAY_MARGIN_MS

    @rule(job=jobs)
    def come_back(self, job: ModelJob) -> None:
        """Its record in the retry topic is due."""
        if not job.is_away or job.state in TERMINAL:
            return
        holder = self.last(job.claim.place)
        fate = self.index.claim(
            Claimant(
                id=job.claimant.id,
                topic=job.claimant.topic,
                offset=job.claimant.offset,
                created_ms=job.claimant.created_ms,
                has_begun=True,
            ),
            [job.claim],
        ).fate
        if holder is job:
            assert fate is Fate.TAKES
        elif job.claim.on_conflict == "replace":
            assert fate is Fate.REPLACED
            job.state, job.ended_ms = State.CANCELLED, self.now_ms
        else:
            assert fate in (Fate.PASSES, Fate.TAKES), "a job that had begun goes on"
            if fate is Fate.TAKES:
                assert holder is None or not holder.holds(self.now_ms)
        job.is_away = False

    @precondition(lambda self: self.accepted)
    @rule()
    def another_worker_takes_over(self) -> None:
        """It reads the topic; what had not left the job topic comes again, in order."""
        self.index = UniqueIndex()
        for place, value in self.topic.items():
            self.index.load(place, value)
        for job in self.accepted:
            if job.state in TERMINAL or job.is_away:
                continue
            fate = self.index.claim(job.claimant, [job.claim]).fate
            if job is self.last(job.claim.place):
                assert fate is Fate.TAKES


Sameness.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestSameness = Sameness.TestCase


def test_the_number_of_places_is_bounded_and_those_that_end_first_go_first() -> None:
    index = UniqueIndex(max_places=10)
    for number in range(25):
        job = Claimant(id=f"j{number}", topic="t", offset=number, created_ms=number)
        claim = Claim(place=f"p{number}", window_ms=1_000, lasting=frozenset({"succeeded"}))
        assert index.claim(job, [claim]).fate is Fate.TAKES
        index.ended(job, [claim], State.SUCCEEDED, at_ms=number, due_ms=None)
    assert len(index) == 10
    assert index.evicted_count == 15
    assert index.holder("p24") is not None
    assert index.holder("p0") is None


def test_what_is_over_leaves_the_log_with_later_outcomes() -> None:
    index, topic = UniqueIndex(), set()
    for number in range(200):
        job = Claimant(id=f"j{number}", topic="t", offset=number, created_ms=number * 100)
        claim = Claim(place=f"p{number}", window_ms=1_000, lasting=frozenset({"succeeded"}))
        index.claim(job, [claim])
        for record in index.ended(job, [claim], State.SUCCEEDED, at_ms=number * 100, due_ms=None):
            (topic.add if record.value is not None else topic.discard)(record.place)
    assert len(index) <= 11
    assert len(topic) <= 11


@pytest.mark.parametrize("created_ms", [1_999, 2_000])
def test_a_window_ends_to_the_millisecond(created_ms: int) -> None:
    index = UniqueIndex()
    claim = Claim(place="p", window_ms=1_000, lasting=frozenset({"succeeded"}))
    first = Claimant(id="a", topic="t", offset=0, created_ms=1_000)
    index.claim(first, [claim])
    index.ended(first, [claim], State.SUCCEEDED, at_ms=1_100, due_ms=None)
    late = Claimant(id="b", topic="t", offset=1, created_ms=created_ms)
    assert index.claim(late, [claim]).fate is (Fate.TAKES if created_ms == 2_000 else Fate.LOSES)


def claimant(offset: int, created_ms: int, *, has_begun: bool = False) -> Claimant:
    return Claimant(id=f"j{offset}", topic="t", offset=offset, created_ms=created_ms, has_begun=has_begun)


def test_a_job_that_had_begun_goes_on_though_another_took_its_place_after_the_window() -> None:
    index, claim = UniqueIndex(), CLAIMS["lasting"]
    index.claim(claimant(0, 1_000), [claim])
    index.ended(claimant(0, 1_000), [claim], State.RETRYING, at_ms=1_100, due_ms=9_000)
    assert index.claim(claimant(1, 5_000), [claim]).fate is Fate.TAKES
    assert index.claim(claimant(0, 1_000, has_begun=True), [claim]).fate is Fate.PASSES


def test_a_replaced_job_is_known_when_it_comes_back_though_its_successor_has_ended_elsewhere() -> None:
    index, claim, topic = UniqueIndex(), CLAIMS["latest"], {}
    index.claim(claimant(0, 1_000), [claim])
    for record in index.ended(claimant(0, 1_000), [claim], State.SCHEDULED, at_ms=1_000, due_ms=900_000):
        topic[record.place] = record.value
    assert index.claim(claimant(1, 2_000), [claim]).fate is Fate.TAKES
    for record in index.ended(claimant(1, 2_000), [claim], State.SUCCEEDED, at_ms=3_000, due_ms=None):
        topic[record.place] = record.value
    other = UniqueIndex()
    for place, value in topic.items():
        other.load(place, value)
    assert other.claim(claimant(0, 1_000), [claim]).fate is Fate.REPLACED
    assert other.claim(claimant(2, 5_000), [claim]).fate is Fate.TAKES


def test_a_place_is_free_an_hour_after_a_job_that_waited_elsewhere_was_due_and_did_not_come() -> None:
    index, claim = UniqueIndex(), CLAIMS["passing"]
    index.claim(claimant(0, 1_000), [claim])
    index.ended(claimant(0, 1_000), [claim], State.SCHEDULED, at_ms=1_000, due_ms=9_000)
    assert index.claim(claimant(1, 9_000 + AWAY_MARGIN_MS - 1), [claim]).fate is Fate.LOSES
    assert index.claim(claimant(2, 9_000 + AWAY_MARGIN_MS), [claim]).fate is Fate.TAKES


def test_a_job_that_came_back_keeps_its_place_however_long_it_runs() -> None:
    index, claim = UniqueIndex(), CLAIMS["passing"]
    index.claim(claimant(0, 1_000), [claim])
    index.ended(claimant(0, 1_000), [claim], State.SCHEDULED, at_ms=1_000, due_ms=9_000)
    assert index.claim(claimant(0, 1_000), [claim]).fate is Fate.TAKES
    assert index.claim(claimant(1, 9_000 + 10 * AWAY_MARGIN_MS), [claim]).fate is Fate.LOSES
