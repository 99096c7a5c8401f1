"""When the loop waits for the disk itself: a quick disk, and nobody else there."""

from __future__ import annotations

from typing import Any, cast

import pytest

from logqueue.broker.deadlines import Deadlines
from logqueue.broker.partitions.flushing import FlushThreads
from logqueue.broker.partitions.group_commit import GroupCommit
from logqueue.broker.partitions.in_loop import MAX_FAILURES, SLOW_SECONDS, InLoop
from logqueue.broker.partitions.partition import Partition
from logqueue.config import LogConfig
from logqueue.errors import ErrorCode, KafkaError
from logqueue.ids import TopicPartition
from logqueue.storage.errors import StorageError
from tests.simulation.world import Loop, World


def allows(policy: InLoop, *, files: int = 1, is_quick: bool = True, events: int = 1, waiting: int = 1) -> bool:
    return policy.allows(files=files, is_quick=is_quick, events=events, waiting=waiting)


def test_a_quick_round_of_all_who_are_there_is_waited_for() -> None:
    assert allows(InLoop(), events=2, waiting=2)
    assert allows(InLoop(), events=0, waiting=1)  # an answer has brought it, not a request


def test_several_files_or_slow_ones_are_not_and_none_where_others_are_served() -> None:
    assert not allows(InLoop(), files=2)
    assert not allows(InLoop(), is_quick=False)
    assert not allows(InLoop(), events=2, waiting=1)


def pause(policy: InLoop) -> int:
    """Rounds until the next one that is allowed."""
    count = 0
    while not allows(policy):
        count += 1
    return count


@pytest.mark.parametrize("is_slow", [True, False])
def test_threads_have_the_rounds_after_a_mistake_and_ever_more_of_them(is_slow: bool) -> None:
    policy = InLoop()
    assert allows(policy)
    for failures in range(1, MAX_FAILURES + 3):
        if is_slow:
            policy.after_round(SLOW_SECONDS * 2)
        else:
            policy.after_round(SLOW_SECONDS)
            policy.end_turn(events=2, waiting=1)
        assert pause(policy) == 2 ** min(failures, MAX_FAILURES)
    policy.end_turn(events=1, waiting=1)  # nobody else came
    assert allows(policy)
    policy.after_round(SLOW_SECONDS * 2)
    assert pause(policy) == 2


class Disk:
    """A log whose flush is counted, and may fail."""

    log_end_offset = durable_offset = 0

    def __init__(self) -> None:
        self.flushes = 0
        self.failure: KafkaError | None = None

    def start_flush(self) -> None:
        pass

    def flush(self) -> None:
        self.flushes += 1
        if self.failure is not None:
            raise self.failure


class Room:
    """Group commit on a loop whose time is ours, with one partition, on a disk that is known to be quick."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(FlushThreads, "is_quick", True)
        self.world = World(0)
        loop = Loop(self.world).as_loop
        deadlines = Deadlines(loop, after_wake=lambda: self.commit.start_round())
        self.commit = GroupCommit(loop, deadlines, after_round=lambda: self.commit.start_round())
        self.disk = Disk()
        self.partition = Partition(TopicPartition("t", 0), cast(Any, self.disk), LogConfig())
        self.answers: list[KafkaError | None] = []

    def append(self) -> None:
        base, self.disk.log_end_offset = self.disk.log_end_offset, self.disk.log_end_offset + 1
        assert self.commit.settle(self.partition, base, base + 1, 100, True)
        self.commit.on_durable(self.answers.append)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(monkeypatch)


def test_the_answer_comes_after_the_fsync_and_in_a_later_turn(room: Room) -> None:
    room.append()
    assert not room.disk.flushes
    room.commit.start_round(1)
    assert room.disk.flushes == 1
    assert room.answers == []
    assert room.partition.high_watermark == 0
    room.append()  # while the answer is on its way: it was not in the round
    room.world.run(room.world.now)
    assert room.answers[0] is None
    assert room.partition.high_watermark >= 1
    assert room.disk.flushes == len(room.answers) == 2
    room.commit.close()


def test_what_the_disk_refuses_is_told_to_who_waits(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.disk.failure = StorageError("gone")
    room.append()
    room.commit.start_round(1)
    room.world.run(room.world.now)
    (failure,) = room.answers
    assert failure is not None
    assert failure.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert room.partition.high_watermark == 0
    assert "writes are refused from now on" in caplog.text
    room.commit.close()
