"""/v1/workflows: list workflows, look into one, cancel one."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request
from logqueue_consumers.view.flows import FlowFilter, FlowRow, NodeRow
from logqueue_consumers.view.job import STATE_NAMES, Job
from logqueue_consumers.view.place import InvalidCursor
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from logqueue.jobs.flow_client import FlowClient
from logqueue.jobs.flow_records import FlowState, node_job_id
from logqueue_api.rest.actor import actor_of
from logqueue_api.rest.answers import json_answer, read_limit, read_request, view_headers
from logqueue_api.rest.openapi import answers, body_of
from logqueue_api.rest.problems import Problem, invalid, not_found
from logqueue_api.rest.services import Services, ServicesOf
from logqueue_api.rest.wire import time_text

router = APIRouter(tags=["workflows"])

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 500


class CancelRequest(BaseModel):
    """What goes with the cancelling of a workflow."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = Field(False, description="Only tell how many nodes would be ended.")


class WorkflowDocument(BaseModel):
    """A workflow. `counts` are its nodes by state; `queued` are on the log: waiting, running or retrying."""

    id: str
    name: str
    tenant: str
    app: str
    group: str
    state: str = Field(description="running, cancelling, succeeded, failed, cancelled")
    created_at: str | None
    ended_at: str | None
    cancelled_by: str | None
    reason: str | None
    total: int
    counts: dict[str, int]


class NodeDocument(BaseModel):
    """A node and how far its job is."""

    node: str
    job_id: str
    type: str | None
    queue: str | None
    state: str
    attempt: int | None
    after: dict[str, str] = Field(description="Nodes before it, each with its policy: fail, ignore, continue.")
    parent: str | None = Field(description="The node whose job added it.")
    error: Any | None


class WorkflowPage(BaseModel):
    """Workflows, newest first; `next_cursor` null means the end."""

    items: list[WorkflowDocument]
    next_cursor: str | None


class WorkflowDetail(WorkflowDocument):
    """A workflow with some of its nodes, by name; `next_node` null means the end."""

    nodes: list[NodeDocument]
    next_node: str | None


class CancelReceipt(BaseModel):
    """A command that the log has. The owner of the workflow obeys it."""

    id: str
    state: str = Field(description="The workflow's state when it was asked for.")
    by: str
    accepted: bool = Field(description="False: nothing was to be done, or it was a dry run.")
    nodes: int = Field(description="Nodes that have not ended.")


@router.get("/v1/workflows", responses=answers(WorkflowPage, 400, 503), summary="List workflows, newest first")
async def list_workflows(
    services: ServicesOf,
    state: Annotated[str | None, Query(description="One state.")] = None,
    tenant: Annotated[str | None, Query(max_length=255)] = None,
    name: Annotated[str | None, Query(max_length=255)] = None,
    limit: Annotated[int, Query(description="Workflows in a page.")] = DEFAULT_PAGE,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> Response:
    """Workflows that have ended are kept for seven days."""
    if state is not None and state not in list(FlowState):
        raise invalid("state", f"unknown state {state[:50]!r}; known are {', '.join(FlowState)}")
    size = read_limit(limit, MAX_PAGE)
    where = FlowFilter(state=state, tenant=tenant, name=name, before=None if cursor is None else _read_cursor(cursor))
    found = await services.view.query(lambda reader: reader.flows(where, limit=size + 1))
    page = found[:size]
    last = page[-1][0] if len(found) > size else None
    document = {
        "items": [_workflow(row, counts) for row, counts in page],
        "next_cursor": None if last is None else f"{last.flow.created_ms}.{last.id}",
    }
    return json_answer(document, headers=view_headers(services))


@router.get("/v1/workflows/{flow}", responses=answers(WorkflowDetail, 400, 404, 503), summary="One workflow")
async def get_workflow(
    flow: str,
    services: ServicesOf,
    state: Annotated[str | None, Query(description="Only nodes that the owner has in this state.")] = None,
    limit: Annotated[int, Query(description="Nodes in a page.")] = DEFAULT_PAGE,
    after_node: Annotated[str, Query(max_length=100, description="`next_node` of the page before.")] = "",
) -> Response:
    """Counts, and nodes with the states of their jobs."""
    row = await _find(services, flow)
    size = read_limit(limit, MAX_PAGE)
    counts, nodes = await services.view.query(
        lambda reader: reader.flow_nodes(flow, after=after_node, state=state, limit=size + 1)
    )
    page = nodes[:size]
    document = _workflow(row, counts) | {
        "nodes": [_node(flow, node, job) for node, job in page],
        "next_node": page[-1][0].node if len(nodes) > size else None,
    }
    return json_answer(document, headers=view_headers(services))


@router.post(
    "/v1/workflows/{flow}:cancel",
    status_code=202,
    responses=answers(CancelReceipt, 400, 404, 409, 415, 503, status=202),
    openapi_extra=body_of(CancelRequest),
    summary="Cancel a workflow",
)
async def cancel_workflow(flow: str, request: Request, services: ServicesOf) -> Response:
    """Nodes that have not begun end at once; jobs on the log are told, and run no more."""
    asked = await read_request(CancelRequest, request, services)
    row, by = await _find(services, flow), actor_of(request)
    if row.flow.is_over:
        raise Problem(409, f"workflow {flow} has ended: it is {row.flow.state}")
    counts, _ = await services.view.query(lambda reader: reader.flow_nodes(flow, after="", state=None, limit=1))
    is_wanted = row.flow.state is FlowState.RUNNING and not asked.dry_run
    if is_wanted:
        await FlowClient(services.client, clock=services.clock).cancel(flow, tenant=row.flow.tenant, by=by)
    receipt = {
        "id": flow,
        "state": row.flow.state.value,
        "by": by,
        "accepted": is_wanted,
        "nodes": sum(counts.get(state, 0) for state in ("waiting", "blocked", "queued")),
    }
    return json_answer(receipt, status=202)


async def _find(services: Services, flow: str) -> FlowRow:
    row = await services.view.query(lambda reader: reader.flow(flow))
    if row is None:
        raise not_found(f"there is no workflow {flow!r}")
    return row


def _workflow(row: FlowRow, counts: dict[str, int]) -> dict[str, Any]:
    flow = row.flow
    return {
        "id": row.id,
        "name": flow.name,
        "tenant": flow.tenant,
        "app": flow.app,
        "group": flow.group,
        "state": flow.state.value,
        "created_at": time_text(flow.created_ms * 1000),
        "ended_at": None if flow.ended_ms is None else time_text(flow.ended_ms * 1000),
        "cancelled_by": flow.by,
        "reason": flow.reason,
        "total": sum(counts.values()),
        "counts": counts,
    }


def _node(flow: str, row: NodeRow, job: Job | None) -> dict[str, Any]:
    outcome = job.outcome if job is not None else None
    is_on_log = row.state == "queued" and outcome is not None
    return {
        "node": row.node,
        "job_id": node_job_id(flow, row.node),
        "type": row.type,
        "queue": row.queue,
        # The owner knows what has ended; how far a job on the log is, its statuses tell.
        "state": STATE_NAMES[outcome.state] if is_on_log and outcome is not None else row.state or "waiting",
        "attempt": outcome.attempt if outcome is not None else None,
        "after": row.after,
        "parent": row.parent,
        "error": orjson.loads(outcome.error) if outcome is not None and outcome.error is not None else None,
    }


def _read_cursor(text: str) -> tuple[int, str]:
    created, dot, flow = text.partition(".")
    if not dot or not flow or not (created.isascii() and created.isdigit() and len(created) <= 15):
        raise InvalidCursor("not a cursor; use `next_cursor` of the page before, unchanged")
    return int(created), flow
