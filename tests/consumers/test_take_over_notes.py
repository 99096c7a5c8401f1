"""What a take-over is told, and how far back it reads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition
from logqueue_consumers.commits.commits import REFRESH_STATUSES, Commits
from logqueue_consumers.commits.notes import Retried, read_notes
from logqueue_consumers.commits.offset_map import Run
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.status.headers import moved_from, read_move, read_record, read_waiting, waiting_header
from logqueue_consumers.status.moved import FoundMove, still_open
from logqueue_consumers.status.tail import newest
from logqueue_consumers.writing.outgoing import Outgoing
from logqueue_schemas.job_status import RANKS, State

from logqueue.jobs.headers import MOVED_FROM, Origin
from logqueue.jobs.topics import TopicKind

BUSY, IDLE = TopicPartition("jobs.q", 0), TopicPartition("retry.q.g", 0)


class Record:
    """As aiokafka gives one."""

    def __init__(self, offset: int) -> None:
        self.offset, self.key, self.value, self.timestamp = offset, b"acme", b"{}", 0


def partition_at(tp: TopicPartition) -> OwnedPartition:
    return OwnedPartition(
        tp.topic, tp.partition, kind=TopicKind.JOBS, queue="q", order="none", window=PartitionWindow(0)
    )


def outcome_of(partition: OwnedPartition, offset: int, *, at_us: int = 0) -> Outcome:
    origin = Origin(partition.topic, partition.partition, offset, "g")
    job = Job.of(Record(offset), partition, id=f"job-{offset}", tenant="acme", origin=origin)
    return Outcome.of(job, State.RETRYING, at_us, finishes=True)


class Consumer:
    """Takes commits."""

    def __init__(self) -> None:
        self.commits: list[Mapping[TopicPartition, tuple[int, str]]] = []

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        self.commits.append(offsets)


class Member:
    """What commits ask of a worker."""

    def __init__(self) -> None:
        self.ends: list[int | None] = [None, None]
        self.now_ms = 5_000
        self.consumer = Consumer()
        self.partitions = {tp: partition_at(tp) for tp in (BUSY, IDLE)}
        self.commits = Commits(
            None,  # type: ignore[arg-type]
            group="g",
            timeout_s=1.0,
            lock=asyncio.Lock(),
            status_ends=lambda: self.ends,
            unwritten_since_ms=lambda: self.now_ms,
            owner_note=None,
            pass_markers=lambda _: None,
        )
        self.commits.status_floor = [0, 0]

    def write(self, **kind: Any) -> Mapping[TopicPartition, tuple[int, str]]:
        count = len(self.consumer.commits)
        asyncio.run(self.commits.write(self.consumer, self.partitions, **kind))  # type: ignore[arg-type]
        found = self.consumer.commits[count:]
        return found[0] if found else {}


def test_an_idle_partition_is_committed_again_once_much_was_written_elsewhere() -> None:
    member = Member()
    assert set(member.write(is_first=True)) == {BUSY, IDLE}
    member.ends = [REFRESH_STATUSES // 2, REFRESH_STATUSES // 2]
    assert not member.write()
    member.ends = [REFRESH_STATUSES // 2, REFRESH_STATUSES // 2 + 1]
    assert set(member.write()) == {BUSY, IDLE}
    assert not member.write()


def test_a_commit_tells_the_time_of_the_oldest_outcome_that_it_does_not_cover() -> None:
    member = Member()
    offset, text = member.write(is_first=True)[BUSY]
    assert read_notes(text, base=offset).since_ms == 5_000
    held = member.partitions[BUSY]
    held.held.append(outcome_of(held, 3, at_us=4_000_999))
    offset, text = member.write(is_first=True)[IDLE]
    assert read_notes(text, base=offset).since_ms == 4_000


def test_a_last_commit_tells_of_no_time() -> None:
    member = Member()
    offset, text = member.write(is_last=True, is_handover=True)[BUSY]
    assert read_notes(text, base=offset).since_ms is None


def test_a_moved_record_names_the_one_that_it_replaces_to_its_own_group_only() -> None:
    outcome = outcome_of(partition_at(BUSY), 41)
    outcome.attempt = 2
    header = moved_from(outcome, group="shop/eu")
    move = read_move([("other", b"x"), header], group="shop/eu")
    assert move == (BUSY, 41, State.RETRYING, 2, RANKS[State.RETRYING])
    assert read_move([header], group="shop") is None
    assert read_move([], group="shop/eu") is None


def test_a_foreign_header_of_the_same_name_says_nothing() -> None:
    for value in (b"", b"\xff", b"jobs.q/0/1", b"jobs.q/x/1/retrying/1/4/g", b"jobs.q/0/1/unheard-of/1/4/g"):
        assert read_move([(MOVED_FROM, value)], group="g") is None


def test_only_records_that_are_not_finished_lack_their_status() -> None:
    partition = partition_at(BUSY)
    partition.window = PartitionWindow(10, [Run(12, 14)])
    status = Outgoing("jobs.status", 0, b"k", b"v")
    moves = [FoundMove(BUSY, offset, status) for offset in (9, 10, 11, 11, 12, 13, 14)]
    moves.append(FoundMove(IDLE, 20, status))
    carried = outcome_of(partition, 14).job
    partition.carried[14] = carried
    assert [move.offset for move in still_open(moves, {BUSY: partition})] == [10, 11]


def test_of_too_much_the_newest_is_read() -> None:
    stretches = {BUSY: (0, 100), IDLE: (95, 100)}
    assert newest(stretches, limit=200) == stretches
    assert newest(stretches, limit=20) == {BUSY: (90, 100), IDLE: (95, 100)}


@pytest.mark.parametrize("first_failed_ms", [None, 1_700_000_000_000])
def test_a_waiting_job_is_read_as_it_was_written(first_failed_ms: int | None) -> None:
    waits = Retried(7, 2, 1_700_000_005_000, first_failed_ms)
    _, value = waiting_header(waits, "jobs.a/b", 3)
    assert read_waiting(value) == (TopicPartition("jobs.a/b", 3), waits)


def test_a_header_that_names_no_record_says_nothing() -> None:
    for value in (None, b"", b"\xff", b"jobs.q/0", b"jobs.q/0/7x", b"jobs.q/x/7"):
        assert read_record(value) is None
    for value in (None, b"", b"\xff", b"jobs.q/0/7", b"jobs.q/0/7/2/later/0"):
        assert read_waiting(value) is None
