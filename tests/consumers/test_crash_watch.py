"""Who is suspected, who runs alone, who is acquitted: the rules of a watched partition."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
from logqueue_consumers.commits.notes import MAX_NAMED, CommitNotes, Mark, Named, read_notes, write_notes
from logqueue_consumers.crashes.watch import CrashWatch, named_in, watch_for
from logqueue_consumers.job import Job
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow

from logqueue import App, Retry
from logqueue.jobs.headers import Origin
from logqueue.jobs.topics import TopicKind

app = App("shop")


@app.job("work", queue="q", retry=Retry(crashes=2))
async def work() -> None: ...


@dataclass
class Record:
    offset: int
    value: bytes = b"{}"
    key: bytes = b"t"
    timestamp: int = 0


@dataclass
class Bench:
    """One worker with one partition, taken over with some notes."""

    notes: CommitNotes
    end: int = 100
    ready: deque[Job] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.partition = OwnedPartition(
            "jobs.q", 0, kind=TopicKind.JOBS, queue="q", order="none", window=PartitionWindow(0)
        )
        self.partition.watch = watch_for(self.notes, base=0, end=self.end)
        self.crash_watch = CrashWatch(self.ready)
        self.crash_watch.add(self.partition)

    def arrive(self, *offsets: int) -> list[Job]:
        jobs = []
        for offset in offsets:
            self.partition.window.take(offset)
            job = Job.of(
                Record(offset), self.partition, id=f"j{offset}", tenant="t", origin=Origin("q", 0, offset, "g")
            )
            job.definition = work
            jobs.append(job)
            self.crash_watch.hold(job)
        return jobs

    def commit(self, *, is_handover: bool = False) -> str:
        named = named_in(self.partition.watch, base=0, is_last=is_handover)
        return write_notes("", base=0, bookmark=None if is_handover else [1], named=named)

    def finish(self, *offsets: int) -> None:
        self.partition.window.finish_many(offsets)
        self.crash_watch.finished(self.partition, offsets)


def after(commit: str) -> Bench:
    """The worker that takes over from one whose last commit was this."""
    return Bench(read_notes(commit, base=0))


CRASHED = ";b1AQ=="


def test_a_partition_given_up_in_good_order_is_not_watched() -> None:
    bench = after("")
    assert (bench.partition.watch, bench.crash_watch.is_on) == (None, False)


def test_jobs_of_a_watched_partition_start_only_after_a_commit_named_them() -> None:
    bench = after(CRASHED)
    first, second = bench.arrive(3, 4)
    assert not bench.ready
    assert bench.crash_watch.wanted.is_set()
    assert bench.crash_watch.admit() == [first, second]
    assert [job.offset for job in read_notes(bench.commit(), base=0).named] == [3, 4]
    assert not bench.ready, "the commit is on its way"
    bench.crash_watch.release([first, second])
    assert list(bench.ready) == [first, second]


def test_a_commit_that_fails_leaves_the_jobs_waiting_in_their_order() -> None:
    bench = after(CRASHED)
    jobs = bench.arrive(3, 4, 5)
    bench.crash_watch.take_back(bench.crash_watch.admit())
    assert read_notes(bench.commit(), base=0).named == ()
    assert bench.crash_watch.admit() == jobs


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_job_whose_naming_failed_after_the_watch_had_ended_starts(is_paused: bool) -> None:
    bench = Bench(read_notes(CRASHED, base=0), end=1)
    bench.arrive(0, 1, 2)
    named = bench.crash_watch.admit()
    if is_paused:
        bench.crash_watch.pause()
    bench.finish(0)
    assert bench.partition.watch is None, "all that the dead worker had is finished"
    bench.crash_watch.take_back(named[1:])
    if is_paused:
        assert not bench.ready
        bench.crash_watch.resume()
    assert list(bench.ready) == named[1:]


def test_a_suspect_whose_naming_failed_after_the_watch_had_ended_starts_when_the_others_do() -> None:
    bench = Bench(CommitNotes(map_text="", bookmark=(1,), named=(Named(3, 0, Mark.NAMED),), is_handover=False))
    (job,) = bench.arrive(3)
    bench.crash_watch.pause()
    assert bench.crash_watch.next_suspect(is_alone=True) is job
    bench.partition.watch = None  # its log began anew
    bench.crash_watch.suspect_again(job)
    assert not bench.ready
    bench.crash_watch.resume()
    assert list(bench.ready) == [job]


@pytest.mark.parametrize("is_in_the_log", [False, True])
def test_a_job_that_a_rebalance_took_while_it_was_named_is_not_started_beside_itself(is_in_the_log: bool) -> None:
    bench = after(CRASHED)
    bench.arrive(3)
    named = bench.crash_watch.admit()
    bench.partition.is_stopping = True
    bench.crash_watch.drop_stopping()
    bench.partition.reopen(0, [], running=[], ended=[])  # it came back: the record is read again
    (bench.crash_watch.release if is_in_the_log else bench.crash_watch.take_back)(named)
    assert not bench.ready


def test_as_many_jobs_are_named_as_fit_into_a_commit_and_more_when_some_are_finished() -> None:
    bench = after(CRASHED)
    bench.arrive(*range(MAX_NAMED + 5))
    assert len(bench.crash_watch.admit()) == MAX_NAMED
    assert bench.crash_watch.admit() == []
    bench.crash_watch.wanted.clear()
    bench.finish(0, 1)
    assert bench.crash_watch.wanted.is_set()
    assert [job.offset for job in bench.crash_watch.admit()] == [MAX_NAMED, MAX_NAMED + 1]


def test_a_job_that_is_held_back_takes_no_name_from_others() -> None:
    bench = after(CRASHED)
    jobs = bench.arrive(*range(MAX_NAMED + 2))
    blocked = set(jobs[:MAX_NAMED])
    named = bench.crash_watch.admit(blocked.__contains__)
    assert named == [*jobs[MAX_NAMED:], *jobs[: MAX_NAMED - 2]], "in their order; nobody else needs those names"
    assert bench.crash_watch.has_waiting()


def test_named_jobs_that_are_held_back_give_their_names_to_others() -> None:
    bench = after(CRASHED)
    jobs = bench.arrive(*range(MAX_NAMED))
    bench.crash_watch.release(bench.crash_watch.admit(lambda job: False))
    bench.ready.popleft()  # it runs
    later = bench.arrive(*range(MAX_NAMED, MAX_NAMED + 3))
    blocked = set(jobs)
    assert bench.crash_watch.admit(blocked.__contains__) == later
    kept, taken = jobs[:-3], jobs[-3:]
    assert {job.offset for job in read_notes(bench.commit(), base=0).named} == {job.offset for job in (*kept, *later)}
    bench.crash_watch.release(later)
    assert list(bench.ready) == [*kept[1:], *later]
    blocked.clear()
    assert bench.crash_watch.admit(blocked.__contains__) == []
    bench.finish(0, 1, 2)
    assert bench.crash_watch.admit(blocked.__contains__) == taken, "in their order"


def test_names_stay_where_nobody_else_could_use_them() -> None:
    bench = after(CRASHED)
    jobs = bench.arrive(*range(MAX_NAMED + 5))
    bench.crash_watch.release(bench.crash_watch.admit(lambda job: False))
    assert bench.crash_watch.admit(lambda job: True) == []
    assert list(bench.ready) == jobs[:MAX_NAMED]


def test_a_job_that_a_gate_is_asked_about_again_needs_no_second_name() -> None:
    bench = after(CRASHED)
    jobs = bench.arrive(*range(MAX_NAMED))
    bench.crash_watch.release(bench.crash_watch.admit())
    bench.ready.clear()
    for job in jobs:
        bench.crash_watch.hold(job)  # as `JobEngine.review` does
    assert bench.crash_watch.admit() == jobs


def test_a_suspect_that_loses_its_name_is_as_suspect_when_it_has_one_again() -> None:
    bench = Bench(read_notes(write_notes("", base=0, bookmark=[1], named=[Named(3, 1, Mark.ALONE)]), base=0))
    (job,) = bench.arrive(3)
    bench.crash_watch.pause()
    assert bench.crash_watch.next_suspect(is_alone=True) is job
    bench.crash_watch.let_wait(job)
    bench.crash_watch.release([job])
    bench.crash_watch.pause()
    assert read_notes(bench.commit(), base=0).named == ()
    bench.crash_watch.resume()
    assert bench.crash_watch.admit() == [job]
    assert read_notes(bench.commit(), base=0).named == (Named(3, 2, Mark.NAMED),)


def test_the_watch_ends_when_all_that_the_dead_worker_had_is_finished() -> None:
    bench = after(CRASHED)
    bench.arrive(*range(99))
    while jobs := bench.crash_watch.admit():
        bench.finish(*(job.offset for job in jobs))
    assert bench.crash_watch.is_on
    (last, beyond) = bench.arrive(99, 100)
    bench.crash_watch.release(bench.crash_watch.admit())
    bench.finish(99)
    assert (bench.partition.watch, bench.crash_watch.is_on) == (None, False)
    assert list(bench.ready) == [last, beyond]


def test_named_jobs_of_a_worker_that_ended_are_suspects_and_run_alone() -> None:
    before = after(CRASHED)
    before.arrive(3, 4)
    before.crash_watch.admit()
    bench = after(before.commit())
    _, suspect, other, _ = bench.arrive(2, 3, 4, 5)
    assert [job.offset for job in bench.crash_watch.admit()] == [2, 5]
    assert bench.crash_watch.has_suspects()
    bench.crash_watch.pause()
    assert bench.crash_watch.next_suspect(is_alone=True) is suspect
    assert Named(3, 1, Mark.ALONE) in read_notes(bench.commit(), base=0).named
    bench.crash_watch.acquit(suspect)
    bench.finish(3)
    assert bench.crash_watch.next_suspect(is_alone=True) is other


def test_a_suspect_that_cannot_start_is_let_wait_with_its_crashes_counted() -> None:
    bench = Bench(read_notes(write_notes("", base=0, bookmark=[1], named=[Named(3, 1, Mark.ALONE)]), base=0))
    (job,) = bench.arrive(3)
    bench.crash_watch.pause()
    assert bench.crash_watch.next_suspect(is_alone=True) is job
    bench.crash_watch.let_wait(job)
    assert read_notes(bench.commit(), base=0).named == (Named(3, 2, Mark.NAMED),)


def test_while_suspects_run_nothing_else_starts_and_nothing_else_is_named() -> None:
    bench = Bench(CommitNotes(map_text="", bookmark=(1,), named=(Named(9, 0, Mark.NAMED),), is_handover=False))
    bench.arrive(1, 2)
    bench.crash_watch.release(bench.crash_watch.admit())
    bench.arrive(9)
    bench.crash_watch.pause()
    assert not bench.ready, "what had not started waits again"
    assert {job.offset for job in read_notes(bench.commit(), base=0).named} == {9}
    suspect = bench.crash_watch.next_suspect(is_alone=True)
    assert suspect is not None
    bench.crash_watch.acquit(suspect)
    bench.crash_watch.resume()
    assert [job.offset for job in bench.crash_watch.admit()] == [1, 2]


def test_a_job_is_dead_after_the_given_number_of_ends_the_last_of_them_alone() -> None:
    """`crashes=2`: named once beside others, once alone."""
    bench = Bench(CommitNotes(map_text="", bookmark=(1,), named=(Named(3, 1, Mark.ALONE),), is_handover=False))
    (job,) = bench.arrive(3)
    assert str(bench.crash_watch.verdict(job)).startswith("2 worker processes ended while this job ran")


@pytest.mark.parametrize(("crashes", "mark"), [(5, Mark.NAMED), (0, Mark.ALONE)], ids=["never alone", "too few"])
def test_a_job_is_not_judged_before_that(crashes: int, mark: Mark) -> None:
    bench = Bench(CommitNotes(map_text="", bookmark=(1,), named=(Named(3, crashes, mark),), is_handover=False))
    (job,) = bench.arrive(3)
    assert bench.crash_watch.verdict(job) is None
    assert bench.crash_watch.has_suspects()


def test_suspects_are_remembered_through_an_orderly_end_and_named_jobs_are_not() -> None:
    before = Bench(CommitNotes(map_text="", bookmark=(1,), named=(Named(3, 0, Mark.NAMED),), is_handover=False))
    before.arrive(3, 4)
    before.crash_watch.admit()
    assert read_notes(before.commit(is_handover=True), base=0).named == (Named(3, 1, Mark.SUSPECT),)


def test_a_job_that_waits_for_its_retry_is_not_named() -> None:
    bench = after(CRASHED)
    (job,) = bench.arrive(3)
    bench.crash_watch.admit()
    bench.crash_watch.waits(job)
    assert read_notes(bench.commit(), base=0).named == ()
    bench.crash_watch.hold(job)
    assert bench.crash_watch.admit() == [job]


def test_jobs_of_partitions_that_are_not_watched_start_at_once() -> None:
    bench = after(CRASHED)
    calm = Bench(read_notes("", base=0))
    (job,) = calm.arrive(1)
    calm.ready.clear()
    bench.crash_watch.hold(job)
    assert list(bench.ready) == [job]


def test_a_partition_that_stops_gives_nothing_out() -> None:
    bench = after(CRASHED)
    jobs = bench.arrive(3, 4)
    admitted = bench.crash_watch.admit()
    bench.partition.is_stopping = True
    bench.crash_watch.drop_stopping()
    bench.crash_watch.release(admitted)
    assert admitted == jobs
    assert not bench.ready
    assert bench.crash_watch.admit() == []


def test_waiting_jobs_and_suspects_that_somebody_cancels_are_not_run_first() -> None:
    bench = after(after(CRASHED).commit())
    first, second, third = bench.arrive(3, 4, 5)
    assert bench.crash_watch.withdraw(lambda job: job in (first, third)) == [first, third]
    assert bench.crash_watch.withdraw(lambda job: job in (first, third)) == []
    assert bench.crash_watch.admit() == [second]
