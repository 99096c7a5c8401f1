"""The table of jobs and its counters: what a batch says of jobs becomes as few statements as it can. No transactions.

Of a row that is there its head is read (`HEAD_COLUMNS`): it mostly tells what a status changes, and the status itself
stays unread. Whatever is not as simple is read whole, row and status, and joined.

Where many statuses are alike, so mostly are the rows: the heads of a sample are read, and all rows that stand as these
are changed by id. If that does not change as many rows as there are statuses, the whole batch is done again, by heads.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from logqueue_consumers.view import rows, schema
from logqueue_consumers.view.job import FROM_JOB_RECORD, FROM_STATUS, Job, JobKey, State, fold, join, join_types
from logqueue_consumers.view.names import NO_NAME, Names
from logqueue_consumers.view.records import read_told
from logqueue_consumers.view.rows import Effect
from logqueue_consumers.view.told import Head, Told, gather, is_told_after

# Ids asked for in one statement (SQLite allows 32,766 variables).
_LOOKUP_IDS: Final = 500
# Statuses with one head from which on a sample of their rows stands for all, the size of the sample, and the batches
# that look at every row once a sample has misled.
_MANY: Final = 100
_SAMPLE: Final = 16
_WARY_BATCHES: Final = 100
_UNCLEAR, _NOTHING = Effect.UNCLEAR, Effect.NOTHING

Changes: TypeAlias = dict[tuple[str, State], list[str]]
"""Jobs whose outcome is new, by shadow group ("" is the live run) and state now."""


class NotAlike(Exception):
    """Rows that seemed to stand alike do not: the transaction is to be rolled back and the batch applied again."""


class JobsTable:
    """The jobs of one view file, for its writer."""

    def __init__(self, db: sqlite3.Connection, names: Names) -> None:
        self._db = db
        self._names = names
        self._wary_batches = 0

    def apply(self, told: Sequence[Told], pieces: Iterable[Job]) -> Changes:
        """Join with what is there. Raises NotAlike."""
        last, earlier = gather(told)
        folded = fold([*pieces, *map(read_told, earlier)])
        apart = {key[0] for key in folded}
        work = _Work(self._names)
        if self._wary_batches:
            self._wary_batches -= 1
        elif len(last) >= _MANY:
            last = self._update_alike(work, last, apart=apart)
        live, shadows = self._read_heads([*last, *[key[0] for key in folded]])
        for status in work.update_told(last, live, apart=apart):
            id_ = status[0]
            key = JobKey(id_)
            piece = folded.pop(key, None)
            if id_ in live or not work.insert_told(key, status, piece):
                whole = read_told(status)
                folded[key] = whole if piece is None else join(piece, whole)
        unclear: dict[JobKey, Job] = {}
        for key, job in folded.items():
            row = shadows.get(key) if key[1] else live.get(key[0])
            if row is None:
                work.insert(job)
            elif not work.update(job, row):
                unclear[key] = job
        name = self._names.names
        for row in self._read_rows(schema.JOB_COLUMNS, [key[0] for key in unclear]):
            piece = unclear.get(JobKey(row[1], name[row[2]]))
            if piece is not None and not work.adopt(piece, row):
                before = rows.read_row(row, self._names)
                work.replace(before, join(before, piece), row[0])
        try:
            work.write(self._db)
        except NotAlike:
            self._wary_batches = _WARY_BATCHES
            raise
        return work.changes

    def _update_alike(self, work: _Work, last: dict[str, Told], *, apart: Collection[str]) -> dict[str, Told]:
        """Plan what can be done to rows unseen; returns the other statuses."""
        left: list[Told] = []
        by_head: defaultdict[Head, list[Told]] = defaultdict(list)
        for status in last.values():
            (left if status[0] in apart else by_head[status[1]]).append(status)
        for head, statuses in by_head.items():
            standing = self._sampled_standing(statuses) if len(statuses) >= _MANY else None
            if standing is None or not work.update_alike(head, standing, statuses):
                left += statuses
        return {status[0]: status for status in left}

    def _sampled_standing(self, statuses: Sequence[Told]) -> rows.Standing | None:
        """How the live rows of a sample stand, if all of these are there and stand alike."""
        ids = [status[0] for status in statuses[:: len(statuses) // _SAMPLE]]
        live, _ = self._read_heads(ids)
        standings = {row[2:] for row in live.values()}
        return standings.pop() if len(live) == len(ids) and len(standings) == 1 else None

    def _read_heads(self, ids: Sequence[str]) -> tuple[dict[str, rows.Head], dict[JobKey, rows.Head]]:
        """The rows that are there, as far as it takes to see what is later: live runs by id, and others."""
        found = self._read_rows(schema.HEAD_COLUMNS, ids)
        live = {row[1]: row for row in found if row[2] == NO_NAME}
        if len(live) == len(found):
            return live, {}
        name = self._names.names
        return live, {JobKey(row[1], name[row[2]]): row for row in found if row[2] != NO_NAME}

    def _read_rows(self, columns: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        """The rows of all runs of these jobs."""
        ids = list(dict.fromkeys(ids))
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(ids), _LOOKUP_IDS):
            chunk = ids[start : start + _LOOKUP_IDS]
            marks = ",".join("?" * len(chunk))
            found += self._db.execute(f"SELECT {columns} FROM jobs WHERE id IN ({marks})", chunk)  # noqa: S608
        return found


class _Plan:
    """What statuses with the same head do to rows with the same head: decided once, done to many."""

    def __init__(self, head: Head, standing: rows.Standing, names: Names, *, by_id: bool = False) -> None:
        type_ = names.numbers[head.type]
        self.state = head.state
        self.slot = rows.slot_of_standing(standing)
        self.effect = rows.effect_of(standing, FROM_STATUS, type_, head.version)
        is_typed = self.effect is Effect.TYPED_OUTCOME
        columns = rows.head_values(head, names)
        self.update = schema.update_told(
            (type_, *columns) if is_typed else columns, is_typed=is_typed, standing=standing if by_id else None
        )
        self.values: list[tuple[bytes, int | str]] = []
        """Tail and key of each row; its id if rows are found by that."""
        self.ids: list[str] = []


class _Work:
    """What is to be written, and what changes by it."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._inserts: list[tuple[Any, ...]] = []
        self._outcomes: list[tuple[Any, ...]] = []
        self._typed: list[tuple[Any, ...]] = []
        self._rewrites: list[tuple[Any, ...]] = []
        self._adopted: list[tuple[Any, ...]] = []
        self._inserted: defaultdict[rows.Slot, list[str]] = defaultdict(list)
        self._counts = Counter[rows.Slot]()
        self._plans: dict[tuple[Head, rows.Standing], _Plan] = {}
        self._alike: list[_Plan] = []
        self.changes: Changes = {}

    def insert(self, job: Job) -> None:
        """A job that was not known."""
        key, type_, identity, outcome = job
        self._insert(rows.row_values(key, type_, identity, rows.outcome_values(outcome, self._names), self._names))

    def insert_told(self, key: JobKey, status: Told, piece: Job | None) -> bool:
        """A job of which this status is known and perhaps something earlier, if that is all that it takes."""
        if piece is None:
            _, type_, identity, _ = read_told(status)
        elif is_told_after(piece, status):
            _, type_, identity, _ = piece
            if type_ != (told_type := status.head.type or None):
                type_ = join_types(type_, told_type)
        else:
            return False
        self._insert(rows.row_values(key, type_, identity, rows.told_values(status, self._names), self._names))
        return True

    def _insert(self, values: tuple[Any, ...]) -> None:
        self._inserts.append(values)
        self._inserted[rows.slot_of_values(values)].append(values[0])

    def update_alike(self, head: Head, standing: rows.Standing, statuses: list[Told]) -> bool:
        """A later outcome, if statuses with one head are that to rows that stand so."""
        plan = _Plan(head, standing, self._names, by_id=True)
        if plan.effect in (_UNCLEAR, _NOTHING):
            return False
        plan.values = [(tail, id_) for id_, _, tail, _ in statuses]
        plan.ids = [status[0] for status in statuses]
        self._alike.append(plan)
        return True

    def update_told(
        self, statuses: Mapping[str, Told], live: Mapping[str, rows.Head], *, apart: Collection[str]
    ) -> list[Told]:
        """What statuses do to rows whose heads tell. Returns the others, and those with an id in `apart`."""
        plans, find, left = self._plans, live.get, []
        for status in statuses.values():
            id_, head, tail, _ = status
            row = find(id_)
            if row is None or id_ in apart:
                left.append(status)
                continue
            known = row[2:]
            plan = plans.get((head, known))
            if plan is None:
                plan = plans[head, known] = _Plan(head, known, self._names)
            if plan.effect is _UNCLEAR:
                left.append(status)
            elif plan.effect is not _NOTHING:
                plan.values.append((tail, row[0]))
                plan.ids.append(id_)
        return left

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
        self._change(job.key, outcome.state)
        return True

    def adopt(self, record: Job, row: tuple[Any, ...]) -> bool:
        """The record of a job whose statuses came first: whether it says no more than where the job lies."""
        if record.identity.source != FROM_JOB_RECORD or not rows.is_ahead(row, record):
            return False
        type_, sort, source, topic, partition, offset, queue, tenant, expires = rows.identity_values(
            record.type, record.identity, self._names
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
            self._rewrites.append((*rows.identity_values(job.type, job.identity, names), *outcome, row_key))
        self._counts[rows.slot_of(before, names)] -= 1
        self._counts[rows.slot_of(job, names)] += 1
        self._change(job.key, job.outcome.state)

    def write(self, db: sqlite3.Connection) -> None:
        """All of it; each row is in one of the statements. Raises NotAlike."""
        for plan in (*self._alike, *self._plans.values()):
            if plan.values:
                if db.executemany(plan.update, plan.values).rowcount != len(plan.values):
                    raise NotAlike
                self._move(plan.slot, plan.state, len(plan.values))
                self.changes.setdefault(("", plan.state), []).extend(plan.ids)
        for slot, ids in self._inserted.items():
            shadow, _, state = slot
            self._counts[slot] += len(ids)
            self.changes.setdefault((self._names.names[shadow], State(state)), []).extend(ids)
        counts = [(*slot, jobs) for slot, jobs in self._counts.items() if jobs]
        for statement, values in (
            (schema.INSERT_JOB, self._inserts),
            (schema.UPDATE_OUTCOME, self._outcomes),
            (schema.UPDATE_TYPED_OUTCOME, self._typed),
            (schema.UPDATE_JOB, self._rewrites),
            (schema.ADOPT_JOB, self._adopted),
            (schema.ADD_TO_COUNTER, counts),
        ):
            if values:
                db.executemany(statement, values)

    def _change(self, key: JobKey, state: State) -> None:
        id_, shadow = key
        self.changes.setdefault((shadow, state), []).append(id_)

    def _move(self, slot: rows.Slot, state: State, jobs: int) -> None:
        shadow, queue, _ = slot
        self._counts[slot] -= jobs
        self._counts[shadow, queue, int(state)] += jobs
