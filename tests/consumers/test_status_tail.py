"""What a take-over reads of the status topic, whoever has written there."""

from __future__ import annotations

from aiokafka import TopicPartition
from logqueue_consumers.commits.notes import CommitNotes
from logqueue_consumers.status.headers import RECORD, WAITS
from logqueue_consumers.status.tail import StatusTail
from logqueue_schemas.job_status import JobStatus, State

from logqueue.jobs.admin import ensure_topics
from logqueue.jobs.registry import SchemaRegistry
from logqueue.jobs.topics import TopicSpec
from tests.consumers.conftest import Log, log  # noqa: F401 - a fixture
from tests.loops import in_loop

GROUP = "g"


@in_loop
async def test_a_status_with_a_header_that_names_no_record_finishes_none_and_the_others_are_read(
    log: Log,  # noqa: F811
) -> None:
    topic = log.settings.topics.status
    await ensure_topics(log.settings, [TopicSpec(name=topic, partitions=1)])
    codec = await SchemaRegistry(log.settings).status_codec()
    headers: list[list[tuple[str, bytes]]] = [
        *([(name, value)] for name in (RECORD, WAITS) for value in (b"", b"jobs.q/0", None)),  # type: ignore[list-item]
        [],
        [(RECORD, b"retry.q.g/0/7")],
    ]
    for offset, found in enumerate(headers):
        status = JobStatus(
            id="j", queue="q", tenant="t", group=GROUP, state=State.SUCCEEDED, at=1, topic="jobs.q", partition=0,
            offset=offset,
        )  # fmt: skip
        await log.produce(topic, codec.encode(status), headers=found)
    tail = StatusTail(
        log.settings,
        codec,
        group=GROUP,
        partitions=1,
        moved=None,  # type: ignore[arg-type]
        moved_to=[],
    )
    read = await tail.read([CommitNotes(map_text="", bookmark=(0,), named=(), is_handover=False)])
    assert read.finished == {TopicPartition("jobs.q", 0): [6], TopicPartition("retry.q.g", 0): [7]}
    assert read.retried == {}
