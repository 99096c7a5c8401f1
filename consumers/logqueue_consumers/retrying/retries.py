"""What follows an attempt that failed or put itself off: a wait in memory, or a way through the log. No IO.

A near time is waited for in memory, where the job keeps its lane. Its record knows nothing of that, so commits name it
with its attempt and its due time (`commits.notes`), as far as they have room; whoever takes the partition over waits
and counts on (`retrying.notes`). Retries beyond that room, or further away, go through the log.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import structlog
from logqueue_schemas.job_status import RANKS, State

from logqueue.clock import Clock
from logqueue.jobs.errors import Snooze
from logqueue.jobs.headers import first_failed_ms
from logqueue.jobs.texts import text_of
from logqueue_consumers.commits.notes import MAX_RETRIED
from logqueue_consumers.counts import Counts
from logqueue_consumers.crashes.watch import CrashWatch
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.outcome import LiveRules, Outcome, ShadowRules, failure_of
from logqueue_consumers.retrying.waiting import WaitingRoom

if TYPE_CHECKING:
    from logqueue.jobs.retry import RetryDecision
    from logqueue_consumers.job import Job

log = structlog.get_logger(__name__)


class Retries:
    """Decides what follows a failure or a snooze; `end` writes an outcome that frees the lane, `write` any other."""

    def __init__(
        self,
        *,
        rules: LiveRules | ShadowRules,
        limits: WorkerLimits,
        clock: Clock,
        random: Random,
        counts: Counts,
        waiting: WaitingRoom,
        crash_watch: CrashWatch,
        end: Callable[[Outcome, Job], None],
        write: Callable[[Outcome], None],
    ) -> None:
        self._rules = rules
        self._limits = limits
        self._clock = clock
        self._random = random
        self._counts = counts
        self._waiting = waiting
        self._crash_watch = crash_watch
        self._end = end
        self._write = write

    def failed(self, job: Job, error: BaseException) -> None:
        """The handler raised, or its time was up."""
        definition, now_us = job.definition, self._now_us()
        assert definition is not None, "only a job with a handler runs"
        if job.first_failed_ms is None:
            job.first_failed_ms = first_failed_ms(job.record.headers, default=now_us // 1000)
        decision = definition.retry.decide(
            job.attempt, error, self._random, now_s=now_us / 1_000_000, first_failed_s=job.first_failed_ms / 1000
        )
        (log.debug if decision.should_retry else log.info)(
            "job failed",
            id=job.id,
            type=job.type,
            attempt=job.attempt,
            error=type(error).__name__,
            message=text_of(error, limit=200),
            decision=decision.reason,
        )
        if not decision.should_retry:
            self._end(self._rules.dead(job, error, decision.error_class, now_us=now_us), job)
            return
        self._counts.retried += 1
        delay_s = decision.delay_s
        if self._rules.waits_in_memory_only:
            delay_s = min(delay_s, self._limits.memory_retry_delay_s)
        due_ms = now_us // 1000 + int(delay_s * 1000) + 1
        if self._holds(job, delay_s):
            self._wait(job, error, decision, due_ms=due_ms, now_us=now_us)
            return
        outcome = self._rules.retry_later(job, error, decision.error_class, due_ms=due_ms, now_us=now_us)
        self._end(outcome, job)

    def _wait(self, job: Job, error: BaseException, decision: RetryDecision, *, due_ms: int, now_us: int) -> None:
        outcome = Outcome.of(job, State.RETRYING, now_us, finishes=False)
        outcome.failure = job.last_failure = failure_of(error, decision.error_class)
        outcome.due_ms = job.due_ms = due_ms
        job.attempt += 1
        self._put_off(outcome)

    def snoozed(self, job: Job, error: Snooze) -> None:
        """The handler wants to be called again later: a near time is waited for here, in its lane, as a retry is."""
        now_us = self._now_us()
        due_ms = now_us // 1000 + int(error.delay_s * 1000) + 1
        log.debug("job snoozed", id=job.id, type=job.type, delay_s=error.delay_s)
        if not self._holds(job, error.delay_s):
            self._end(self._rules.snoozed(job, due_ms=due_ms, now_us=now_us), job)
            return
        outcome = Outcome.of(job, State.SCHEDULED, now_us, finishes=False)
        outcome.rank = RANKS[State.RUNNING]
        outcome.due_ms = job.due_ms = due_ms
        job.last_failure = None
        self._put_off(outcome)

    def wait_on(self, job: Job, due_ms: int) -> bool:
        """A job that waited in its former owner's memory waits here, at the head of its lane; false if it cannot."""
        lanes = job.partition.lanes
        if job.lane is not None and lanes.is_busy(job.lane):
            return False
        if not self._waiting.hold_retry(job, (due_ms - self._clock.time_ms()) / 1000):
            return False
        if job.lane is not None:
            lanes.enter(job.lane, job)
        return True

    def _holds(self, job: Job, delay_s: float) -> bool:
        """Whether the job waits in memory: near enough, with room there and in commits."""
        retried, is_live = job.partition.retried, not self._rules.is_shadow
        if delay_s > self._limits.memory_retry_delay_s or job.partition.is_stopping:
            return False
        if is_live and len(retried) >= MAX_RETRIED and job.offset not in retried:
            return False
        if not self._waiting.hold_retry(job, delay_s):
            return False
        if is_live:
            retried.setdefault(job.offset, None)
        return True

    def _put_off(self, outcome: Outcome) -> None:
        if self._crash_watch.is_on:
            self._crash_watch.waits(outcome.job)
        self._write(outcome)

    def _now_us(self) -> int:
        return self._clock.time_ms() * 1000
