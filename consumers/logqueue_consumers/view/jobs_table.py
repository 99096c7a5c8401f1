"""The table of jobs and its counters: what a batch says of jobs becomes as few statements as it can. No transactions.

Of a row that is there its head is read (`HEAD_COLUMNS`): it mostly tells what a status changes, and the status itself
stays unread. Whatever is not as simple is read whole, row and status, and joined.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from logqueue_consumers.view import rows, schema
from logqueue_consumers.view.job import FROM_JOB_RECORD, FROM_STATUS, Job, JobKey, State, fold, join
from logqueue_consumers.view.names import NO_NAME, Names
from logqueue_consumers.view.records import read_told
from logqueue_consumers.view.rows import Effect
from logqueue_consumers.view.told import Head, Told, gather, told_after

# Ids asked for in one statement (SQLite allows 32,766 variables).
_LOOKUP_IDS: Final = 500


class JobsTable:
    """The jobs of one view file, for its writer."""

    def __init__(self, db: sqlite3.Connection, names: Names) -> None:
        self._db = db
        self._names = names

    def apply(self, told: Sequence[Told], pieces: Iterable[Job]) -> Sequence[tuple[JobKey, State]]:
        """Join with what is there; each job whose outcome is new, with its state now."""
        last, earlier = gather(told)
        folded = fold([*pieces, *map(read_told, earlier)])
        heads = self._read_heads([*last, *folded])
        work = _Work(self._names)
        for key, status in last.items():
            row = heads.get(key)
            if row is None or key in folded:
                piece = folded.pop(key, None)
                if row is not None or not work.insert_told(status, piece):
                    whole = read_told(status)
                    folded[key] = whole if piece is None else join(piece, whole)
            elif not work.update_told(status, row):
                folded[key] = read_told(status)
        unclear: dict[JobKey, Job] = {}
        for key, job in folded.items():
            row = heads.get(key)
            if row is None:
                work.insert(job)
            elif not work.update(job, row):
                unclear[key] = job
        name = self._names.names
        for row in self._read_rows(schema.JOB_COLUMNS, unclear):
            piece = unclear.get(JobKey(row[1], name[row[2]]))
            if piece is not None and not work.adopt(piece, row):
                before = rows.read_row(row, self._names)
                work.replace(before, join(before, piece), row[0])
        work.write(self._db)
        return work.changes

    def _read_heads(self, keys: Iterable[JobKey]) -> Mapping[tuple[str, str], rows.Head]:
        """The rows that are there, as far as it takes to see whether an outcome is later."""
        name = self._names.names
        return {(row[1], name[row[2]]): row for row in self._read_rows(schema.HEAD_COLUMNS, keys)}

    def _read_rows(self, columns: str, keys: Iterable[JobKey]) -> Iterator[tuple[Any, ...]]:
        """The rows of these jobs, and of other runs of them."""
        ids = list({key[0] for key in keys})
        for start in range(0, len(ids), _LOOKUP_IDS):
            chunk = ids[start : start + _LOOKUP_IDS]
            marks = ",".join("?" * len(chunk))
            yield from self._db.execute(f"SELECT {columns} FROM jobs WHERE id IN ({marks})", chunk)  # noqa: S608


class _Plan:
    """What statuses with the same head do to rows with the same head: decided once, done to many."""

    def __init__(self, head: Head, standing: rows.Standing, names: Names) -> None:
        type_ = names.numbers[head.type]
        self.effect = rows.effect_of(standing, FROM_STATUS, type_, head.version)
        columns = (*head.version, int(head.state), names.numbers[head.group])
        self.columns = (type_, *columns) if self.effect is Effect.TYPED_OUTCOME else columns
        self.values: list[tuple[Any, ...]] = []


class _Work:
    """What is to be written, and what changes by it."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._inserts: list[tuple[Any, ...]] = []
        self._outcomes: list[tuple[Any, ...]] = []
        self._typed: list[tuple[Any, ...]] = []
        self._rewrites: list[tuple[Any, ...]] = []
        self._adopted: list[tuple[Any, ...]] = []
        self._counts = Counter[rows.Slot]()
        self._plans: dict[tuple[Head, rows.Standing], _Plan] = {}
        self.changes: list[tuple[JobKey, State]] = []

    def insert(self, job: Job) -> None:
        """A job that was not known."""
        outcome = job.outcome
        self._insert(
            job.key, rows.row_values(job, rows.outcome_values(outcome, self._names), self._names), outcome.state
        )

    def insert_told(self, status: Told, piece: Job | None) -> bool:
        """A job of which this status is known and perhaps something earlier, if that is all that it takes."""
        job = read_told(status) if piece is None else told_after(piece, status)
        if job is None:
            return False
        names = self._names
        self._insert(status.key, rows.row_values(job, rows.told_values(status, names), names), status.head.state)
        return True

    def _insert(self, key: JobKey, values: tuple[Any, ...], state: State) -> None:
        self._inserts.append(values)
        self._counts[rows.slot_of_values(values)] += 1
        self.changes.append((key, state))

    def update_told(self, status: Told, row: rows.Head) -> bool:
        """What a status does to a row, if their heads tell."""
        key, head, value, tail_start = status
        known = row[2:]
        plan = self._plans.get((head, known))
        if plan is None:
            plan = self._plans[head, known] = _Plan(head, known, self._names)
        if plan.effect is Effect.UNCLEAR:
            return False
        if plan.effect is not Effect.NOTHING:
            plan.values.append((*plan.columns, value[tail_start:], row[0]))
            self.changes.append((key, head.state))
        return True

    def update(self, job: Job, row: rows.Head) -> bool:
        """What a piece of knowledge does to a row, if the row's head tells."""
        names, outcome, known = self._names, job.outcome, row[2:]
        type_ = names.numbers[job.type or ""]
        effect = rows.effect_of(known, job.identity.source, type_, outcome[:3])
        if effect is Effect.OUTCOME:
            self._outcomes.append((*rows.outcome_values(outcome, names), row[0]))
        elif effect is Effect.TYPED_OUTCOME:
            self._typed.append((type_, *rows.outcome_values(outcome, names), row[0]))
        else:
            return effect is Effect.NOTHING
        self._move(rows.slot_of_standing(known), outcome.state, 1)
        self.changes.append((job.key, outcome.state))
        return True

    def adopt(self, record: Job, row: tuple[Any, ...]) -> bool:
        """The record of a job whose statuses came first: whether it says no more than where the job lies."""
        if record.identity.source != FROM_JOB_RECORD or not rows.is_ahead(row, record):
            return False
        type_, sort, source, topic, partition, offset, queue, tenant, expires = rows.identity_values(
            record, self._names
        )
        if type_ not in (row[3], NO_NAME) or (sort, queue, tenant) != (row[4], row[9], row[10]):
            return False
        self._adopted.append((source, topic, partition, offset, expires, row[0]))
        return True

    def replace(self, before: Job, job: Job, row_key: int) -> None:
        """A job of which more may be known now than its row says."""
        if job == before:
            return
        names = self._names
        outcome = rows.outcome_values(job.outcome, names)
        if job.identity == before.identity and job.type == before.type:
            self._outcomes.append((*outcome, row_key))
        else:
            self._rewrites.append((*rows.identity_values(job, names), *outcome, row_key))
        self._counts[rows.slot_of(before, names)] -= 1
        self._counts[rows.slot_of(job, names)] += 1
        self.changes.append((job.key, job.outcome.state))

    def write(self, db: sqlite3.Connection) -> None:
        """All of it; each row is in one of the statements."""
        for (head, known), plan in self._plans.items():
            if plan.values:
                target = self._typed if plan.effect is Effect.TYPED_OUTCOME else self._outcomes
                target += plan.values
                self._move(rows.slot_of_standing(known), head.state, len(plan.values))
        db.executemany(schema.INSERT_JOB, self._inserts)
        db.executemany(schema.UPDATE_OUTCOME, self._outcomes)
        db.executemany(schema.UPDATE_TYPED_OUTCOME, self._typed)
        db.executemany(schema.UPDATE_JOB, self._rewrites)
        db.executemany(schema.ADOPT_JOB, self._adopted)
        db.executemany(schema.ADD_TO_COUNTER, [(*slot, jobs) for slot, jobs in self._counts.items() if jobs])

    def _move(self, slot: rows.Slot, state: State, jobs: int) -> None:
        shadow, queue, _ = slot
        self._counts[slot] -= jobs
        self._counts[shadow, queue, int(state)] += jobs
