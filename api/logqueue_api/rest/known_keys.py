"""Idempotency keys over HTTP: a key that comes again is answered with its job, other arguments are a conflict.

The job's id is made from tenant, queue, type and key, so the view knows it, and the log has the arguments it came with.
What this process sent last is remembered too, since the view lags behind. Two API processes that are given a key in
the same moment both send it, as do two batches, or a batch and a single request, of one process; the worker runs it
once, and other arguments become a dead letter of class `conflict` instead of a 409.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from logqueue_consumers.view.job import TERMINAL_STATES, Job, JobKey

from logqueue.clock import Clock
from logqueue.ids import TopicPartition
from logqueue.jobs.sending import PreparedJob
from logqueue.jobs.unique import KEY_WINDOW_S, argument_digest
from logqueue_api.rest.problems import FieldFault, Problem
from logqueue_api.rest.wire import job_document, position_text, time_text

MAX_REMEMBERED: Final = 1_000
"""Jobs with keys that this process sent last."""
MAX_VALUE_BYTES: Final = 16 * 1024
"""Arguments that are remembered to tell which of them differ; of larger ones only whether they do."""
CONFLICT: Final = "urn:logqueue:idempotency-conflict"

ReadValue = Callable[[TopicPartition, int], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True)
class _Sent:
    digest: str
    value: bytes | None
    receipt: dict[str, Any]
    at_ms: int


class KnownKeys:
    """Jobs with idempotency keys. `find` looks into the view, `read_value` reads a record of the log."""

    def __init__(self, *, find: Callable[[JobKey], Job | None], read_value: ReadValue, clock: Clock) -> None:
        self._find = find
        self._read_value = read_value
        self._clock = clock
        self._sent: OrderedDict[str, _Sent] = OrderedDict()
        self._busy: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def alone(self, job: PreparedJob) -> AsyncIterator[None]:
        """One request about a key at a time."""
        lock, users = self._busy.get(job.id, (asyncio.Lock(), 0))
        self._busy[job.id] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._busy[job.id][1] - 1
            if users:
                self._busy[job.id] = (lock, users)
            else:
                del self._busy[job.id]

    def remember(self, job: PreparedJob, receipt: dict[str, Any]) -> None:
        """It was sent."""
        value = job.value if len(job.value) <= MAX_VALUE_BYTES else None
        self._sent[job.id] = _Sent(argument_digest(job.value), value, receipt, self._clock.time_ms())
        if len(self._sent) > MAX_REMEMBERED:
            self._sent.popitem(last=False)

    async def existing(self, job: PreparedJob, *, where: str = "") -> dict[str, Any] | None:
        """The receipt of the job that had the key first, with its state, or None; Problem 409 on other arguments."""
        known = self._find(JobKey(job.id))
        sent = self._sent.get(job.id)
        if known is not None and self._is_over(known):
            if sent is None or self._is_past(sent.at_ms):
                self._sent.pop(job.id, None)
                return None
            known = None  # what was sent since cannot be over yet: the view shows the job before it
        if sent is not None:
            if sent.digest != argument_digest(job.value):
                raise _conflict(job, sent.value, where)
            return sent.receipt | _answer(known)
        if known is None:
            return None
        identity = known.identity
        value = await self._read_value(TopicPartition(identity.topic, identity.partition), identity.offset)
        if value is not None and argument_digest(value) != argument_digest(job.value):
            raise _conflict(job, value, where)
        return _receipt(known) | _answer(known)

    def _is_over(self, job: Job) -> bool:
        """Whether the key is free again: its job has ended longer ago than the window."""
        outcome = job.outcome
        if outcome.state not in TERMINAL_STATES:
            return False
        return self._is_past(outcome.at // 1000)

    def _is_past(self, at_ms: int) -> bool:
        return at_ms + KEY_WINDOW_S * 1000 < self._clock.time_ms()


def _answer(job: Job | None) -> dict[str, Any]:
    return {"duplicate": True, "job": None if job is None else job_document(job, {})}


def _receipt(job: Job) -> dict[str, Any]:
    identity = job.identity
    return {
        "id": job.key.id,
        "type": job.type,
        "queue": identity.queue,
        "tenant": identity.tenant,
        "topic": identity.topic,
        "partition": identity.partition,
        "offset": identity.offset,
        "position": position_text(identity.topic, identity.partition, identity.offset),
        "created_at": time_text(identity.created_ms * 1000),
    }


def _conflict(job: PreparedJob, first: bytes | None, where: str) -> Problem:
    text = f"the key came before with other arguments (job {job.id})"
    faults = [FieldFault(f"{where}idempotency_key", text)]
    faults += [FieldFault(f"{where}args.{name}", "differs from the first job's") for name in _differing(job, first)]
    return Problem(409, f"{where}idempotency_key: {text}", kind=CONFLICT, faults=faults, extra={"id": job.id})


def _differing(job: PreparedJob, first: bytes | None) -> list[str]:
    """Names of the arguments that differ, where both are JSON objects."""
    try:
        before, now = orjson.loads(first or b"null"), orjson.loads(job.value)
    except orjson.JSONDecodeError:
        return []
    if not isinstance(before, dict) or not isinstance(now, dict):
        return []
    missing = object()
    return sorted(name for name in {*before, *now} if before.get(name, missing) != now.get(name, missing))
