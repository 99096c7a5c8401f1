"""A group under any sequence of requests, failures and crashes, next to a plain model of what must hold."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from logqueue.errors import ErrorCode
from tests.group.shell import REBALANCE_MS, SESSION_MS, Shell, subscription

SLOTS = st.integers(0, 3)
INSTANCES = (None, None, "one", "two")
PROTOCOLS = st.sampled_from(
    [
        {"range": subscription("t")},
        {"range": subscription("t", "u")},
        {"sticky": subscription("u"), "range": subscription("u")},
    ]
)
POSITIONS = st.sampled_from([("t", 0), ("t", 1), ("u", 0)])
# New members may join as late as this, and the sync of a generation ends as late as that.
BOUND = (2 * REBALANCE_MS + SESSION_MS) / 1000


class Group(RuleBasedStateMachine):
    """Four clients that join, sync, commit, leave and vanish in any order, valid or not."""

    def __init__(self) -> None:
        super().__init__()
        self.shell = Shell(properties={"group.initial.rebalance.delay.ms": "500"})
        self.ids = [""] * 4
        self.generations = [-1] * 4
        self.committed: dict[tuple[str, int], int] = {}
        self.commits: dict[int, tuple[tuple[str, int], int]] = {}
        self.joins: dict[int, int] = {}  # token -> slot
        self.seen: set[int] = set()

    # What clients do

    @rule(slot=SLOTS, protocols=PROTOCOLS, keeps_id=st.booleans())
    def join(self, slot: int, protocols: dict[str, bytes], keeps_id: bool) -> None:
        member_id = self.ids[slot] if keeps_id else ""
        token = self.shell.join(member_id, instance=INSTANCES[slot], protocols=protocols, version=9)
        self.joins[token] = slot

    @rule(slot=SLOTS)
    def sync(self, slot: int) -> None:
        everyone = {member_id: member_id.encode() for member_id in self.ids if member_id}
        self.shell.sync(self.ids[slot], self.generations[slot], everyone, instance=INSTANCES[slot])

    @rule(slot=SLOTS)
    def heartbeat(self, slot: int) -> None:
        self.shell.heartbeat(self.ids[slot], self.generations[slot], instance=INSTANCES[slot])

    @rule(slot=SLOTS)
    def leave(self, slot: int) -> None:
        self.shell.leave((self.ids[slot], INSTANCES[slot]))

    @rule(slot=SLOTS, position=POSITIONS, offset=st.integers(0, 1000))
    def commit(self, slot: int, position: tuple[str, int], offset: int) -> None:
        token = self.shell.commit(
            {position: offset},
            member_id=self.ids[slot],
            generation=self.generations[slot],
            instance=INSTANCES[slot],
        )
        self.commits[token] = (position, offset)

    @rule()
    def delete(self) -> None:
        token = self.shell.delete_groups("g")
        if not self.shell.is_parked(token) and self.shell.replies[token].results[0].error_code == ErrorCode.NONE:
            self.committed.clear()

    @rule(slots=st.sets(SLOTS, min_size=1))
    def work_together(self, slots: set[int]) -> None:
        """These clients follow the protocol until they have their assignments."""
        for _ in range(2):
            for slot in slots:
                self.join(slot, {"range": subscription("t")}, True)
                self.take_note()
        self.wait(1.0)
        self.take_note()
        for slot in slots:
            self.sync(slot)

    # What the world does

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.shell.advance(seconds)

    @precondition(lambda self: not self.shell.holds_appends and not self.shell.held)
    @rule()
    def stall_the_disk(self) -> None:
        self.shell.holds_appends = True

    @precondition(lambda self: self.shell.held)
    @rule()
    def fail_the_disk(self) -> None:
        self.shell.fail()

    @precondition(lambda self: self.shell.holds_appends)
    @rule()
    def heal_the_disk(self) -> None:
        self.shell.holds_appends = False
        self.shell.settle()

    @precondition(lambda self: not self.shell.held)
    @rule()
    def crash(self) -> None:
        before = self.shell.describe()
        self.shell = self.shell.restarted()
        self.joins.clear()
        self.commits.clear()
        self.seen.clear()
        after = self.shell.describe()
        assert after.group_state in ("Empty", "Stable", "Dead"), "a rebalance does not survive"
        if before.group_state == "Stable":
            assert after == before

    @rule()
    def nobody_is_kept_waiting(self) -> None:
        self.heal_the_disk()
        self.take_note()
        asked = set(self.shell.asked)
        self.shell.advance(BOUND)
        waiting = {token for token in asked if self.shell.is_parked(token)}
        assert not waiting

    # What must hold

    @invariant()
    def take_note(self) -> None:
        """Clients read their answers; the model counts what it was promised."""
        for token in sorted(self.shell.replies.keys() - self.seen):
            self.seen.add(token)
            answer = self.shell.replies[token]
            if token in self.joins:
                self._joined(self.joins[token], answer)
            elif token in self.commits and answer.topics[0].partitions[0].error_code == ErrorCode.NONE:
                position, offset = self.commits[token]
                self.committed[position] = offset
            elif hasattr(answer, "results") and answer.results[0].error_code == ErrorCode.NONE:
                self.committed.clear()

    def _joined(self, slot: int, answer: Any) -> None:
        if answer.error_code in (ErrorCode.NONE, ErrorCode.MEMBER_ID_REQUIRED):
            self.ids[slot] = answer.member_id
            self.generations[slot] = answer.generation_id
        elif answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
            self.ids[slot] = ""

    @invariant()
    def a_fetch_shows_what_was_promised_and_nothing_else(self) -> None:
        self.take_note()
        if self.shell.describe().group_state != "Dead":
            assert self.shell.offsets() == self.committed

    @invariant()
    def the_members_of_a_generation_agree_on_it(self) -> None:
        answers = [
            self.shell.replies[token]
            for token in self.joins
            if token in self.shell.replies and self.shell.replies[token].error_code == ErrorCode.NONE
        ]
        for answer in answers:
            if answer.members and not answer.skip_assignment:
                told = {member.member_id for member in answer.members}
                assert answer.leader == answer.member_id
                assert answer.leader in told


GroupCase = Group.TestCase
GroupCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
