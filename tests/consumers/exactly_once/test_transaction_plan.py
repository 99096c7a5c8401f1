"""The plan of flushes against a plain model: what is done is what was committed, once and in order."""

from __future__ import annotations

from collections import Counter, defaultdict

from aiokafka.structs import ConsumerRecord
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.partitions.partition import OwnedPartition, Standing
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.transactions.plan import after_abort, after_commit, after_refusal, cut, finishing, retrying
from logqueue_consumers.writing.outgoing import Outgoing
from logqueue_consumers.writing.pending import Delivered, Pending, settle
from logqueue_schemas.job_status import State

from logqueue.jobs.headers import Origin
from logqueue.jobs.topics import TopicKind

PARTITIONS = 3
LIMIT = 8


def new_partition(number: int) -> OwnedPartition:
    return OwnedPartition("jobs.q", number, kind=TopicKind.JOBS, queue="q", order="tenant", window=PartitionWindow(0))


def new_job(partition: OwnedPartition, offset: int) -> Job:
    record = ConsumerRecord("jobs.q", partition.partition, offset, 1_000, 0, b"t", b"{}", None, 1, 2, ())
    return Job.of(
        record, partition, id=f"{partition.partition}-{offset}", tenant="t", origin=Origin("jobs.q", 0, 0, "g")
    )


class Flushes(RuleBasedStateMachine):
    """Outcomes come, transactions end one way or the other, partitions go away, come back, are lost.

    The model is what a log would hold: of each partition the offsets committed, in the order of their transactions,
    and how often each further record was written.
    """

    @initialize()
    def begin(self) -> None:
        self.partitions = [new_partition(number) for number in range(PARTITIONS)]
        self.next_offset = dict.fromkeys(range(PARTITIONS), 0)
        self.pending = Pending()
        self.committed: dict[int, list[int]] = defaultdict(list)
        self.records: Counter[str] = Counter()
        self.emitted: Counter[str] = Counter()
        self.sent_emitted = 0
        self.refused: set[Outcome] = set()
        self.all: list[Outcome] = []

    @rule(number=st.integers(0, PARTITIONS - 1), more=st.integers(0, 3), is_moved=st.booleans())
    def an_outcome_comes(self, number: int, more: int, is_moved: bool) -> None:
        partition = self.partitions[number]
        if partition.standing is not Standing.OWNED:
            return
        offset = self.next_offset[number]
        self.next_offset[number] += 1
        partition.window.take(offset)
        outcome = Outcome.of(new_job(partition, offset), State.SUCCEEDED, 1, finishes=True)
        outcome.job.is_over = True
        outcome.add_records(Outgoing("jobs.next", 0, f"{outcome.job.id}-{n}".encode(), b"") for n in range(more))
        outcome.topic = "retry.q.g" if is_moved else None
        self.all.append(outcome)
        self.pending = self.pending + Pending([outcome])

    @rule(number=st.integers(0, PARTITIONS - 1))
    def a_job_starts(self, number: int) -> None:
        partition = self.partitions[number]
        if partition.standing is Standing.OWNED:
            self.pending = self.pending + Pending((), [new_job(partition, 10_000)])

    @rule()
    def a_record_is_emitted(self) -> None:
        self.sent_emitted += 1
        self.pending = self.pending + Pending((), (), [Outgoing("t", 0, b"%d" % self.sent_emitted, b"")])

    @rule(
        verdict=st.sampled_from(["committed", "aborted", "refused"]),
        ready=st.sets(st.integers(0, PARTITIONS - 1), min_size=1),
        data=st.data(),
    )
    def a_transaction_ends(self, verdict: str, ready: set[int], data: st.DataObject) -> None:
        pending = settle(self.pending)
        held = {self.partitions[number] for number in ready}
        now, later = cut(pending, LIMIT, held)
        size = sum(1 + (o.topic is not None) + len(o.more) for o in now.outcomes) + len(now.started) + len(now.emitted)
        assert size <= LIMIT or now.count == 1, "transactions are bounded"
        assert all(outcome.job.partition in held for outcome in now.outcomes)
        assert now.count + later.count == pending.count
        if held == set(self.partitions) and pending.count:
            assert now.count, "there is progress"
        delivered = self._end(verdict, now, later, data)
        for partition, offsets in finishing(Pending(delivered.durable)).items():
            partition.window.finish_many(offsets)
        self.pending = delivered.again

    def _end(self, verdict: str, now: Pending, later: Pending, data: st.DataObject) -> Delivered:
        if verdict == "committed":
            for outcome in now.outcomes:
                self.committed[outcome.job.partition.partition].append(outcome.job.offset)
                self.records.update((record.key or b"").decode() for record in outcome.more)
            self.emitted.update((record.key or b"").decode() for record in now.emitted)
            return after_commit(now, later)
        if verdict == "refused" and now.outcomes:
            bad = data.draw(st.sampled_from(now.outcomes))
            self.refused.add(bad)
            delivered = after_refusal(now, later, outcomes={bad}, jobs=set(), emitted=set())
            assert bad not in delivered.again.outcomes
            return delivered
        return after_abort(now, later)

    @rule(number=st.integers(0, PARTITIONS - 1), is_back=st.booleans())
    def a_partition_goes_away(self, number: int, is_back: bool) -> None:
        partition = self.partitions[number]
        partition.standing = Standing.REVOKED
        self.pending = settle(self.pending)
        assert all(outcome.job.partition is not partition for outcome in self.pending.outcomes)
        if is_back:
            partition.standing = Standing.OWNED
            held, partition.held = partition.held, []
            self.pending = self.pending + Pending(held)
            return
        # Another member has it now and runs what was not committed; then it comes here again, as a new one.
        partition.standing = Standing.LOST
        partition.held = []
        self.next_offset[number] = max(self.committed[number], default=-1) + 1
        self.all = [outcome for outcome in self.all if outcome.job.partition is not partition]
        self.partitions[number] = new_partition(number)
        self.partitions[number].restart(self.next_offset[number])

    @invariant()
    def nothing_is_written_twice_and_order_holds(self) -> None:
        for offsets in getattr(self, "committed", {}).values():
            assert offsets == sorted(set(offsets))
        assert all(count == 1 for count in getattr(self, "records", Counter()).values())
        assert all(count == 1 for count in getattr(self, "emitted", Counter()).values())

    @invariant()
    def an_outcome_is_done_refused_or_still_to_be_written(self) -> None:
        for outcome in getattr(self, "all", []):
            partition, offset = outcome.job.partition, outcome.job.offset
            is_done = offset in self.committed[partition.partition]
            waits = outcome in self.pending.outcomes or outcome in partition.held
            assert is_done + waits + (outcome in self.refused) == 1
            assert partition.window.is_unfinished(offset) is not is_done

    @invariant()
    def emitted_records_are_written_or_wait(self) -> None:
        if hasattr(self, "pending"):
            assert len(self.emitted) + len(self.pending.emitted) == self.sent_emitted


Flushes.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestFlushes = Flushes.TestCase


def test_an_outcome_with_more_records_than_a_transaction_takes_goes_alone() -> None:
    partition = new_partition(0)
    outcomes = []
    for offset in range(3):
        partition.window.take(offset)
        outcomes.append(Outcome.of(new_job(partition, offset), State.SUCCEEDED, 1, finishes=True))
    outcomes[1].add_records(Outgoing("jobs.next", 0, b"k", b"") for _ in range(LIMIT * 10))
    rest = Pending(outcomes)
    sizes = []
    while rest.count:
        now, rest = cut(rest, LIMIT, {partition})
        sizes.append(len(now.outcomes))
    assert sizes == [1, 1, 1]


def test_outcomes_of_a_partition_whose_position_is_not_known_wait_and_hold_up_nobody_else() -> None:
    known, unknown = new_partition(0), new_partition(1)
    outcomes = [
        Outcome.of(new_job(partition, offset), State.SUCCEEDED, 1, finishes=True)
        for offset in range(2)
        for partition in (unknown, known)
    ]
    now, later = cut(Pending(outcomes), LIMIT, {known})
    assert [outcome.job.partition for outcome in now.outcomes] == [known, known]
    assert [outcome.job.offset for outcome in later.outcomes] == [0, 1]


def test_after_an_abort_nothing_is_written_that_another_owner_has_finished_meanwhile() -> None:
    partition = new_partition(0)
    outcomes = [Outcome.of(new_job(partition, offset), State.SUCCEEDED, 1, finishes=True) for offset in range(2)]
    partition.window.take(1)  # offset 0 was finished elsewhere: the window begins behind it
    delivered = after_abort(Pending(outcomes), Pending())
    assert [outcome.job.offset for outcome in delivered.again.outcomes] == [1]


def test_what_a_running_job_reports_of_itself_is_no_retry_that_a_commit_names() -> None:
    job = new_job(new_partition(0), 3)
    report, retry = (Outcome.of(job, state, 1, finishes=False) for state in (State.RUNNING, State.RETRYING))
    retry.due_ms = 5_000
    assert retrying(Pending([report])) == {}
    assert [one.offset for one in retrying(Pending([report, retry]))[job.partition]] == [3]
