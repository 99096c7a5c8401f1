"""What handlers of a generated history did, and what must hold of it whatever happened."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from logqueue_consumers.lab.log_reader import LabJob
from logqueue_schemas.job_status import State

from logqueue.jobs.handle import JobState

ATTEMPTS = 3
FIRST_RETRY_S = {"ordered": 10, "limited": 10, "rated": 60, "single": 10}
"""By queue: 10 s and 20 s are waited for in memory, 60 s and 120 s in the log."""
SNOOZES_S = {"nap": 7, "sleep": 90}
TIMEOUT_MS = 600_000
RUNNING_LIMIT = 2
RATE_PER_S, BURST = 2, 3


@dataclass
class Run:
    """One call of a handler."""

    number: int
    attempt: int
    step: str
    """What it was to do: ok, fail, fatal, hang, or one of SNOOZES_S."""
    started_ms: int
    at: int
    """Place among all events: what comes first when the clock stands still."""
    ended_ms: int | None = None
    ended_at: int | None = None
    is_cancelled: bool = False

    @property
    def how(self) -> str:
        """How it ended: as it was to, by its timeout (a failure), or by an end of its worker or a cancellation."""
        if not self.is_cancelled and self.ended_ms is not None:
            return "ok" if self.step == "hang" else self.step
        lasted_ms = 0 if self.ended_ms is None else self.ended_ms - self.started_ms
        return "fail" if lasted_ms >= TIMEOUT_MS else "interrupted"


@dataclass
class Sent:
    """One job, as the test sent it."""

    number: int
    id: str
    queue: str
    tenant: str
    not_before_ms: int
    is_delayed: bool
    expires_ms: int | None = None
    is_cancelled: bool = False
    runs: list[Run] = field(default_factory=list)


@dataclass
class Crash:
    """A worker's end without a word: when, whether another one lived on, and what the log had of each job then."""

    at: int
    is_alone: bool
    written: Mapping[str, Sequence[JobState]]


class History:
    """Jobs, runs and disturbances; `problems` says what is wrong with them."""

    def __init__(self) -> None:
        self.sent: dict[int, Sent] = {}
        self.runs: list[Run] = []
        self.events = 0
        self.crashes: list[Crash] = []
        self.rebalances: list[int] = []
        """When workers came or went in good order."""

    def tick(self) -> int:
        """The next place among all events."""
        self.events += 1
        return self.events

    def problems(self, found: Mapping[str, LabJob]) -> list[str]:
        """Every broken rule, in words."""
        wrong: list[str] = []
        for sent in self.sent.values():
            job = found.get(sent.id)
            if job is None:
                wrong.append(f"job {sent.number}: lost, it is not on the log")
                continue
            mine = [*_times(sent), *self._ends(sent, job), *_attempts(sent, job), *self._runs(sent)]
            wrong += [f"job {sent.number}: {each}" for each in mine]
        return [*wrong, *self._order(found), *self._uniqueness(found), *self._running_limits(), *self._rates()]

    # --- each job by itself ---

    def _ends(self, sent: Sent, job: LabJob) -> Iterable[str]:
        """It reaches exactly one terminal state, the right one."""
        ends = [status for status in job.history if status.is_terminal]
        if len(ends) != 1:
            yield f"{len(ends)} terminal states, expected one; its states are {_states(job.history)}"
            return
        state = ends[0].state
        if job.history[-1] is not ends[0] or job.state != state:
            yield f"is {job.state} after it was {state}"
        last = sent.runs[-1].how if sent.runs else None
        match state:
            case State.SUCCEEDED if last != "ok" or job.result != {"number": sent.number}:
                yield f"succeeded with {job.result!r}, its runs ended {[run.how for run in sent.runs]}"
            case State.DEAD if last != "fatal" and (job.attempt != ATTEMPTS or last != "fail"):
                yield f"is dead after attempt {job.attempt} of {ATTEMPTS}: {job.error}"
            case State.EXPIRED if sent.expires_ms is None or ends[0].status.at < sent.expires_ms * 1000:
                yield "expired before its time"
            case State.CANCELLED if not sent.is_cancelled and "duplicate_of" not in ends[0].details:
                yield "is cancelled though nobody asked for it"
            case State.SUCCEEDED | State.DEAD | State.EXPIRED | State.CANCELLED:
                return
            case _:
                yield f"ended as {state}"

    def _runs(self, sent: Sent) -> Iterable[str]:
        """What comes after a run follows from how that ended, as far as it was written when a worker crashed."""
        for before, after in pairwise(sent.runs):
            crashes = [crash.written.get(sent.id, ()) for crash in self.crashes if before.at < crash.at < after.at]
            is_lost = any(not _is_written(before, written) for written in crashes)
            assert before.ended_ms is not None, "runs of one job come one after the other"
            waited_ms = after.started_ms - before.ended_ms
            what = f"attempt {after.attempt} came {waited_ms} ms after attempt {before.attempt}, {before.how}"
            if is_lost:
                known = max((attempt for written in crashes for attempt in _failed_attempts(written)), default=0)
                if not known < after.attempt <= before.attempt + (before.how == "fail"):
                    yield what
                continue
            match before.how:
                case "ok" | "fatal":
                    yield f"ran again after it had ended: {what}"
                case "fail":
                    wait_ms = FIRST_RETRY_S[sent.queue] * 1000 * 2 ** (before.attempt - 1)
                    if after.attempt != before.attempt + 1 or waited_ms < wait_ms:
                        yield what
                case "interrupted":
                    if after.attempt != before.attempt:
                        yield what
                case _:
                    if after.attempt != before.attempt or waited_ms < SNOOZES_S[before.how] * 1000:
                        yield what

    # --- jobs among each other ---

    def _order(self, found: Mapping[str, LabJob]) -> Iterable[str]:
        """A tenant's jobs begin in the order of their sending, each when the one before is over.

        Jobs that were told to wait, or went through the retry topic, have left the order.
        """
        tenants: dict[str, list[Sent]] = defaultdict(list)
        for sent in self.sent.values():
            if sent.queue == "ordered" and not sent.is_delayed and sent.runs:
                tenants[sent.tenant].append(sent)
        for jobs in tenants.values():
            for before, after in pairwise(jobs):
                first = after.runs[0].at
                if first < before.runs[0].at:
                    yield f"job {after.number} began before job {before.number}, which came first"
                elif self._is_under_way(before, first) and not self._has_left_order(before, first, found):
                    yield f"job {after.number} began before job {before.number} was over"

    def _has_left_order(self, sent: Sent, at: int, found: Mapping[str, LabJob]) -> bool:
        """Whether it waited for long, or for any time when workers came and went: both lead through the log."""
        if sent.id in found and _left_memory(found[sent.id].history):
            return True
        runs = [run for run in sent.runs if run.at < at]
        moves = [*self.rebalances, *(crash.at for crash in self.crashes if not crash.is_alone)]
        return any(run.how == "sleep" for run in runs) or any(runs[0].at < move < at for move in moves)

    def _is_under_way(self, sent: Sent, at: int) -> bool:
        """Whether a job has begun and is not over at this event."""
        runs = [run for run in sent.runs if run.at < at]
        if not runs:
            return False
        last = runs[-1]
        if last.ended_at is None or last.ended_at > at:
            return True
        return last.how not in ("ok", "fatal") and last is not sent.runs[-1]

    def _uniqueness(self, found: Mapping[str, LabJob]) -> Iterable[str]:
        """Of a tenant's jobs in `single` one is under way at a time, and those that found it so are its duplicates."""
        tenants: dict[str, list[Sent]] = defaultdict(list)
        for sent in self.sent.values():
            if sent.queue == "single":
                tenants[sent.tenant].append(sent)
        for jobs in tenants.values():
            ids = {sent.id for sent in jobs}
            for sent in jobs:
                ends = [status for status in found[sent.id].history if status.is_terminal] if sent.id in found else []
                if ends and ends[0].details.get("duplicate_of", sent.id) not in ids:
                    yield f"job {sent.number} is the duplicate of no job of its kind"
                for other in jobs:
                    is_new = other is not sent and other.runs and sent.runs and sent.runs[0].at < other.runs[0].at
                    if is_new and self._is_under_way(sent, other.runs[0].at):
                        yield f"job {other.number} began while job {sent.number} was under way"

    def _running_limits(self) -> Iterable[str]:
        running: dict[str, int] = defaultdict(int)
        events: list[tuple[int, int, Run]] = []
        for run in self.runs:
            events.append((run.at, 1, run))
            if run.ended_at is not None:
                events.append((run.ended_at, -1, run))
        for at, change, run in sorted(events, key=lambda event: event[0]):
            sent = self.sent[run.number]
            if sent.queue == "limited":
                running[sent.tenant] += change
                if running[sent.tenant] > RUNNING_LIMIT:
                    yield f"{running[sent.tenant]} jobs of tenant {sent.tenant} ran at once at event {at}"

    def _rates(self) -> Iterable[str]:
        """In any time no more jobs start than the burst and what the rate allows for that time."""
        tenants: dict[str, list[int]] = defaultdict(list)
        for run in self.runs:
            if self.sent[run.number].queue == "rated":
                tenants[self.sent[run.number].tenant].append(run.started_ms)
        for tenant, starts in tenants.items():
            for place, end_ms in enumerate(starts):
                for begin_ms in set(starts[: place + 1]):
                    count = place + 1 - bisect_left(starts, begin_ms)
                    if count > BURST + RATE_PER_S * (end_ms - begin_ms) / 1000:
                        yield f"{count} jobs of tenant {tenant} started within {end_ms - begin_ms} ms"


def _attempts(sent: Sent, job: LabJob) -> Iterable[str]:
    """Attempts are counted from 1 on, each failure once, on the log and for the handler."""
    failed = _failed_attempts(job.history)
    if sorted(set(failed)) != list(range(1, len(set(failed)) + 1)) or failed != sorted(failed):
        yield f"its failures are those of attempts {failed}"
    if sent.runs and sent.runs[0].attempt != 1:
        yield f"began with attempt {sent.runs[0].attempt}"
    if any(run.attempt > ATTEMPTS for run in sent.runs):
        yield "more attempts than it has"
    if sent.runs and job.state in (State.SUCCEEDED, State.DEAD) and job.attempt != sent.runs[-1].attempt:
        yield f"is {job.state} at attempt {job.attempt}, ran last as {sent.runs[-1].attempt}"
    if job.state in (State.SUCCEEDED, State.DEAD) and job.attempt != len(set(failed)) + 1:
        yield f"is {job.state} at attempt {job.attempt} after failures of attempts {failed}"


def _times(sent: Sent) -> Iterable[str]:
    """Nothing begins early, or after it has expired."""
    if sent.runs and sent.runs[0].started_ms < sent.not_before_ms:
        yield f"began {sent.not_before_ms - sent.runs[0].started_ms} ms early"
    for run in sent.runs:
        if sent.expires_ms is not None and run.started_ms >= sent.expires_ms:
            yield f"attempt {run.attempt} began {run.started_ms - sent.expires_ms} ms after it had expired"


def _failed_attempts(statuses: Sequence[JobState]) -> list[int]:
    return [status.attempt for status in statuses if status.state is State.RETRYING]


def _left_memory(statuses: Sequence[JobState]) -> bool:
    """Whether a wait in memory went on through the log: its status is written again, with the same time."""
    waits = [
        (status.state, status.attempt, status.status.due_at)
        for status in statuses
        if status.state in (State.RETRYING, State.SCHEDULED)
    ]
    return len(set(waits)) < len(waits)


def _is_written(run: Run, statuses: Sequence[JobState]) -> bool:
    """Whether the log has how the run ended."""
    if run.how == "interrupted" or any(status.is_terminal for status in statuses):
        return True
    if run.how == "fail":
        return any(status.state is State.RETRYING and status.attempt == run.attempt for status in statuses)
    if run.how in SNOOZES_S:
        assert run.ended_ms is not None, "it ended with a snooze"
        due_us = (run.ended_ms + SNOOZES_S[run.how] * 1000) * 1000
        return any(status.state is State.SCHEDULED and (status.status.due_at or 0) >= due_us for status in statuses)
    return False


def shown(history: History, found: Mapping[str, LabJob]) -> str:
    """The whole of it, for whoever has to find the reason."""
    crashes = [(crash.at, crash.is_alone) for crash in history.crashes]
    lines = [f"crashes {crashes}, rebalances {history.rebalances}"]
    for sent in history.sent.values():
        states = _states(found[sent.id].history) if sent.id in found else "not on the log"
        lines.append(f"{sent} {states}")
    return "\n".join(lines)


def _states(statuses: Sequence[JobState]) -> str:
    return " ".join(f"{status.state}({status.attempt})" for status in statuses)
