"""Shares of a window against a plain log: everything is taken once, in each tenant's order, within the shares."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from logqueue_consumers.commits.offset_map import Run
from logqueue_consumers.dispatch.window_share import BARREN_S, FRONT_EVERY_S, FRONT_FOR_S, MIN_STALLED, WindowShare
from logqueue_consumers.partitions.window import PartitionWindow

LIMIT = 256


class SharedWindowMachine(RuleBasedStateMachine):
    """A log of records of few tenants, read through a shared window as intake reads it; jobs end in any order."""

    keeps_order = True

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.log: list[str] = []
        self.window = PartitionWindow(0)
        self.share = WindowShare(limit=LIMIT, since=0, keeps_order=self.keeps_order, now_s=0.0)
        self.position = 0
        self.in_hand: list[int] = []
        self.finished: set[int] = set()
        self.taken: dict[str, list[int]] = {}
        self.blocked: set[str] = set()

    @rule(tenant=st.sampled_from("abc"), count=st.integers(1, 150))
    def records_come(self, tenant: str, count: int) -> None:
        self.log += [tenant] * count

    @rule(count=st.integers(1, 200))
    def some_are_read(self, count: int) -> None:
        at = self.share.turn(self.window.high, self.now_s, has_front_room=self.window.room(LIMIT) > 0)
        if at is not None:
            self.position = at
        for offset in range(self.position, min(self.position + count, len(self.log))):
            if len(self.in_hand) >= LIMIT:
                return
            if self.share.is_back and not self.share.goes_on_back(self.now_s):
                if not self.share.may_wait_back(self.now_s):
                    self.position = self.share.reached_front(self.window.high, self.now_s)
                return
            self.position = offset + 1
            tenant, is_blocked = self.log[offset], self.log[offset] in self.blocked
            if not self.share.is_back:
                if not self.window.take(offset):
                    continue
                if self.share.admits(tenant, is_blocked=is_blocked):
                    self.share.came(tenant, offset, is_blocked=is_blocked)
                    self.hold(tenant, offset)
                else:
                    self.window.put_aside(offset)
                    self.share.put_aside(tenant, offset)
            elif offset >= self.window.high:
                self.position = self.share.reached_front(self.window.high, self.now_s)
                return
            else:
                if self.window.is_aside(offset) and self.share.admits(tenant, is_blocked=is_blocked):
                    self.window.take_again(offset)
                    self.share.came_again(tenant, offset, is_blocked=is_blocked)
                    self.hold(tenant, offset)
                self.share.read_to = offset + 1

    def hold(self, tenant: str, offset: int) -> None:
        self.in_hand.append(offset)
        self.taken.setdefault(tenant, []).append(offset)

    @rule(count=st.integers(1, 100), data=st.data())
    def some_end(self, count: int, data: st.DataObject) -> None:
        for _ in range(min(count, len(self.in_hand))):
            offset = self.in_hand.pop(data.draw(st.integers(0, min(3, len(self.in_hand) - 1))))
            self.finished.add(offset)
            self.window.finish(offset)
            self.share.finished(self.log[offset], offset)

    @rule(seconds=st.sampled_from([FRONT_FOR_S, FRONT_EVERY_S, BARREN_S]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(tenant=st.sampled_from("abc"))
    def a_tenant_is_blocked_or_not(self, tenant: str) -> None:
        self.blocked ^= {tenant}
        self.share.commands_changed()

    @invariant()
    def a_tenants_records_are_taken_once_and_in_order(self) -> None:
        for offsets in self.taken.values():
            assert len(offsets) == len(set(offsets))
            assert offsets == sorted(offsets) or not self.keeps_order

    @invariant()
    def the_commit_knows_what_is_finished(self) -> None:
        base = self.window.commit_offset()
        runs = self.window.finished_runs()
        known = {*range(base), *(offset for run in runs for offset in range(*run))}
        assert known == self.finished
        assert runs == sorted(runs) and all(isinstance(run, Run) and run.start > base for run in runs)

    @invariant()
    def nobody_has_more_than_a_share(self) -> None:
        for tenant in "abc":
            held = sum(self.log[offset] == tenant for offset in self.in_hand)
            assert held <= max(MIN_STALLED, LIMIT * 3 // 8)

    def teardown(self) -> None:
        """Everything is taken in the end, however it went so far."""
        self.blocked.clear()
        self.share.commands_changed()
        for _ in range(200):
            if len(self.finished) == len(self.log):
                return
            self.now_s += BARREN_S
            self.some_are_read(10_000)
            for offset in self.in_hand:
                self.finished.add(offset)
                self.share.finished(self.log[offset], offset)
            self.window.finish_many(self.in_hand)
            self.in_hand.clear()
        assert len(self.finished) == len(self.log), "nothing is forgotten"


SharedWindowMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSharedWindow = SharedWindowMachine.TestCase


class UnorderedMachine(SharedWindowMachine):
    """The same of a queue without order."""

    keeps_order = False


UnorderedMachine.TestCase.settings = SharedWindowMachine.TestCase.settings
TestSharedWindowWithoutOrder = UnorderedMachine.TestCase


def test_a_flood_that_is_put_aside_costs_one_run() -> None:
    window = PartitionWindow(0)
    for offset in range(50_000):
        assert window.take(offset)
        window.put_aside(offset)
    assert window.aside_count == 50_000
    assert window.room(8_192) > 300
    assert window.take(50_000)
    window.finish(50_000)
    assert window.commit_offset() == 0
    assert window.finished_runs() == [Run(50_000, 50_001)]
