"""What waits for the taken places of a partition that is gone waits no more."""

from __future__ import annotations

from aiokafka.structs import ConsumerRecord
from logqueue_consumers.gates import Hold
from logqueue_consumers.intake.job_reader import JobReader
from logqueue_consumers.outcome import LiveRules
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.shard import Shard, Shards
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.uniqueness.gate import UniqueGate

from logqueue import App, Unique
from logqueue.clock import ManualClock
from logqueue.jobs.topics import TopicKind, TopicNames


def test_a_worker_that_lost_a_partition_while_its_places_were_read_reads_nothing_any_more() -> None:
    app = App("shop")

    @app.job("charge", queue="q", unique=Unique(fields=[]))
    async def charge() -> None:
        raise AssertionError("never run")

    asked: list[Shard] = []
    names, shards = TopicNames(), Shards()
    gate = UniqueGate(
        LiveRules(names, "shop"),
        names,
        "shop",
        clock=ManualClock(),
        load=asked.append,
        recheck=lambda _: None,
        replaced=lambda: None,
        first_use=lambda _: None,
    )
    partition = OwnedPartition("jobs.q", 0, kind=TopicKind.JOBS, queue="q", order="none", window=PartitionWindow(0))
    shards.join(partition, 0.0)
    record = ConsumerRecord("jobs.q", 0, 0, 1_000, 0, b"t", b"{}", None, 1, 2, (("ce_type", b"charge"),))
    verdict = gate.check(JobReader(app, "shop").read(record, partition))
    assert isinstance(verdict, Hold)
    assert gate.is_loading
    assert asked == [partition.shard]
    shards.leave(partition)
    assert not gate.is_loading
    gate.loaded(asked[0], [])
    assert not gate.is_loading
