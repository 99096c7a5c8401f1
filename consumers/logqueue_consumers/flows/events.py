"""What a worker tells a workflow's owner: its jobs that have ended, and the nodes that they add. No IO.

The records go with the job's outcome: in its transaction, or durable before its status. So the owner hears of every
end, and of the nodes that a job has added before it hears of that job's end.
"""

from __future__ import annotations

from collections.abc import Callable

from logqueue_schemas.job_status import TERMINAL, State
from msgspec.structs import replace

from logqueue.jobs.flow_records import end_record, read_workflow_header
from logqueue_consumers.job import Job
from logqueue_consumers.outcome import Outcome
from logqueue_consumers.writing.outgoing import Outgoing

PartitionOf = Callable[[str, bytes], int]


class FlowEvents:
    """An engine's `ended_hook` that tells of jobs of workflows which this group runs."""

    def __init__(self, topic: str, group: str, partition_of: PartitionOf) -> None:
        self._topic = topic
        self._group = group
        self._partition_of = partition_of

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A job has come to an outcome."""
        workflow = job.headers.workflow
        if workflow is None or outcome.is_silent or outcome.state not in TERMINAL:
            return
        partition = self._partition_of(self._topic, job.tenant.encode())
        outcome.more = [
            replace(record, partition=partition) if record.topic == self._topic else record for record in outcome.more
        ]
        event = flow_event(
            workflow,
            group=self._group,
            topic=self._topic,
            partition=partition,
            state=outcome.state,
            result=outcome.result,
            at_ms=outcome.at_us // 1000,
        )
        if event is not None:
            outcome.add_records([event])


def flow_event(
    workflow: str, *, group: str, topic: str, partition: int, state: State, at_ms: int, result: bytes | None = None
) -> Outgoing | None:
    """The record that tells of a job's end; `workflow` is its `job-workflow` header. None if it is another group's."""
    place = read_workflow_header(workflow)
    if place is None or place[2] != group:
        return None
    key, value = end_record(place[0], place[1], state=state.value, at_ms=at_ms, result=result)
    return Outgoing(topic, partition, key, value, timestamp_ms=at_ms)
