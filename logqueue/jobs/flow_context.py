"""What a job learns of the nodes before it in its workflow, and how it adds nodes. Bytes <-> values; no client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from logqueue.ids import JobId
from logqueue.jobs.errors import InvalidDefinition
from logqueue.jobs.flow_records import (
    ADD,
    CALLBACK,
    NodeSpec,
    OnFailure,
    check_node_name,
    encode,
    key_of,
    node_job_id,
    read_workflow_header,
)
from logqueue.jobs.headers import CE_ID, CE_TIME, TENANT, WORKFLOW, WORKFLOW_RESULTS

if TYPE_CHECKING:
    from logqueue.jobs.sending import PreparedJob

After = str | Iterable[str] | Mapping[str, str]

WORKFLOW_NODE = "workflow-node"
"""On a follow-up job that is a node: the key of its record. Never on the log."""
_MADE_BY_OWNER = frozenset({CE_ID, CE_TIME, TENANT})


class Results(dict[str, Any]):
    """Results of the nodes before this one, by node.

    `failed` are nodes that ended otherwise, with their states; `omitted` those whose results are too large to be handed
    on (read them from the status of `job_id(node)`); `counts` the nodes of the workflow, for a callback.
    """

    def __init__(self, header: bytes | None, flow: str) -> None:
        told: dict[str, Any] = msgspec.json.decode(header) if header is not None else {}
        super().__init__(told.get("results", {}))
        self.failed: dict[str, str] = told.get("failed", {})
        self.omitted: list[str] = told.get("omitted", [])
        self.counts: dict[str, int] = told.get("counts", {})
        self._flow = flow

    def job_id(self, node: str) -> JobId:
        """The id of a node's job."""
        return node_job_id(self._flow, node)

    def __missing__(self, node: str) -> Any:
        if node in self.omitted:
            raise KeyError(f"the result of {node!r} is too large to be handed on: it is in the status of its job")
        if node in self.failed:
            raise KeyError(f"{node!r} has no result: it is {self.failed[node]}")
        raise KeyError(f"{node!r} is no node before this one, or has not ended")


def results_of(headers: Mapping[str, bytes]) -> Results:
    """The results in a job's headers; empty outside of workflows."""
    place = read_workflow_header(headers.get(WORKFLOW, b"").decode("utf-8", "replace"))
    return Results(headers.get(WORKFLOW_RESULTS), place[0] if place is not None else "")


def workflow_of(headers: Mapping[str, bytes]) -> str | None:
    """The id of the workflow that a job belongs to."""
    place = read_workflow_header(headers.get(WORKFLOW, b"").decode("utf-8", "replace"))
    return place[0] if place is not None else None


def added_node(
    headers: Mapping[str, bytes], name: str, job: PreparedJob, *, after: After, on_failure: str
) -> PreparedJob:
    """A node that the job with these headers adds to its workflow, in the form in which follow-up jobs are sent."""
    place = read_workflow_header(headers.get(WORKFLOW, b"").decode("utf-8", "replace"))
    if place is None:
        raise InvalidDefinition("This job belongs to no workflow that a node could be added to")
    flow, parent, _ = place
    before = edges(after, on_failure)
    if CALLBACK in before and parent != CALLBACK:
        raise InvalidDefinition(f"Nothing comes after {CALLBACK!r}: it is the end")
    spec = node_spec(job, before, parent=parent)
    return msgspec.structs.replace(
        job,
        id=node_job_id(flow, name),
        value=encode(spec),
        shared=None,
        own=((WORKFLOW_NODE, key_of(ADD, flow, check_node_name(name))),),
    )


def edges(after: After, on_failure: str) -> dict[str, OnFailure]:
    """The nodes before one, each with its policy; InvalidDefinition for a policy that is none."""
    if isinstance(after, str):
        after = [after]
    pairs = after.items() if isinstance(after, Mapping) else ((name, on_failure) for name in after)
    try:
        return {check_node_name(name): OnFailure(policy) for name, policy in pairs}
    except ValueError as error:
        raise InvalidDefinition(f"{error}; a policy is one of {', '.join(OnFailure)}") from None


def node_spec(
    job: PreparedJob, after: dict[str, OnFailure], *, is_callback: bool = False, parent: str | None = None
) -> NodeSpec:
    """A prepared job as a node; InvalidDefinition for one that cannot be."""
    if job.is_keyed:
        raise InvalidDefinition("A node has its id from the workflow: an idempotency key has no place in it")
    return NodeSpec(
        type=job.type,
        queue=job.queue,
        value=job.value,
        headers=[pair for pair in job.headers if pair[0] not in _MADE_BY_OWNER],
        after=after,
        priority=job.priority,
        is_callback=is_callback,
        parent=parent,
    )
