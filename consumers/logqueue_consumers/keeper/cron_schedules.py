"""The cron schedules as a machine: folds their records, and makes the jobs of runs that are due. No IO.

A run is one transaction: its job, and the state that says it was made. Schedules are few and are held in
memory; the index has their records, so that a restart need not read the topic.
"""

from __future__ import annotations

import structlog
from msgspec.structs import replace

from logqueue.jobs.headers import HOLDS, IDEMPOTENCY_KEY, SCHEDULE, SCHEDULED_AT, job_headers
from logqueue.jobs.payload import encode_result
from logqueue.jobs.schedule_book import ScheduleBook
from logqueue.jobs.schedules import (
    CRON_PREFIXES,
    ENDED,
    PAUSE,
    RUN,
    STATE,
    Mark,
    Schedule,
    State,
    basis_of,
    decode_mark,
    encode,
)
from logqueue.jobs.times import format_time
from logqueue.jobs.topics import TopicNames
from logqueue_consumers.keeper.cron_plan import Run, plan, wake_of
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.machine import Kept, Place
from logqueue_consumers.keeper.put_off import Pauses
from logqueue_consumers.keeper.wakes import Wakes
from logqueue_consumers.writing.outgoing import Outgoing

log = structlog.get_logger(__name__)

_PREFIXES = tuple(prefix.encode() for prefix in CRON_PREFIXES)


def is_cron(key: bytes) -> bool:
    """Whether a key of `jobs.schedules` is about a cron schedule."""
    return key.startswith(_PREFIXES)


class CronSchedules:
    """All schedules of a log."""

    def __init__(self, index: Index, place: Place, *, names: TopicNames) -> None:
        self._index = index
        self._place = place
        self._names = names
        self._book = ScheduleBook()
        self._runs: dict[str, dict[str, Mark]] = {}
        self._ended: dict[str, dict[str, Mark]] = {}
        self._wakes = Wakes()
        """When each schedule wants to be looked at; 0: at once."""
        self._pauses = Pauses()
        for prefix in _PREFIXES:
            for row in index.scan(prefix):
                self._fold(row.key, row.value)
        self._review(self._book.names().union(self._runs, self._ended))

    def apply(self, record: Kept) -> None:
        """Fold a record."""
        if record.value is None:
            self._index.delete(record.key)
        else:
            self._index.put(record.key, record.value)
        self._review(self._fold(record.key, record.value))

    def next_due(self) -> int | None:
        """When a schedule wants to be looked at."""
        return self._wakes.first()

    def due(self, now_ms: int, limit: int) -> list[Outgoing]:
        """The jobs and states of schedules that want to be looked at."""
        records: list[Outgoing] = []
        for name in self._wakes.due(now_ms, limit):
            records += self._look(name, now_ms)
        return records

    def put_off(self, now_ms: int) -> bool:
        """Look at the first schedule that is due later; false if none is."""
        names = self._wakes.due(now_ms, 1)
        for name in names:
            self._wakes.set(name, self._pauses.until(name, now_ms))
        return bool(names)

    def _look(self, name: str, now_ms: int) -> list[Outgoing]:
        runs, ended = self._runs.get(name, {}), self._ended.get(name, {})
        gone = [self._tombstone(f"{RUN}{name}/{run}", now_ms) for run in runs]
        gone += [self._tombstone(f"{ENDED}{name}/{job_id}", now_ms) for job_id in ended]
        schedule = self._book.schedule(name)
        if schedule is None:
            if name in self._book.pauses:
                gone.append(self._tombstone(PAUSE + name, now_ms))
            if name in self._book.states:
                gone.append(self._tombstone(STATE + name, now_ms))
            return gone
        is_paused, known = name in self._book.pauses, self._book.states.get(name)
        jobs: list[Outgoing] = []
        try:
            state, begun = plan(schedule, known, now_ms, is_paused=is_paused, ended=ended, run_now=runs)
            jobs = [self._job(schedule, run, now_ms) for run in begun]
        except Exception as error:
            # Written by another version, or with a time zone that this machine does not have: whatever it is, the
            # schedules and jobs beside it go on.
            log.error("schedule rests: mend it and set it again", schedule=name, reason=str(error) or repr(error))
            basis = basis_of(schedule, is_paused=is_paused)
            state = replace(known or State(), basis=basis, rhythm="", next=None, buffered=None)
        return [*jobs, self._own((STATE + name).encode(), encode(state), now_ms), *gone]

    def _job(self, schedule: Schedule, run: Run, now_ms: int) -> Outgoing:
        extra = [
            (SCHEDULE, schedule.name.encode()),
            (SCHEDULED_AT, format_time(run.scheduled_ms).encode()),
            # Should two owners ever make the same run, the partition's owner sees that they are one job.
            (IDEMPOTENCY_KEY, run.job_id.encode()),
        ]
        if schedule.overlap != "allow":
            extra.append((HOLDS, schedule.name.encode()))
        headers = job_headers(
            id=run.job_id,
            type=schedule.type,
            source=schedule.app or "schedule",
            created_ms=now_ms,
            extra=extra,
        )
        topic = self._names.jobs(schedule.queue)
        return Outgoing(topic, None, schedule.tenant.encode(), encode_result(schedule.arguments), headers, now_ms)

    def _own(self, key: bytes, value: bytes | None, now_ms: int) -> Outgoing:
        return Outgoing(self._place.topic, self._place.partition, key, value, [], now_ms)

    def _tombstone(self, key: str, now_ms: int) -> Outgoing:
        return self._own(key.encode(), None, now_ms)

    # --- folding ---

    def _fold(self, key: bytes, value: bytes | None) -> set[str]:
        """Take a record in; returns the schedules that it is about."""
        try:
            kind, _, subject = key.decode().partition("/")
            if kind + "/" not in (RUN, ENDED):
                return self._book.apply(kind + "/", subject, value)
            name, slash, mark = subject.partition("/")
            if not slash:
                raise ValueError("it names no run")  # and nobody could take it back
            marks = (self._runs if kind + "/" == RUN else self._ended).setdefault(name, {})
            if value is not None:
                marks[mark] = decode_mark(value)
            else:
                marks.pop(mark, None)
        except (ValueError, RecursionError) as error:
            log.error("no schedule", key=repr(key[:200]), error=str(error))
            return set()
        return {name}

    def _review(self, names: set[str]) -> None:
        """When these want to be looked at."""
        for name in names:
            self._wakes.set(name, self._wake(name))

    def _wake(self, name: str) -> int | None:
        if self._runs.get(name) or self._ended.get(name):
            return 0
        schedule, state = self._book.schedule(name), self._book.states.get(name)
        if schedule is None:
            return None if state is None and name not in self._book.pauses else 0
        if state is None or state.basis != basis_of(schedule, is_paused=name in self._book.pauses):
            return 0
        return wake_of(schedule, state)
