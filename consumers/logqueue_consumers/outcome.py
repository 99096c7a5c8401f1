"""What becomes of a job: the status to write, and the retry, dead-letter or parked record that goes with it. No IO.

| what happened                                     | state     | record                                      |
|---------------------------------------------------|-----------|---------------------------------------------|
| the handler returned                              | succeeded |                                             |
| it failed, another attempt is due soon            | retrying  | none: the job waits in memory               |
| it failed, another attempt is due later           | retrying  | `jobs.schedules` with its due time          |
| it failed for good                                | dead      | `dlq.<queue>.<group>`                       |
| the value cannot be decoded, arguments are wrong  | dead      | `dlq.<queue>.<group>`, bytes untouched      |
| no handler has the job's type                     | parked    | `parked.<queue>.<group>`                    |
| it must not run before a time that is near        | scheduled | `retry.<queue>.<group>`, attempt unchanged  |
| ... that is far, or its handler asked for later   | scheduled | `jobs.schedules`, attempt unchanged         |
| its expiry has passed                             | expired   |                                             |

A replay into a shadow group writes the same states under its own keys and no records at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from logqueue_schemas.job_status import RANKS, State

from logqueue.jobs.errors import ErrorClass, UnknownJobType
from logqueue.jobs.headers import (
    ATTEMPT,
    MOVED_FROM,
    NOT_BEFORE,
    ORIGIN_GROUP,
    ORIGIN_OFFSET,
    ORIGIN_PARTITION,
    ORIGIN_TOPIC,
    Failure,
    Origin,
    failed_headers,
    headers_but,
)
from logqueue.jobs.schedules import PARTITION, Mark, encode, ended_key
from logqueue.jobs.texts import text_of
from logqueue.jobs.times import format_time
from logqueue.jobs.topics import TopicNames
from logqueue_consumers.job import Job
from logqueue_consumers.keeper.job_entries import entry_headers, entry_key
from logqueue_consumers.writing.outgoing import Outgoing

MAX_MESSAGE_CHARS = 2_000
"""Of an error's text in a status; the whole trace belongs into logs."""


class Outcome(msgspec.Struct, eq=False):
    """One change of a job's state, to be made durable. Each outcome equals itself alone."""

    job: Job
    state: State
    at_us: int
    finishes: bool
    """The record's offset is finished once this is durable."""
    attempt: int
    """That of the job when it came to this."""
    started_us: int
    result: bytes | None = None
    failure: Failure | None = None
    due_ms: int | None = None
    topic: str | None = None
    """Where the job's record goes on, with `headers`; None when it goes nowhere."""
    headers: Sequence[tuple[str, bytes]] = ()
    key: bytes | None = None
    """The key of that record, where it is not the job's own."""
    rank: int | None = None
    """The rank of the status, where it is not that of the state."""
    more: Sequence[Outgoing] = ()
    """Further records (follow-up jobs, ...): they exist if and only if this outcome does. See `add_records`."""
    is_silent: bool = False
    """No status is written: the job is another one's double, whose status stands."""

    @classmethod
    def of(cls, job: Job, state: State, at_us: int, *, finishes: bool) -> Outcome:
        """What a job's present attempt has come to."""
        return cls(job, state, at_us, finishes, job.attempt, job.started_us)

    @property
    def is_put_off(self) -> bool:
        """Whether the job waits in memory after this; what a running job reports of itself is no end of an attempt."""
        return not self.finishes and self.due_ms is not None

    def add_records(self, records: Iterable[Outgoing]) -> None:
        """Write these with the outcome: in its transaction, or (at least once) before its status."""
        self.more = [*self.more, *records]


class LiveRules:
    """A live group: failures move the record to the group's own topics."""

    is_shadow = False
    waits_in_memory_only = False

    def __init__(self, names: TopicNames, group: str) -> None:
        self._names = names
        self._group = group

    def retry_later(self, job: Job, error: BaseException, error_class: str, *, due_ms: int, now_us: int) -> Outcome:
        """Another attempt is due, too late to wait in memory; `job.attempt` is the one that failed."""
        outcome = Outcome.of(job, State.RETRYING, now_us, finishes=True)
        outcome.failure = failure_of(error, error_class)
        outcome.due_ms = due_ms
        self._move(outcome, self._names.schedules, attempt=job.attempt + 1, due_ms=due_ms)
        return self._await_time(outcome, rank=RANKS[State.QUEUED])

    def dead(self, job: Job, error: BaseException, error_class: str, *, now_us: int) -> Outcome:
        """The job failed for good."""
        outcome = Outcome.of(job, State.DEAD, now_us, finishes=True)
        outcome.failure = failure_of(error, error_class)
        self._move(outcome, self._names.dlq(job.partition.queue, self._group), attempt=job.attempt)
        return outcome

    def parked(self, job: Job, error: UnknownJobType, *, now_us: int) -> Outcome:
        """No handler has the job's type."""
        outcome = Outcome.of(job, State.PARKED, now_us, finishes=True)
        outcome.failure = failure_of(error, ErrorClass.UNKNOWN_TYPE)
        self._move(outcome, self._names.parked(job.partition.queue, self._group), attempt=job.attempt)
        return outcome

    def scheduled(self, job: Job, *, due_ms: int, now_us: int, is_near: bool = False) -> Outcome:
        """The job must not run yet: where that is over soon, it waits in a worker's memory, by the retry topic."""
        outcome = self._put_off(job, self._names.schedules, due_ms=due_ms, now_us=now_us)
        if is_near:
            outcome.topic = self._names.retry(job.partition.queue, self._group)
            return outcome
        return self._await_time(outcome, rank=RANKS[State.SCHEDULED])

    def snoozed(self, job: Job, *, due_ms: int, now_us: int) -> Outcome:
        """The handler wants to be called again later; the attempt does not count."""
        outcome = self._put_off(job, self._names.schedules, due_ms=due_ms, now_us=now_us)
        outcome.rank = RANKS[State.RUNNING]  # newer than the `running` status that came before
        return self._await_time(outcome, rank=RANKS[State.RUNNING])

    def release_schedule(self, outcome: Outcome) -> None:
        """A run of a schedule has ended whose next one may wait for that."""
        job = outcome.job
        assert job.headers.holds is not None, "only such runs are told of"
        outcome.add_records(
            [
                ended_record(
                    self._names, job.headers.holds, job_id=job.id, state=outcome.state, at_ms=outcome.at_us // 1000
                )
            ]
        )

    def _put_off(self, job: Job, topic: str, *, due_ms: int, now_us: int) -> Outcome:
        outcome = Outcome.of(job, State.SCHEDULED, now_us, finishes=True)
        outcome.due_ms = due_ms
        outcome.topic = topic
        outcome.headers = moved_headers(job.record.headers, job.origin, attempt=job.attempt, due_ms=due_ms)
        return outcome

    def _await_time(self, outcome: Outcome, *, rank: int) -> Outcome:
        """The record goes to `jobs.schedules`, whose keeper sends it on, with a status of this rank."""
        job, record = outcome.job, outcome.job.record
        outcome.key = entry_key(group=self._group, queue=job.partition.queue, job_id=job.id)
        assert record.value is not None, "a job without a value cannot run, so it never waits"
        outcome.headers = entry_headers(outcome.headers, job_id=job.id, key=record.key, rank=rank)
        return outcome

    def hand_on(self, job: Job, *, now_us: int) -> Outcome | None:
        """A retry (or a snoozed job) that waits in memory must leave it: `job.attempt` is due at `job.due_ms`."""
        if job.last_failure is None:
            topic = self._names.retry(job.partition.queue, self._group)
            outcome = self._put_off(job, topic, due_ms=job.due_ms, now_us=now_us)
            outcome.rank = RANKS[State.RUNNING]
            return outcome
        outcome = Outcome.of(job, State.RETRYING, now_us, finishes=True)
        outcome.attempt = job.attempt - 1
        outcome.failure = job.last_failure
        outcome.due_ms = job.due_ms
        self._move(outcome, self._names.retry(job.partition.queue, self._group), attempt=job.attempt, due_ms=job.due_ms)
        return outcome

    def _move(self, outcome: Outcome, topic: str, *, attempt: int, due_ms: int | None = None) -> None:
        job, failure = outcome.job, outcome.failure
        assert failure is not None, "only a failure moves a record here"
        outcome.topic = topic
        outcome.headers = failed_headers(
            job.record.headers,
            failure=failure,
            origin=job.origin,
            now_ms=outcome.at_us // 1000 if job.first_failed_ms is None else job.first_failed_ms,
            attempt=attempt,
            not_before_ms=due_ms,
        )


class ShadowRules:
    """A shadow group: states only. Retries wait in memory, so nothing is ever too late for it."""

    is_shadow = True
    waits_in_memory_only = True

    def retry_later(self, job: Job, error: BaseException, error_class: str, *, due_ms: int, now_us: int) -> Outcome:
        """No memory is left for another attempt: the replay records the failure as it stands."""
        return self.dead(job, error, error_class, now_us=now_us)

    def dead(self, job: Job, error: BaseException, error_class: str, *, now_us: int) -> Outcome:
        """The job failed for good."""
        outcome = Outcome.of(job, State.DEAD, now_us, finishes=True)
        outcome.failure = failure_of(error, error_class)
        return outcome

    def parked(self, job: Job, error: UnknownJobType, *, now_us: int) -> Outcome:
        """No handler has the job's type."""
        outcome = Outcome.of(job, State.PARKED, now_us, finishes=True)
        outcome.failure = failure_of(error, ErrorClass.UNKNOWN_TYPE)
        return outcome

    def release_schedule(self, outcome: Outcome) -> None:
        """A shadow run holds nothing up."""

    def snoozed(self, job: Job, *, due_ms: int, now_us: int) -> Outcome:
        """The handler wants to be called again later: its live group did that, this replay only notes it."""
        return self.scheduled(job, due_ms=due_ms, now_us=now_us)

    def scheduled(self, job: Job, *, due_ms: int, now_us: int, is_near: bool = False) -> Outcome:
        """The job must not run yet: its live group will run it, this replay only notes it."""
        outcome = Outcome.of(job, State.SCHEDULED, now_us, finishes=True)
        outcome.due_ms = due_ms
        return outcome

    def hand_on(self, job: Job, *, now_us: int) -> Outcome | None:
        """A retry that waits in memory must leave it: nothing is written, the replay takes it up again."""
        return None


def ended_record(names: TopicNames, schedule: str, *, job_id: str, state: State, at_ms: int) -> Outgoing:
    """Tells a schedule that one of its runs has ended."""
    key, value = ended_key(schedule, job_id), encode(Mark(at=at_ms, state=str(state)))
    return Outgoing(names.schedules, PARTITION, key, value, [], at_ms)


def failure_of(error: BaseException, error_class: str) -> Failure:
    """Why a job failed, for people and headers: a message is cut, since no record may grow too large by it."""
    message = text_of(error, limit=MAX_MESSAGE_CHARS)
    return Failure(type=type(error).__name__, message=message, error_class=str(error_class))


def moved_headers(
    headers: Sequence[tuple[str, bytes]], origin: Origin, *, attempt: int, due_ms: int
) -> list[tuple[str, bytes]]:
    """Headers of a record that only waits: attempt as it is, due time, and where the job began (set once)."""
    moved = headers_but(headers, (ATTEMPT, NOT_BEFORE, MOVED_FROM))
    names = {name for name, _ in moved}
    moved += [(ATTEMPT, b"%d" % attempt), (NOT_BEFORE, format_time(due_ms).encode())]
    if ORIGIN_TOPIC not in names:
        moved += [
            (ORIGIN_TOPIC, origin.topic.encode()),
            (ORIGIN_PARTITION, b"%d" % origin.partition),
            (ORIGIN_OFFSET, b"%d" % origin.offset),
            (ORIGIN_GROUP, origin.group.encode()),
        ]
    return moved
