"""Gates: what may keep a job from running that is read and due. The verdicts, and the jobs that wait for one.

| verdict           | the job                                                                                       |
|-------------------|-----------------------------------------------------------------------------------------------|
| None              | goes on to the next gate, and then to its lane                                                |
| `Finish(outcome)` | ends without running: cancelled, a duplicate, killed                                          |
| `Hold(reason)`    | waits in memory, unfinished, until `JobEngine.recheck(reason)`, and is asked about again then |

A held job has no lane yet, so it does not keep other jobs of its tenant waiting; jobs held for one reason keep their
order. (A retry that waits in memory is in its lane already and stays there.) Held jobs are asked about every
`REVIEW_S` too, so a lost wake-up costs time, not a job.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from logqueue.clock import Clock, Timer
    from logqueue_consumers.job import Job
    from logqueue_consumers.outcome import LiveRules, Outcome, ShadowRules

REVIEW_S = 10.0
"""How often held jobs are asked about though nobody said that their reason is gone."""
ROUND_MS = 30_000
"""A job that finds no room among the held ones goes round through the retry topic and comes back this much later."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The job ends with this outcome; its `finishes` must be true."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Hold:
    """The job waits until `JobEngine.recheck(reason)`."""

    reason: Hashable


Verdict: TypeAlias = Finish | Hold
EndedHook: TypeAlias = "Callable[[Job, Outcome], None]"
"""Told of every outcome of a job, with the one of an attempt that is retried."""


class Gate(Protocol):
    """Asked about every job that could run now. Quick, without IO, and free to answer differently the next time."""

    def check(self, job: Job, now_ms: int) -> Verdict | None:
        """None when the job may go on."""
        ...


class Fate(Enum):
    """What the gates have decided about a job."""

    GOES_ON = "goes on"
    HELD = "held"
    OVER = "over"


GOES_ON = Fate.GOES_ON  # what hangs on an enumeration is looked up by a function of Python


class Held(NamedTuple):
    """A job that waits for a gate; `has_lane` when it is at the head of its lane (a retry)."""

    job: Job
    has_lane: bool


class Gatekeeper:
    """Asks the gates, and keeps at most `limit` jobs that one of them holds back."""

    def __init__(
        self,
        *,
        route: Callable[[Job], None],
        go_on: Callable[[Job], None],
        end: Callable[[Outcome], None],
        wake: Callable[[], None],
        rules: LiveRules | ShadowRules,
        clock: Clock,
        limit: int,
    ) -> None:
        self.gates: list[Gate] = []
        self.held_count = 0
        self._route = route
        self._go_on = go_on
        self._end = end
        self._wake = wake
        self._rules = rules
        self._clock = clock
        self._limit = limit
        self._held: dict[Hashable, list[Held]] = {}
        self._timer: Timer | None = None

    def ask(self, job: Job, *, has_lane: bool = False) -> Fate:
        """What becomes of the job; `has_lane` when it heads its lane, which the caller frees if it is OVER."""
        verdict = self._verdict(job)
        if verdict is None:
            return GOES_ON
        if isinstance(verdict, Finish):
            self._end(verdict.outcome)
            return Fate.OVER
        if self.held_count >= self._limit:
            now_ms = self._clock.time_ms()
            self._end(self._rules.scheduled(job, due_ms=now_ms + ROUND_MS, now_us=now_ms * 1000))
            return Fate.OVER
        self._held.setdefault(verdict.reason, []).append(Held(job, has_lane))
        self.held_count += 1
        if self._timer is None:
            self._timer = self._clock.call_later(REVIEW_S, self._review)
        return Fate.HELD

    def obey_at_intake(self, verdict: Verdict, job: Job) -> None:
        """What the gate decided that is asked in the order of the log; what it holds is bounded by the windows."""
        if isinstance(verdict, Finish):
            self._end(verdict.outcome)
            return
        self._held.setdefault(verdict.reason, []).append(Held(job, False))
        self.held_count += 1

    def would_finish(self, job: Job) -> bool:
        """Whether a gate ends the job as things are."""
        return isinstance(self._verdict(job), Finish)

    def recheck(self, reason: Hashable) -> None:
        """Ask again about the jobs that wait for this."""
        held = self._held.pop(reason, [])
        self.held_count -= len(held)
        for job, has_lane in held:
            if job.partition.is_stopping:
                continue
            if has_lane:
                self._go_on(job)
            else:
                self._route(job)
        self._wake()

    def recheck_all(self) -> None:
        """Ask again about every job that waits."""
        for reason in list(self._held):
            self.recheck(reason)

    def drop_stopping(self) -> None:
        """Forget the jobs of partitions where none starts any more."""
        self._held = {
            reason: staying
            for reason, held in self._held.items()
            if (staying := [entry for entry in held if not entry.job.partition.is_stopping])
        }
        self.held_count = sum(map(len, self._held.values()))

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _verdict(self, job: Job) -> Verdict | None:
        now_ms = self._clock.time_ms()
        for gate in self.gates:
            if (verdict := gate.check(job, now_ms)) is not None:
                return verdict
        return None

    def _review(self) -> None:
        self._timer = None
        self.recheck_all()
