"""Whose job a record is: what its key says, to the worker that runs it and to the view that shows it."""

from __future__ import annotations

import pytest
from aiokafka.structs import ConsumerRecord
from logqueue_consumers.intake.job_reader import JobReader
from logqueue_consumers.partitions.partition import OwnedPartition
from logqueue_consumers.partitions.window import PartitionWindow
from logqueue_consumers.view.records import read_tenant

from logqueue import App
from logqueue.jobs.topics import TopicKind

app = App("shop")


@app.job("charge", queue="q")
async def charge() -> None:
    raise AssertionError("never run")


@pytest.mark.parametrize(("key", "tenant"), [(None, "default"), (b"", "default"), (b"acme", "acme")])
def test_worker_and_view_find_the_same_tenant_in_a_key(key: bytes | None, tenant: str) -> None:
    partition = OwnedPartition("jobs.q", 0, kind=TopicKind.JOBS, queue="q", order="tenant", window=PartitionWindow(0))
    record = ConsumerRecord("jobs.q", 0, 0, 1_000, 0, key, b"{}", None, 1, 2, (("ce_type", b"charge"),))
    job = JobReader(app, "shop").read(record, partition)
    assert (job.problem, job.tenant, job.lane) == (None, tenant, tenant)
    assert read_tenant(key) == tenant
