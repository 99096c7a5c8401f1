"""A round of fsyncs may wait for those who were just answered: when it does, for how long, and when it gives up."""

from __future__ import annotations

import pytest

from logqueue.broker.deadlines import Deadlines
from logqueue.broker.partitions.gathering import (
    MAX_FAILURES,
    MAX_SECONDS,
    SHARE_OF_ROUND,
    WORTHWHILE_SECONDS,
    Gathering,
)
from logqueue.broker.partitions.group_commit import GroupCommit
from logqueue.errors import KafkaError
from tests.simulation.world import Loop, World

SLOW = 0.002


def test_quick_rounds_are_not_waited_for() -> None:
    gathering = Gathering()
    assert gathering.after_round(answered=8, waiting=8, seconds=WORTHWHILE_SECONDS * 0.9) == 0
    assert gathering.wanted == 0


def test_a_slow_round_is_followed_by_one_that_waits_for_all_a_bounded_time() -> None:
    gathering = Gathering()
    assert gathering.after_round(answered=5, waiting=8, seconds=SLOW) == SLOW * SHARE_OF_ROUND
    assert gathering.wanted == 13
    assert gathering.after_round(answered=5, waiting=8, seconds=1.0) == MAX_SECONDS


def test_nobody_waits_for_himself() -> None:
    assert Gathering().after_round(answered=1, waiting=0, seconds=SLOW) == 0


def test_after_waiting_in_vain_ever_more_rounds_begin_at_once() -> None:
    gathering = Gathering()
    for failures in range(1, MAX_FAILURES + 3):
        assert gathering.after_round(answered=1, waiting=1, seconds=SLOW) > 0
        gathering.expire(waiting=1)
        for _ in range(2 ** min(failures, MAX_FAILURES)):
            assert gathering.after_round(answered=1, waiting=1, seconds=SLOW) == 0
    assert gathering.after_round(answered=1, waiting=1, seconds=SLOW) > 0
    gathering.met()
    assert gathering.after_round(answered=1, waiting=1, seconds=SLOW) > 0


def test_a_pause_of_all_producers_is_no_failure() -> None:
    gathering = Gathering()
    gathering.after_round(answered=2, waiting=0, seconds=SLOW)
    gathering.expire(waiting=0)
    assert gathering.after_round(answered=2, waiting=0, seconds=SLOW) > 0


class Room:
    """Group commit on a loop whose time is ours; every round is worth waiting for."""

    def __init__(self) -> None:
        self.world = World(0)
        self.loop = Loop(self.world)
        self.deadlines = Deadlines(self.loop.as_loop, after_wake=lambda: self.commit.start_round())
        self.commit = GroupCommit(
            self.loop.as_loop,
            self.deadlines,
            after_round=lambda: self.commit.start_round(),
            gathering=Gathering(worthwhile_seconds=0.0),
            is_steady=False,
        )
        self.answered: list[str] = []

    def ask(self, name: str) -> None:
        """A request that waits for the disk, at the end of a turn."""
        self.wait(name)
        self.commit.start_round()

    def wait(self, name: str) -> None:
        """A request that waits for the disk, within a turn."""

        def answer(failure: KafkaError | None) -> None:
            assert failure is None
            self.answered.append(name)

        self.commit.on_durable(answer)

    def flush(self) -> list[str]:
        """Let the round that has begun end: who is answered."""
        self.answered.clear()
        self.loop.hear_thread(0.0)
        self.world.run(self.world.now)
        return list(self.answered)


@pytest.fixture
def room() -> Room:
    return Room()


def test_producers_that_come_back_share_every_round(room: Room) -> None:
    room.ask("first")
    room.ask("second")
    assert room.flush() == ["first"]
    for _ in range(5):
        room.ask("first")  # comes back at once, and both are in the next round
        assert sorted(room.flush()) == ["first", "second"]
        room.ask("second")
    room.commit.close()


def test_a_producer_that_does_not_come_back_is_not_waited_for_longer_than_said(room: Room) -> None:
    room.ask("gone")
    room.ask("waits")
    assert room.flush() == ["gone"]
    assert room.commit.waiting == 1
    room.world.run(room.world.now + MAX_SECONDS)
    assert room.flush() == ["waits"]
    room.commit.close()


def test_a_request_that_an_answer_brings_with_it_waits_for_nobody(room: Room) -> None:
    for _ in range(3):  # a transaction: its decision is durable, so its marker is written, and so on
        room.commit.on_durable(lambda _: room.wait("marker"))
        room.commit.start_round()
        assert room.flush() == []
        assert room.flush() == ["marker"]
    room.commit.close()


def test_a_round_that_nobody_waits_for_begins_with_the_next_request(room: Room) -> None:
    room.ask("first")
    room.ask("second")
    room.flush()
    room.ask("first")
    room.flush()
    room.world.run(room.world.now + MAX_SECONDS)  # both are silent for a while
    room.ask("first")
    assert room.flush() == ["first"]
    room.commit.close()
