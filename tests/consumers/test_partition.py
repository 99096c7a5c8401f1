"""A partition that comes back after a rebalance: what was finished here or there is finished, what runs goes on."""

from __future__ import annotations

from aiokafka.structs import ConsumerRecord
from logqueue_consumers.commits.offset_map import Run
from logqueue_consumers.job import Job
from logqueue_consumers.partitions.partition import OwnedPartition, Standing
from logqueue_consumers.partitions.window import PartitionWindow

from logqueue.jobs.headers import Origin
from logqueue.jobs.topics import TopicKind


def partition_at(base: int, taken: int) -> OwnedPartition:
    partition = OwnedPartition(
        "jobs.q", 0, kind=TopicKind.JOBS, queue="q", order="tenant", window=PartitionWindow(base)
    )
    for offset in range(base, base + taken):
        partition.window.take(offset)
    partition.standing = Standing.REVOKED
    partition.is_stopping = True
    return partition


def job_at(partition: OwnedPartition, offset: int) -> Job:
    record = ConsumerRecord("jobs.q", 0, offset, 0, 0, b"t", b"{}", None, 1, 2, ())
    job = Job.of(record, partition, id=f"j{offset}", tenant="t", origin=Origin("jobs.q", 0, offset, "g"))
    job.lane = "t"
    return job


def test_a_running_job_keeps_running_and_its_record_is_not_begun_again() -> None:
    partition = partition_at(10, 5)
    running = job_at(partition, 12)
    partition.committed = (10, "")
    assert partition.reopen(10, (), running=[running], ended=()) == set()
    assert partition.standing is Standing.OWNED
    assert partition.carried == {12: running}
    assert not partition.lanes.enter("t", job_at(partition, 10)), "it keeps its lane"
    partition.window.remember(12)
    assert [offset for offset in range(10, 15) if partition.window.take(offset)] == [10, 11, 13, 14]


def test_what_was_finished_here_stays_finished_though_the_commit_was_lost() -> None:
    partition = partition_at(10, 5)
    partition.window.finish_many([10, 11, 13])
    partition.committed = (10, "")
    partition.reopen(10, (), running=(), ended=())
    assert partition.window.base == 12
    assert [offset for offset in range(12, 16) if partition.window.take(offset)] == [12, 14, 15]


def test_a_job_that_another_member_finished_is_given_up() -> None:
    partition = partition_at(10, 5)
    below, above, own = job_at(partition, 11), job_at(partition, 14), job_at(partition, 13)
    partition.committed = (10, "")
    gone = partition.reopen(12, [Run(14, 15)], running=[below, own], ended=[above])
    assert gone == {below, above}
    assert partition.carried == {13: own}


def test_an_operator_who_moved_the_group_back_is_obeyed() -> None:
    partition = partition_at(100, 5)
    partition.window.finish_many(range(100, 105))
    partition.committed = (105, "")
    partition.reopen(20, (), running=(), ended=())
    assert partition.window.base == 20
    assert partition.window.take(100)
