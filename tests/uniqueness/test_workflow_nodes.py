"""Nodes of workflows are not taken for doubles of what came under their id: their owner puts each on the log once."""

from __future__ import annotations

from typing import Any

import pytest
from logqueue_consumers.gates import Finish
from logqueue_consumers.intake.job_reader import JobReader
from logqueue_consumers.outcome import LiveRules
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.uniqueness.gate import UniqueGate

from logqueue import App
from logqueue.clock import ManualClock
from logqueue.jobs.errors import InvalidDefinition
from logqueue.jobs.flow_records import node_job_id, workflow_header
from logqueue.jobs.topics import TopicKind, TopicNames
from tests.consumers.test_coming_back import Record


def unused(*_: Any) -> None:
    raise AssertionError("no place is asked for")


def test_a_node_whose_workflow_has_an_id_that_was_used_before_runs() -> None:
    app = App("shop")

    @app.job("work", queue="q")
    async def work() -> None: ...

    partition = OwnedPartition("jobs.q", 0, kind=TopicKind.JOBS, queue="q", order="none", window=PartitionWindow(0))
    rules = LiveRules(TopicNames(), "shop")
    gate = UniqueGate(
        rules, TopicNames(), "shop", clock=ManualClock(), load=unused, recheck=unused, replaced=unused, first_use=unused
    )
    reader = JobReader(app, "shop")
    node = (("ce_type", b"work"), ("ce_id", node_job_id("weekly", "a").encode()))
    header = ("job-workflow", workflow_header("weekly", "a", "shop"))
    for offset, value in enumerate([b"{}", b"{}", b'{ "other": 1 }']):
        job = reader.read(Record(offset, value, headers=(*node, header)), partition)
        assert gate.check(job) is None
    alone = [reader.read(Record(offset, headers=node), partition) for offset in (7, 8)]
    assert [type(gate.check(job)) for job in alone] == [type(None), Finish], "other records have no owner"


def test_no_two_nodes_of_any_workflows_share_a_job_id() -> None:
    app = App("shop")

    @app.job("work", queue="q")
    async def work() -> None: ...

    with pytest.raises(InvalidDefinition, match="not of the form"):
        app.workflow("w").add("b.c", work.prepare())
