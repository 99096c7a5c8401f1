"""What intake counts as passed: nothing that was fetched and is not in hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from logqueue_consumers.dispatch.window_share import WindowShare
from logqueue_consumers.intake.intake import Intake
from logqueue_consumers.limits import WorkerLimits
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow

from logqueue.clock import ManualClock
from logqueue.jobs.topics import TopicKind


def intake() -> Intake:
    return Intake(
        SimpleNamespace(read=None),  # type: ignore[arg-type]
        limits=WorkerLimits(),
        clock=ManualClock(),
        route=lambda job: None,
        is_shadow=False,
    )


@pytest.fixture
def partition() -> OwnedPartition:
    return OwnedPartition("jobs.q", 0, kind=TopicKind.JOBS, queue="q", order="tenant", window=PartitionWindow(3))


def test_where_fetching_goes_on_is_where_commits_go(partition: OwnedPartition) -> None:
    intake().passed(partition, 9)
    assert partition.window.commit_offset() == 9


def test_records_fetched_and_not_taken_are_not_passed(partition: OwnedPartition) -> None:
    partition.backlog.append(SimpleNamespace(offset=5))
    intake().passed(partition, 9)
    assert partition.window.commit_offset() == 3


def test_a_partition_that_stops_passes_nothing_since_what_it_is_given_is_dropped(partition: OwnedPartition) -> None:
    partition.is_stopping = True
    intake().passed(partition, 9)
    assert partition.window.commit_offset() == 3


def test_what_was_dropped_to_be_fetched_again_is_not_passed(partition: OwnedPartition) -> None:
    partition.seek_to = 3
    intake().passed(partition, 9)
    assert partition.window.commit_offset() == 3


def test_while_what_is_aside_is_read_again_the_position_says_nothing(partition: OwnedPartition) -> None:
    partition.share = share = WindowShare(limit=100, since=3, keeps_order=True, now_s=0.0)
    share.is_back = True
    intake().passed(partition, 9)
    assert partition.window.commit_offset() == 3


def test_a_replay_passes_nothing_behind_its_end(partition: OwnedPartition) -> None:
    partition.end = 7
    intake().passed(partition, 9)
    assert partition.window.commit_offset() == 7


def test_what_a_failed_fetch_lost_is_fetched_again_from_the_front(partition: OwnedPartition) -> None:
    assert intake().fetch_again(partition) == 3
    partition.share = share = WindowShare(limit=100, since=3, keeps_order=True, now_s=0.0)
    share.is_back = True
    assert intake().fetch_again(partition) == 3
    assert not share.is_back, "what is aside is read again later: the reading of it has lost its place"
