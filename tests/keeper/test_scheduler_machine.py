"""The scheduler as a machine on a simulated log: never early, never twice, never lost, over restarts and split brains.

The log here is a list. A transaction is one append of all its records, or none; fencing refuses the writes of all
but the last owner, as the transactional id does (KIP-98). Owners crash between any two steps.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from logqueue_consumers.keeper.command_board import CommandBoard
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.job_entries import LEAD_MS, entry_headers, entry_key
from logqueue_consumers.keeper.machine import KeeperMachine, Kept, Place
from logqueue_consumers.keeper.scheduler import scheduler_spec
from logqueue_consumers.writing.outgoing import Outgoing
from logqueue_schemas.job_status import JobStatus

from logqueue.jobs.control import Cancel
from logqueue.jobs.headers import read_job_headers
from logqueue.jobs.schedules import ENDED, Mark, Override, encode, new_schedule
from logqueue.jobs.times import format_time
from logqueue.jobs.topics import TopicNames

NAMES = TopicNames()
START = 1_790_000_000_000
RETRY = NAMES.retry("q", "g")


def keep_status(status: JobStatus) -> bytes:
    return f"{status.id} {status.state}".encode()


class Owner:
    """A process that believes that it owns the partition: an index of its own, and how far it has read."""

    def __init__(self, log: list[Outgoing], board: CommandBoard, epoch: int) -> None:
        self.epoch = epoch
        self.board = board
        self.index = Index.in_memory()
        self.place = Place(topic=NAMES.schedules, partition=0, partitions=1, count_of=lambda topic: 1)
        self.position = 0
        self.ahead: dict[bytes, int] = {}
        self.machine = self.make()
        self.read(log)

    def make(self) -> KeeperMachine:
        return scheduler_spec(NAMES, keep_status, self.board).make(self.index, self.place)

    def read(self, log: list[Outgoing], limit: int | None = None) -> None:
        end = len(log) if limit is None else min(len(log), self.position + limit)
        with self.index.transaction():
            for offset in range(self.position, end):
                record = log[offset]
                assert record.key is not None
                if self.ahead.get(record.key, -1) < offset:
                    self.apply(record, offset)
        self.position = end

    def apply(self, record: Outgoing, offset: int) -> None:
        assert record.key is not None
        self.machine.apply(Kept(record.key, record.value, record.headers, offset, record.timestamp_ms or 0))

    def restart(self) -> None:
        """The process ends and begins again with its index; what it knew in memory is gone."""
        self.ahead.clear()
        self.machine = self.make()


class SchedulerHistories(RuleBasedStateMachine):
    """Jobs that wait and a schedule, under owners that come, go, crash and do not know of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.log: list[Outgoing] = []
        self.others: list[Outgoing] = []
        self.board = CommandBoard()
        self.epoch = 1
        self.owners = [Owner(self.log, self.board, 1)]
        self.waiting: dict[str, int] = {}
        self.expires: dict[str, int] = {}
        self.cancelled: set[str] = set()
        self.came: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.number = 0

    @rule(delay=st.integers(0, 400_000), expires=st.none() | st.integers(1, 400_000))
    def wait(self, delay: int, expires: int | None) -> None:
        """A worker moves a job into the topic."""
        self.number += 1
        job_id, due = f"j{self.number}", self.now + delay
        headers = [("ce_id", job_id.encode()), ("job-not-before", format_time(due).encode())]
        if expires is not None:
            headers.append(("job-expires", format_time(self.now + expires).encode()))
            self.expires[job_id] = self.now + expires
        self.waiting[job_id] = due
        kept = entry_headers(headers, job_id=job_id, key=b"acme", rank=1)
        key = entry_key(group="g", queue="q", job_id=job_id)
        self.log.append(Outgoing(NAMES.schedules, 0, key, b"{}", kept, self.now))

    @rule(pick=st.integers(0, 10_000))
    def cancel(self, pick: int) -> None:
        if self.waiting:
            job_id = sorted(self.waiting)[pick % len(self.waiting)]
            self.cancelled.add(job_id)
            cancels = {**self.board.commands.cancels, job_id: Cancel(0, "ann", self.now)}
            self.board.hang(cancels=cancels, run_nows={})

    @rule(every=st.sampled_from(["30s", "1m", "7m"]), overlap=st.sampled_from(["allow", "skip", "buffer"]))
    def set_schedule(self, every: str, overlap: str) -> None:
        value = new_schedule("s", type="t", queue="q", arguments={}, every=every, overlap=overlap, missed="all")
        self.log.append(Outgoing(NAMES.schedules, 0, b"schedule/s", encode(Override(schedule=value)), [], self.now))

    @rule(pick=st.integers(0, 10_000))
    def end_run(self, pick: int) -> None:
        """A worker ends a run of the schedule."""
        made = [dict(r.headers)["ce_id"].decode() for r in self.others if r.topic == NAMES.jobs("q")]
        if made:
            key = f"{ENDED}s/{made[pick % len(made)]}".encode()
            self.log.append(Outgoing(NAMES.schedules, 0, key, encode(Mark(at=self.now)), [], self.now))

    @rule(passed=st.integers(1, 300_000))
    def pass_time(self, passed: int) -> None:
        self.now += passed

    @rule(pick=st.integers(0, 10_000), limit=st.none() | st.integers(1, 5))
    def read(self, pick: int, limit: int | None) -> None:
        self.owners[pick % len(self.owners)].read(self.log, limit)

    @rule(pick=st.integers(0, 10_000), crash=st.sampled_from(["no", "before the log", "after the log"]))
    def act(self, pick: int, crash: str) -> None:
        """An owner handles what is due; it may end before or after its transaction."""
        owner = self.owners[pick % len(self.owners)]
        due = owner.machine.next_due()
        if due is None or due > self.now:
            return
        records = owner.machine.due(self.now, 3)
        assert records
        if crash == "before the log":
            owner.restart()
            owner.read(self.log)  # nobody acts before that
            return
        if owner.epoch != self.epoch:
            return  # fenced: the log refuses it
        applied = []
        for record in records:
            if record.topic == NAMES.schedules and record.partition == 0:
                self.log.append(record)
                applied.append((record, len(self.log) - 1))
            else:
                self.note(record)
        if crash == "after the log":
            owner.restart()
            owner.read(self.log)  # it fences itself and reads to the end before it acts again
            return
        with owner.index.transaction():
            for record, offset in applied:
                assert record.key is not None
                owner.ahead[record.key] = offset
                owner.apply(record, offset)

    @rule(forgets=st.booleans(), pick=st.integers(0, 10_000))
    def take_over(self, forgets: bool, pick: int) -> None:
        """Another process fences the former owner, reads to the end, and acts; the former one may live on."""
        self.epoch += 1
        if len(self.owners) < 3:
            self.owners.append(Owner(self.log, self.board, self.epoch))
            return
        owner = self.owners[pick % 3]
        if forgets:
            self.owners[pick % 3] = Owner(self.log, self.board, self.epoch)
        else:
            owner.epoch = self.epoch
            owner.restart()
            owner.read(self.log)

    def note(self, record: Outgoing) -> None:
        self.others.append(record)
        if record.topic == RETRY:
            read = read_job_headers(record.headers)
            assert read.id is not None and read.not_before_ms is not None
            assert read.not_before_ms == self.waiting[read.id], "its worker waits for the rest"
            assert self.waiting[read.id] <= self.now + LEAD_MS, "early"
            self.came[read.id] += 1
        elif record.topic == NAMES.status and record.value is not None:
            job_id, state = record.value.decode().split()
            if state == "expired":
                assert self.expires[job_id] <= self.now
            if state == "cancelled":
                assert job_id in self.cancelled
            if state in ("expired", "cancelled"):
                self.ended[job_id] += 1

    @invariant()
    def nothing_happens_twice(self) -> None:
        assert all(self.came[job_id] + self.ended[job_id] <= 1 for job_id in self.waiting)
        made = Counter(dict(r.headers)["ce_id"] for r in self.others if r.topic == NAMES.jobs("q"))
        assert all(count == 1 for count in made.values())

    def teardown(self) -> None:
        """In the end everything that waits comes, or has ended for a reason."""
        self.now += 1_000_000
        self.epoch += 1
        last = Owner(self.log, self.board, self.epoch)
        self.owners = [last]
        for _ in range(10 * (len(self.waiting) + 10)):
            due = last.machine.next_due()
            if due is None or due > self.now:
                break
            self.act(0, "no")
        assert all(self.came[job_id] + self.ended[job_id] == 1 for job_id in self.waiting), "lost"
        self.nothing_happens_twice()


TestSchedulerHistories = SchedulerHistories.TestCase
TestSchedulerHistories.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
