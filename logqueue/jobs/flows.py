"""Workflows: jobs that wait for other jobs. Building is pure; `WorkflowHandle` and `send` go through a FlowClient.

    flow = app.workflow("onboarding")
    flow.add("fetch", fetch.prepare(url=url))
    flow.add("parse", parse.prepare(), after="fetch")
    flow.add("index", index.prepare(), after="parse", on_failure="ignore")
    flow.on_complete(report.prepare())
    sent = await flow.send(tenant="acme")
    state = await sent.wait(timeout="5m")

`chain`, `group` and `chord` (from this module: `logqueue.group` is another thing) build the usual shapes.

A workflow belongs to one tenant, and so to one owner. Nodes that wait for nobody are put on the log together, but a
queue with order="tenant" (the default) runs one tenant's jobs one at a time, nodes of workflows like all others: for
nodes that shall run beside each other declare their queue with order="none".

Its jobs are on the log when the nodes before them have ended;
until then they are `blocked`. What those returned is in `ctx.results`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self

import msgspec

from logqueue.ids import JobId
from logqueue.jobs.durations import Duration, parse_duration
from logqueue.jobs.errors import InvalidDefinition, JobFailed
from logqueue.jobs.flow_context import After, edges, node_spec
from logqueue.jobs.flow_records import (
    CALLBACK,
    MAX_EDGES,
    MAX_NODES,
    SPEC,
    SUBMIT,
    Counts,
    FlowState,
    NodeSpec,
    Submission,
    check_flow_id,
    check_node_name,
    encode,
    key_of,
    node_job_id,
)
from logqueue.jobs.handle import DEFAULT_WAIT_S, JobHandle
from logqueue.jobs.job_ids import JobIds
from logqueue.jobs.partitioning import DEFAULT_TENANT
from logqueue.jobs.prepared import check_prepared, prepared_jobs
from logqueue.jobs.sending import PreparedJob, check_tenant

if TYPE_CHECKING:
    from logqueue.jobs.app import App
    from logqueue.jobs.argument_schema import ArgumentSchema
    from logqueue.jobs.flow_client import FlowClient

MAX_FLOW_NAME_CHARS = 255

_IDS = JobIds()


class Workflow:
    """A workflow being built; see the module. One that was sent can be sent again: it is another one then."""

    def __init__(self, app: App, name: str) -> None:
        if not isinstance(name, str) or not name or len(name) > MAX_FLOW_NAME_CHARS or not name.isprintable():
            raise InvalidDefinition(f"Workflow name {name!r} is not 1 to {MAX_FLOW_NAME_CHARS} printable characters")
        self._app = app
        self.name = name
        self._nodes: dict[str, NodeSpec] = {}
        self._schemas: dict[str, ArgumentSchema] = {}
        self._tenants: set[str] = set()
        self._edges = 0

    @property
    def nodes(self) -> Mapping[str, NodeSpec]:
        """The nodes by name, in the order in which they were added."""
        return self._nodes

    def add(self, name: str, job: PreparedJob, *, after: After = (), on_failure: str = "fail") -> Self:
        """Add a node: it begins when those in `after` (added before) have ended.

        `on_failure` says what it means for this node that one of them does not succeed: "fail" cancels it (and fails
        the workflow), "ignore" takes it as ended, "continue" begins at once without waiting for the others. A mapping
        as `after` gives each of them its own: `after={"a": "ignore", "b": "fail"}`.
        """
        check_prepared(job, "Workflow.add")
        self._check_new(name)
        before = edges(after, on_failure)
        unknown = [dep for dep in before if dep not in self._nodes]
        if unknown:
            raise InvalidDefinition(f"Node {name!r} comes after {unknown[0]!r}, which was not added before it")
        if CALLBACK in before:
            raise InvalidDefinition(f"Nothing comes after {CALLBACK!r}: it is the end")
        self._put(name, job, node_spec(job, before))
        return self

    def on_complete(self, job: PreparedJob) -> Self:
        """The job that runs when all others have ended, whatever became of them; `ctx.results.counts` tells it."""
        check_prepared(job, "Workflow.on_complete")
        self._check_new(CALLBACK)
        self._put(CALLBACK, job, node_spec(job, {}, is_callback=True))
        return self

    def _check_new(self, name: str) -> None:
        if check_node_name(name) in self._nodes:
            raise InvalidDefinition(f"Node {name!r} is there twice in workflow {self.name!r}")
        if len(self._nodes) >= MAX_NODES:
            raise InvalidDefinition(f"A workflow has at most {MAX_NODES:,} nodes")

    def _put(self, name: str, job: PreparedJob, spec: NodeSpec) -> None:
        self._edges += len(spec.after)
        if self._edges > MAX_EDGES:
            raise InvalidDefinition(f"A workflow has at most {MAX_EDGES:,} edges")
        self._nodes[name] = spec
        if job.schema is not None:
            self._schemas[name] = job.schema
        if job.tenant != DEFAULT_TENANT:
            self._tenants.add(job.tenant)

    async def send(self, *, tenant: str | None = None, id: str | None = None) -> WorkflowHandle:  # noqa: A002
        """Put the workflow on the log; it exists as a whole or not at all. Sent again under the same id it is the same.

        `tenant` is that of all its jobs (default: the one they were prepared for, else "default"). Raises
        InvalidDefinition, JobTooLarge, BrokerUnreachable, SendFailed.
        """
        submission, nodes = self.submission(tenant), dict(self._nodes)
        flow = check_flow_id(id) if id is not None else _IDS.next()
        client = await self._app.flow_client()
        for name, schema in self._schemas.items():
            nodes[name] = await client.with_schema(nodes[name], schema)
        await client.send(flow, submission, nodes)
        return WorkflowHandle(
            id=flow, name=self.name, tenant=submission.tenant, created_ms=submission.created_ms, client=client
        )

    def submission(self, tenant: str | None) -> Submission:
        """What is sent besides the nodes; InvalidDefinition where tenants differ or there is nothing to do."""
        tenants = self._tenants | ({check_tenant(tenant)} if tenant is not None else set())
        if len(tenants) > 1:
            raise InvalidDefinition(f"A workflow belongs to one tenant, not to {', '.join(sorted(tenants))}")
        if not set(self._nodes) - {CALLBACK}:
            raise InvalidDefinition(f"Workflow {self.name!r} has no node")
        return Submission(
            name=self.name,
            tenant=next(iter(tenants), DEFAULT_TENANT),
            app=self._app.name,
            group=self._app.group,
            created_ms=self._app.clock.time_ms(),
            nodes=len(self._nodes),
        )


def flow_records(flow: str, submission: Submission, nodes: Mapping[str, NodeSpec]) -> list[tuple[bytes, bytes]]:
    """Keys and values of the records of a workflow, in the order in which they are to be written."""
    records = [(key_of(SPEC, flow, name), encode(spec)) for name, spec in nodes.items()]
    return [*records, (key_of(SUBMIT, flow), encode(submission))]


def chain(app: App, jobs: Iterable[PreparedJob], *, name: str = "chain") -> Workflow:
    """A workflow of jobs one after the other: nodes `1`, `2`, ...; each has the result of the one before it."""
    flow, before = Workflow(app, name), ""
    for number, job in enumerate(prepared_jobs(jobs, "chain"), 1):
        flow.add(str(number), job, after=before or ())
        before = str(number)
    return flow


def group(app: App, jobs: Iterable[PreparedJob], *, name: str = "group") -> Workflow:
    """A workflow of jobs beside each other: nodes `1`, `2`, ...

    They run at the same time if their queue's order is "none"; with "tenant", the default, one after the other.
    """
    return _side_by_side(app, jobs, name=name, where="group")


def chord(
    app: App, jobs: Iterable[PreparedJob], then: PreparedJob, *, name: str = "chord", on_failure: str = "fail"
) -> Workflow:
    """A group (see there for what runs at the same time), and a node `then` that has the results of all of them."""
    check_prepared(then, "chord")
    flow = _side_by_side(app, jobs, name=name, where="chord")
    return flow.add("then", then, after=list(flow.nodes), on_failure=on_failure)


def _side_by_side(app: App, jobs: Iterable[PreparedJob], *, name: str, where: str) -> Workflow:
    flow = Workflow(app, name)
    for number, job in enumerate(prepared_jobs(jobs, where), 1):
        flow.add(str(number), job)
    return flow


class WorkflowState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a workflow is: `nodes` are the states of those that its owner has put to work."""

    id: str
    name: str
    state: FlowState
    counts: Counts
    nodes: dict[str, str]
    reason: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in (FlowState.SUCCEEDED, FlowState.FAILED, FlowState.CANCELLED)

    @property
    def has_succeeded(self) -> bool:
        """Whether it ended well."""
        return self.state is FlowState.SUCCEEDED

    def raise_for_state(self) -> WorkflowState:
        """Itself if the workflow succeeded, else JobFailed."""
        if self.has_succeeded:
            return self
        why = f": {self.reason}" if self.reason else f": {self.counts.failed} failed, {self.counts.cancelled} cancelled"
        raise JobFailed(f"Workflow {self.id} ({self.name}) is {self.state}{why}")


class WorkflowHandle(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow that is on the log."""

    id: str
    name: str
    tenant: str
    created_ms: int
    client: FlowClient

    async def wait(self, timeout: Duration = DEFAULT_WAIT_S) -> WorkflowState:
        """Its final state, once it has one; WaitTimeout after `timeout` (the workflow goes on).

        Raises KeyConflict if a workflow of another tenant has the id: this one did not run.
        """
        return await self.client.wait(self, timeout_s=parse_duration(timeout))

    async def status(self) -> WorkflowState | None:
        """How far it is now, or None if no owner has taken it up yet. Raises KeyConflict as `wait` does."""
        return await self.client.status(self)

    async def cancel(self, *, by: str = "app") -> None:
        """Ask for it to be cancelled: what has not begun ends at once, jobs on the log are told."""
        await self.client.cancel(self.id, tenant=self.tenant, by=by)

    def job(self, node: str, *, queue: str = "") -> JobHandle:
        """The handle of a node's job, to wait for it alone."""
        return self.client.job_handle(self, node_job_id(self.id, node), queue=queue)

    def job_id(self, node: str) -> JobId:
        """The id of a node's job."""
        return node_job_id(self.id, node)

    def __repr__(self) -> str:
        return f"WorkflowHandle({self.id}, {self.name!r})"
