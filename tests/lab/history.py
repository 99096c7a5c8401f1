"""What handlers of a generated history did, and what must hold of it whatever happened."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from logqueue_consumers.lab.log_reader import LabJob
from logqueue_schemas.job_status import TERMINAL

ATTEMPTS = 3
FIRST_RETRY_MS = 10_000
TIMEOUT_MS = 600_000
RUNNING_LIMIT = 2


@dataclass
class Run:
    """One call of a handler."""

    number: int
    attempt: int
    started_ms: int
    at: int
    """Place among all events: what comes first when the clock stands still."""
    ended_ms: int | None = None
    ended_at: int | None = None
    how: str | None = None
    """ok, fail, or cancelled (by whatever)."""


@dataclass
class Sent:
    """One job, as the test sent it."""

    number: int
    id: str
    queue: str
    tenant: str
    not_before_ms: int
    is_delayed: bool
    is_cancelled: bool = False
    crashes_before: int = 0
    runs: list[Run] = field(default_factory=list)


class History:
    """Jobs and runs; `problems` says what is wrong with them."""

    def __init__(self) -> None:
        self.sent: dict[int, Sent] = {}
        self.runs: list[Run] = []
        self.events = 0
        self.crashes = 0
        self.rebalances = 0

    def tick(self) -> int:
        self.events += 1
        return self.events

    def problems(self, found: dict[str, LabJob]) -> list[str]:
        wrong: list[str] = []
        for sent in self.sent.values():
            job = found.get(sent.id)
            if job is None:
                wrong.append(f"{sent.number} is lost: not on the log")
                continue
            wrong += [f"job {sent.number}: {each}" for each in (*self._ends(sent, job), *self._attempts(sent, job))]
            wrong += [f"job {sent.number}: {each}" for each in self._times(sent)]
        return wrong + self._order() + self._limits()

    def _ends(self, sent: Sent, job: LabJob) -> list[str]:
        ends = [status for status in job.history if status.state in TERMINAL]
        if len(ends) != 1:
            states = [str(status.state) for status in job.history]
            return [f"{len(ends)} terminal states, expected one; its states are {states}"]
        state, wrong = str(ends[0].state), []
        if job.history[-1] is not ends[0] or job.state != state:
            wrong.append(f"is {job.state} after it was {state}")
        if state == "succeeded":
            if not sent.runs or sent.runs[-1].how != "ok" or job.result != {"number": sent.number}:
                wrong.append(f"succeeded with {job.result!r}, its runs ended {[run.how for run in sent.runs]}")
        elif state == "dead":
            if job.attempt != ATTEMPTS:
                wrong.append(f"is dead after attempt {job.attempt} of {ATTEMPTS}: {job.error}")
        elif state != "cancelled" or not sent.is_cancelled:
            wrong.append(f"is {state} though nobody asked for it")
        return wrong

    def _attempts(self, sent: Sent, job: LabJob) -> list[str]:
        wrong: list[str] = []
        for before, after in pairwise(sent.runs):
            if before.how == "ok" and self.crashes == sent.crashes_before and not self.rebalances:
                wrong.append(f"ran again after it had succeeded (attempt {before.attempt})")
            if before.how == "fail" and after.attempt == before.attempt and self.crashes == sent.crashes_before:
                wrong.append(f"attempt {before.attempt} failed and was not counted")
            if after.attempt > before.attempt + 1:
                wrong.append(f"attempt {after.attempt} came after {before.attempt}")
            if after.attempt < before.attempt and self.crashes == sent.crashes_before:
                wrong.append(f"attempt {after.attempt} came after {before.attempt} though no worker crashed")
        if sent.runs and sent.runs[0].attempt != 1 and self.crashes == sent.crashes_before:
            wrong.append(f"began with attempt {sent.runs[0].attempt}")
        if any(run.attempt > ATTEMPTS for run in sent.runs):
            wrong.append("more attempts than it has")
        if sent.runs and job.state in ("succeeded", "dead") and job.attempt != sent.runs[-1].attempt:
            wrong.append(f"is {job.state} at attempt {job.attempt}, ran last as {sent.runs[-1].attempt}")
        return wrong

    def _times(self, sent: Sent) -> list[str]:
        wrong: list[str] = []
        if sent.runs and sent.runs[0].started_ms < sent.not_before_ms:
            wrong.append(f"began {sent.not_before_ms - sent.runs[0].started_ms} ms early")
        for before, after in pairwise(sent.runs):
            assert before.ended_ms is not None
            wait_ms = FIRST_RETRY_MS * 2 ** (before.attempt - 1)
            is_retry = before.how == "fail" and after.attempt == before.attempt + 1
            if is_retry and after.started_ms < before.ended_ms + wait_ms:
                wrong.append(f"attempt {after.attempt} came {after.started_ms - before.ended_ms} ms after the failure")
        return wrong

    def _order(self) -> list[str]:
        """Jobs of a tenant that were never told to wait begin in the order in which they were sent."""
        wrong: list[str] = []
        tenants: dict[str, list[Sent]] = defaultdict(list)
        for sent in self.sent.values():
            if sent.queue == "ordered" and not sent.is_delayed and sent.runs:
                tenants[sent.tenant].append(sent)
        for tenant, jobs in tenants.items():
            for before, after in pairwise(jobs):
                if after.runs[0].at < before.runs[0].at:
                    wrong.append(f"tenant {tenant}: job {after.number} began before job {before.number}")
                if not self.crashes and not self.rebalances and after.runs[0].at < (before.runs[-1].ended_at or 0):
                    wrong.append(f"tenant {tenant}: job {after.number} began before job {before.number} was over")
        return wrong

    def _limits(self) -> list[str]:
        wrong: list[str] = []
        running: dict[str, set[int]] = defaultdict(set)
        events: list[tuple[int, bool, Run]] = []
        for run in self.runs:
            events.append((run.at, True, run))
            if run.ended_at is not None:
                events.append((run.ended_at, False, run))
        for at, begins, run in sorted(events, key=lambda event: event[0]):
            sent = self.sent[run.number]
            now = running[f"{sent.queue}/{sent.tenant}"]
            if not begins:
                now.discard(run.at)
                continue
            now.add(run.at)
            if sent.queue == "limited" and len(now) > RUNNING_LIMIT:
                wrong.append(f"{len(now)} jobs of tenant {sent.tenant} ran at once at event {at}")
        return wrong


def plain(jobs: list[LabJob]) -> dict[str, LabJob]:
    return {job.id: job for job in jobs}


def shown(history: History, found: dict[str, LabJob]) -> str:
    """The whole of it, for whoever has to find the reason."""
    lines: list[Any] = []
    for sent in history.sent.values():
        job = found.get(sent.id)
        states = [f"{s.state}({s.attempt})" for s in job.history] if job is not None else None
        lines.append(f"{sent.number} {sent.queue}/{sent.tenant} {states}")
        lines += [f"    {run}" for run in sent.runs]
    return "\n".join(lines)
