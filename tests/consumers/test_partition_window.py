"""A partition's window against a plain model: commits never skip an unfinished offset, maps never exceed the limit."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from logqueue_consumers.commits.offset_map import METADATA_LIMIT_BYTES, decode, encode
from logqueue_consumers.partitions.window import SPAN_LIMIT, PartitionWindow


class Ownership(RuleBasedStateMachine):
    """Owners take, finish, commit and hand over (crash) one partition; the log has holes."""

    def __init__(self) -> None:
        super().__init__()
        self.window = PartitionWindow(0)
        self.position = 0
        self.running: list[int] = []
        self.finished: set[int] = set()
        self.delivered: set[int] = set()
        self.committed = (0, "")
        self.finished_at_commit: set[int] = set()

    @initialize(holes=st.sets(st.integers(0, 200)))
    def log_with_holes(self, holes: set[int]) -> None:
        self.holes = holes

    @rule(count=st.integers(1, 30))
    def take(self, count: int) -> None:
        for offset in range(self.position, self.position + count):
            if offset in self.holes:
                continue
            self.delivered.add(offset)
            runs = self.window.take(offset)
            assert runs == (offset not in self.finished_at_commit), (
                "finished work never runs again, the rest always does"
            )
            if runs:
                self.running.append(offset)
        self.position += count

    @rule()
    def pass_what_is_no_record(self) -> None:
        self.window.pass_to(self.position)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.running) - 1))
        offset = self.running.pop(index)
        self.window.finish(offset)
        self.finished.add(offset)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish_many(self, data: st.DataObject) -> None:
        done = set(data.draw(st.lists(st.sampled_from(self.running), unique=True)))
        self.window.finish_many(done)
        self.finished |= done
        self.running = [offset for offset in self.running if offset not in done]

    @rule()
    def commit(self) -> None:
        self.committed = self.window.commit()
        self.finished_at_commit = set(self.finished)

    @rule()
    def crash_and_hand_over(self) -> None:
        base, text = self.committed
        self.window = PartitionWindow(base, decode(text, base=base))
        self.position = base
        self.running = []
        self.finished = set(self.finished_at_commit)

    @invariant()
    def everything_below_the_commit_is_finished_and_the_commit_is_not(self) -> None:
        offset = self.window.commit_offset()
        known = self.finished | self.finished_at_commit
        assert all(low in known for low in self.delivered if low < offset)
        assert offset not in known or offset not in self.delivered

    @invariant()
    def the_map_says_exactly_what_is_finished(self) -> None:
        base, text = self.window.commit()
        mapped = {offset for run in decode(text, base=base) for offset in range(run.start, run.end)}
        known = self.finished | self.finished_at_commit
        assert {offset for offset in self.delivered if offset > base and offset in known} <= mapped
        assert not mapped & set(self.running)


TestOwnership = Ownership.TestCase
TestOwnership.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1), st.booleans()), max_size=12), st.integers())
@settings(max_examples=15, deadline=None)
def test_intake_within_room_keeps_every_later_map_below_the_limit(
    steps: list[tuple[int, float, bool]], seed: int
) -> None:
    random = Random(seed)
    window = PartitionWindow(5)
    position, running = 5, []
    for want, share, keep_head in steps:
        for _ in range(min(want * 10, window.room(100_000))):
            window.take(position)
            running.append(position)
            position += 1
        done = [offset for offset in running if random.random() < share]
        if keep_head and running and running[0] in done:
            done.remove(running[0])
        window.finish_many(done)
        running = sorted(set(running) - set(done))
        base, text = window.commit()
        assert len(text) <= METADATA_LIMIT_BYTES
        finished = {offset for run in decode(text, base=base) for offset in range(run.start, run.end)}
        assert not finished & set(running)
        assert finished == set(range(base, position)) - set(running), "nothing was left out"


def test_one_stuck_job_lets_the_rest_of_the_partition_flow() -> None:
    window = PartitionWindow(0)
    window.take(0)
    for offset in range(1, 60_001):
        assert window.room(1_000) > 0
        assert window.take(offset)
        window.finish(offset)
    assert window.commit_offset() == 0
    assert len(window.commit()[1]) < 40


def test_intake_stops_when_unfinished_offsets_could_outgrow_the_map() -> None:
    window = PartitionWindow(0)
    offset = 0
    while window.room(10**9):
        window.take(offset)
        offset += 1
    assert SPAN_LIMIT * 0.95 <= offset <= SPAN_LIMIT
    window.finish_many(range(1, offset, 2))
    assert len(window.commit()[1]) <= METADATA_LIMIT_BYTES * 0.76


def test_waiting_offsets_in_one_stretch_do_not_stop_intake() -> None:
    window = PartitionWindow(0)
    for offset in range(5_000):
        window.take(offset)
        window.wait(offset)
    for offset in range(5_000, SPAN_LIMIT + 5_000):
        assert window.room(100) > 0
        window.take(offset)
        window.finish(offset)
    assert window.waiting_count == 5_000
    assert window.commit_offset() == 0


def test_a_record_delivered_twice_is_taken_once() -> None:
    window = PartitionWindow(3)
    assert not window.take(2)
    assert window.take(3)
    assert not window.take(3)


def test_offsets_that_are_never_delivered_count_as_finished() -> None:
    window = PartitionWindow(0)
    for offset in (4, 6, 9):
        window.take(offset)
    window.finish(6)
    assert window.commit_offset() == 4
    window.finish(4)
    assert window.commit_offset() == 9


def test_what_lies_behind_the_last_record_and_is_none_counts_as_finished_once_it_was_passed() -> None:
    window = PartitionWindow(0)
    window.take(0)
    window.take(1)
    window.finish(1)
    window.pass_to(4)
    assert window.commit_offset() == 0
    assert [tuple(run) for run in window.finished_runs()] == [(1, 4)]
    window.finish(0)
    assert window.commit() == (4, "")
    window.pass_to(2)
    assert window.high == 4, "it never goes back"
    assert window.take(4)
    assert window.commit_offset() == 4


def test_a_map_read_back_survives_commits_made_before_its_offsets_are_delivered_again() -> None:
    before = PartitionWindow(0)
    for offset in range(100):
        before.take(offset)
    before.finish_many(range(50, 80))
    base, text = before.commit()
    after = PartitionWindow(base, decode(text, base=base))
    assert after.take(0)
    after.finish(0)
    base, text = after.commit()
    assert base == 1
    assert [tuple(run) for run in decode(text, base=base)] == [(50, 80)]


def test_an_empty_window_commits_its_base() -> None:
    assert PartitionWindow(7).commit() == (7, "")
    assert encode(7, []) == ""
