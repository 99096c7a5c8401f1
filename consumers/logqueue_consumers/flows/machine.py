"""The owner of a partition of workflows: decides what is to be written when a job ends or somebody asks. No IO.

| what is due                | what is written, in one transaction                                               |
|----------------------------|-----------------------------------------------------------------------------------|
| a workflow was submitted   | its state; each node: a job record, or the status `blocked`                       |
| a node's job has ended     | the node's state; nodes behind it: job records, or the status `cancelled`         |
| a running job adds a node  | the node, and its job record or status                                            |
| it was sent again          | its state again; nodes as they were sent first, tombstones of further ones        |
| ... by another tenant      | what that one sent, as a conflict; the workflow is left as it is                  |
| it is to be cancelled      | nodes that have not begun: `cancelled`; jobs on the log: a cancel command each    |
| every node has ended       | the callback's job record, or the workflow's final state                          |
| it ended long ago          | tombstones                                                                        |

What it decides depends on nothing but the records in its partition, and each decision is a record there: a node is put
on the log at most once, whoever owns the partition and however often an owner dies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from logqueue_schemas.job_status import RANKS, JobStatus, State, status_key

from logqueue.errors import LogqueueError
from logqueue.jobs.control import cancel_command
from logqueue.jobs.flow_records import (
    ADD,
    CANCEL,
    CONFLICT,
    EVENT,
    FLOW,
    MAX_NODES,
    NODE,
    SPEC,
    SUBMIT,
    Flow,
    FlowState,
    Node,
    NodeSpec,
    decode_cancel,
    decode_end,
    decode_spec,
    decode_submission,
    encode,
    key_of,
    node_job_id,
    split_key,
    workflow_header,
)
from logqueue.jobs.headers import CE_ID, CE_TIME, TENANT, WORKFLOW, WORKFLOW_RESULTS
from logqueue.jobs.partitioning import partition_of
from logqueue.jobs.times import format_time
from logqueue.jobs.topics import TopicNames
from logqueue_consumers.flows.graph import (
    BLOCKED,
    CANCELLED,
    DROP,
    END,
    OPEN,
    QUEUED,
    READY,
    REFUSE,
    RESTORE,
    RUN,
    STOP,
    SURPLUS,
    FlowGraph,
    is_end,
)
from logqueue_consumers.flows.results import results_header
from logqueue_consumers.keeper.index import Index, Row
from logqueue_consumers.keeper.machine import KeeperSpec, Kept, Place
from logqueue_consumers.keeper.put_off import Pauses
from logqueue_consumers.writing.outgoing import Outgoing

log = structlog.get_logger(__name__)

LAYOUT: Final = 3
MAX_OPENED: Final = 10_000
"""Nodes of a workflow that are put to work in one transaction."""
MAX_OPENED_BYTES: Final = 16 * 1024 * 1024
MAX_TOLD: Final = 2_000
"""Jobs that are told to end in one transaction."""
MAX_FORGOTTEN: Final = 2_000
"""Records of a workflow that are taken back in one transaction."""
MAX_BLOCKED_ON: Final = 20
"""Names of nodes that a blocked job's status tells."""
SYSTEM: Final = "workflow"
DERIVED: Final = b"~"
"""How keys in the index begin that no record has (see `graph`)."""


class FlowMachine:
    """The workflows of one partition; a `KeeperMachine`."""

    def __init__(
        self, index: Index, place: Place, *, names: TopicNames, encode_status: Callable[[JobStatus], bytes]
    ) -> None:
        self._index = index
        self._place = place
        self._names = names
        self._encode_status = encode_status
        self._graph = FlowGraph(index)
        self._sequence = 0
        self._now_ms = 0
        self._out: list[Outgoing] = []
        self._pauses = Pauses()
        self._handlers: dict[bytes, Callable[[str, str, bytes], None]] = {
            SUBMIT: self._begin,
            EVENT: self._note_end,
            ADD: self._add,
            CANCEL: self._cancel,
            SPEC: self._drop_orphan,
            FLOW: self._forget,
            OPEN: self._open,
            STOP: self._stop,
            READY: self._decide,
            END: self._end,
            RESTORE: self._restore,
            SURPLUS: self._drop_surplus,
            REFUSE: self._refuse,
            CONFLICT: self._forget_conflict,
        }

    # --- KeeperMachine ---

    def apply(self, record: Kept) -> None:
        """Fold a record of the own topic."""
        try:
            self._graph.apply(record)
        except (ValueError, RecursionError) as error:
            log.warning("no record of a workflow", key=record.key[:200], offset=record.offset, error=str(error))

    def next_due(self) -> int | None:
        """When there is something to do."""
        return self._index.next_due()

    def due(self, now_ms: int, limit: int) -> list[Outgoing]:
        """What is to be written now."""
        self._now_ms, self._out = now_ms, []
        handled = 0
        bad: Row | None = None
        with self._index.trial():  # each decision sees what those before it will have changed
            while handled < limit and (rows := self._index.due(now_ms, 1)):
                row = rows[0]
                kind, flow, node = split_key(row.key)
                before = len(self._out)
                try:
                    self._handlers[kind](flow, node, row.value)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LogqueueError) as error:
                    log.error("nothing can be made of this record of a workflow", key=row.key[:200], error=str(error))
                    del self._out[before:]
                    bad = row
                    break  # the trial has seen half of what it asks for
                handled += max(1, (len(self._out) - before) // 8)
        if bad is not None:
            self._set_aside(bad)
        return self._out

    def put_off(self, now_ms: int) -> None:
        """The first that is due waits a while longer."""
        for row in self._index.due(now_ms, 1):
            self._put_off(row, now_ms)

    def _set_aside(self, row: Row) -> None:
        """A record is taken back; what only follows from records is put off, for it cannot be."""
        if row.key.startswith(DERIVED):
            self._put_off(row, self._now_ms)
        else:
            self._out.append(
                Outgoing(self._place.topic, self._place.partition, row.key, None, timestamp_ms=self._now_ms)
            )

    def _put_off(self, row: Row, now_ms: int) -> None:
        with self._index.transaction():
            self._index.put_off(row.key, self._pauses.until(row.key, now_ms))

    def events_since(self) -> int | None:
        """Workers tell in this topic itself what has ended: no other topic is read."""
        return None

    def on_event(self, event: Kept) -> list[Outgoing]:
        """Nothing comes from elsewhere."""
        return []

    # --- orders ---

    def _begin(self, flow: str, node: str, value: bytes) -> None:
        submission, known = decode_submission(value), self._graph.flow(flow)
        if known is not None:
            if known.tenant == submission.tenant:
                self._own(key_of(FLOW, flow), encode(known))  # who sent it again reads from now on
        else:
            tally = self._graph.tally(flow)
            sent = tally.nodes + bool(tally.callback)
            is_whole = sent == submission.nodes
            begun = Flow(
                name=submission.name,
                tenant=submission.tenant,
                app=submission.app,
                group=submission.group,
                created_ms=submission.created_ms,
                state=FlowState.RUNNING if is_whole else FlowState.FAILED,
                counts=tally.counts,
                ended_ms=None if is_whole else self._now_ms,
                reason=None if is_whole else f"{sent} of {submission.nodes} nodes arrived",
            )
            self._own(key_of(FLOW, flow), encode(begun))
        self._own(key_of(SUBMIT, flow), None)

    def _note_end(self, flow: str, node: str, value: bytes) -> None:
        end, known = decode_end(value), self._graph.node(flow, node)
        if known is not None and known.state == QUEUED and is_end(end.state):
            ended = Node(state=end.state, result=end.result, is_omitted=end.is_omitted)
            self._own(key_of(NODE, flow, node), encode(ended))
        self._own(key_of(EVENT, flow, node), None)

    def _add(self, flow: str, node: str, value: bytes) -> None:
        spec, begun = decode_spec(value), self._graph.flow(flow)
        is_known = self._graph.spec(flow, node) is not None
        tally = self._graph.tally(flow)
        if begun is None or begun.is_over or is_known or tally.nodes >= MAX_NODES:
            log.info("node not added", workflow=flow, node=node, is_known=is_known, nodes=tally.nodes)
        else:
            # Behind one that is not there, or that waits for all, it would wait for ever: it comes after the others.
            after = {dep: policy for dep, policy in spec.after.items() if self._graph.may_come_before(flow, dep)}
            spec = msgspec.structs.replace(spec, after=after, is_callback=False, is_kept=True)
            self._own(key_of(SPEC, flow, node), encode(spec))
            self._open_node(flow, node, spec, begun)
        self._own(key_of(ADD, flow, node), None)

    def _cancel(self, flow: str, node: str, value: bytes) -> None:
        order, begun = decode_cancel(value), self._graph.flow(flow)
        is_meant = begun is not None and order.tenant in (None, begun.tenant)
        if begun is not None and is_meant and begun.state is FlowState.RUNNING:
            cancelled = msgspec.structs.replace(begun, state=FlowState.CANCELLING, by=order.by)
            self._own(key_of(FLOW, flow), encode(cancelled))
        self._own(key_of(CANCEL, flow), None)

    # --- what follows ---

    def _open(self, flow: str, node: str, value: bytes) -> None:
        begun = self._graph.flow(flow)
        assert begun is not None, "only a workflow that has begun is opened"
        for name, spec in self._graph.unopened(flow, MAX_OPENED, max_bytes=MAX_OPENED_BYTES):
            if begun.is_opened:
                self._own(key_of(SPEC, flow, name), None)  # sent later under the same id: it is none of this workflow
            else:
                self._open_node(flow, name, spec, begun)
        if not begun.is_opened and self._graph.tally(flow).is_opened:
            self._own(key_of(FLOW, flow), encode(msgspec.structs.replace(begun, is_opened=True)))

    def _restore(self, flow: str, node: str, value: bytes) -> None:
        """The workflow was sent again with another node of this name: the first one counts."""
        spec = self._graph.spec(flow, node)
        assert spec is not None, "only a node that is known is restored"
        self._own(key_of(SPEC, flow, node), encode(msgspec.structs.replace(spec, is_kept=True)))

    def _drop_surplus(self, flow: str, node: str, value: bytes) -> None:
        """The workflow was sent again with a further node: it is none of it."""
        self._own(key_of(SPEC, flow, node), None)

    def _refuse(self, flow: str, tenant: str, value: bytes) -> None:
        """Another tenant has sent a workflow of its own under this id: it is told no more than that the id is taken."""
        log.warning("id of a workflow is another tenant's", workflow=flow, tenant=tenant)
        self._own(key_of(CONFLICT, flow, tenant), value)

    def _forget_conflict(self, flow: str, tenant: str, value: bytes) -> None:
        self._own(key_of(CONFLICT, flow, tenant), None)

    def _open_node(self, flow: str, node: str, spec: NodeSpec, begun: Flow) -> None:
        need = self._graph.need(flow, node)
        if begun.state is FlowState.CANCELLING:
            self._drop(flow, node, spec, begun, cause="")
        elif need.fate == DROP:
            self._drop(flow, node, spec, begun, cause=need.cause)
        elif need.fate == RUN:
            self._release(flow, node, spec, begun, was_blocked=False)
        else:
            waits = sorted(spec.after) if spec.after else ["*"]
            details = {"blocked_on": waits[:MAX_BLOCKED_ON], "blocked_on_count": len(waits)}
            self._tell(flow, node, spec, begun, State.BLOCKED, details)
            self._own(key_of(NODE, flow, node), encode(Node(state=BLOCKED)))

    def _decide(self, flow: str, node: str, value: bytes) -> None:
        """A blocked node waits for nothing more."""
        spec, begun = self._graph.spec(flow, node), self._graph.flow(flow)
        assert spec is not None and begun is not None, "only nodes of a workflow are blocked"
        need = self._graph.need(flow, node)
        assert need.fate, "it waits for nothing more"
        if need.fate == DROP or begun.state is FlowState.CANCELLING:
            self._drop(flow, node, spec, begun, cause=need.cause)
        else:
            self._release(flow, node, spec, begun, was_blocked=True)

    def _stop(self, flow: str, node: str, value: bytes) -> None:
        begun = self._graph.flow(flow)
        assert begun is not None, "only a workflow that has begun is cancelled"
        nodes = self._graph.unstopped(flow, MAX_TOLD)
        for name, known in nodes:
            spec = self._graph.spec(flow, name)
            assert spec is not None, "every node was sent or added"
            if known.state == BLOCKED:
                self._drop(flow, name, spec, begun, cause="")
                continue
            command = cancel_command(
                node_job_id(flow, name), replay=0, by=begun.by or SYSTEM, at_ms=self._now_ms, reason=f"workflow {flow}"
            )
            self._out.append(Outgoing(self._names.control, None, *command.record()))
            self._own(key_of(NODE, flow, name), encode(msgspec.structs.replace(known, is_told=True)))
        if len(nodes) < MAX_TOLD:
            self._own(key_of(FLOW, flow), encode(msgspec.structs.replace(begun, is_swept=True)))

    def _end(self, flow: str, node: str, value: bytes) -> None:
        """Every node but the callback has ended."""
        begun, tally = self._graph.flow(flow), self._graph.tally(flow)
        assert begun is not None, "only a workflow that has begun ends"
        callback = self._graph.node(flow, tally.callback) if tally.callback else None
        if callback is not None and callback.state == BLOCKED:
            spec = self._graph.spec(flow, tally.callback)
            assert spec is not None, "it was opened"
            if begun.state is FlowState.CANCELLING:
                self._drop(flow, tally.callback, spec, begun, cause="")
            else:
                self._release(flow, tally.callback, spec, begun, was_blocked=True)
            return
        state = FlowState.FAILED if self._graph.has_unhandled_failure(flow) else FlowState.SUCCEEDED
        if begun.state is FlowState.CANCELLING:
            state = FlowState.CANCELLED
        over = msgspec.structs.replace(begun, state=state, counts=tally.counts, ended_ms=self._now_ms)
        self._own(key_of(FLOW, flow), encode(over))

    def _drop_orphan(self, flow: str, node: str, value: bytes) -> None:
        """A node whose workflow was never submitted, or one that is forgotten with it."""
        self._own(key_of(SPEC, flow, node), None if self._graph.flow(flow) is None else value)

    def _forget(self, flow: str, node: str, value: bytes) -> None:
        """It ended long ago."""
        room = MAX_FORGOTTEN
        for kind in (NODE, SPEC):
            keys = self._graph.keys(kind, flow, room)
            for key in keys:
                self._own(key, None)
            room -= len(keys)
        if room > 0:
            self._own(key_of(FLOW, flow), None)

    # --- records ---

    def _own(self, key: bytes, value: bytes | None) -> None:
        """A record of the own topic; it counts from here on."""
        self._out.append(Outgoing(self._place.topic, self._place.partition, key, value, timestamp_ms=self._now_ms))
        self.apply(Kept(key, value, timestamp_ms=self._now_ms))

    def _release(self, flow: str, node: str, spec: NodeSpec, begun: Flow, *, was_blocked: bool) -> None:
        """Put the node's job on the log; one whose queue cannot be will not run."""
        try:
            topic = self._names.jobs(spec.queue, spec.priority)
        except LogqueueError as error:
            log.error("node of a workflow cannot run", workflow=flow, node=node, reason=str(error))
            self._drop(flow, node, spec, begun, cause="", reason=str(error))
            return
        headers = [pair for pair in spec.headers if pair[0] not in _REPLACED]
        headers += [
            (CE_ID, node_job_id(flow, node).encode()),
            (CE_TIME, format_time(self._now_ms).encode()),
            (WORKFLOW, workflow_header(flow, node, begun.group)),
        ]
        if (results := results_header(self._graph, flow, spec)) is not None:
            headers.append((WORKFLOW_RESULTS, results))
        self._out.append(Outgoing(topic, None, begun.tenant.encode(), spec.value, headers, timestamp_ms=self._now_ms))
        if was_blocked:
            self._tell(flow, node, spec, begun, State.QUEUED, {})
        self._own(key_of(NODE, flow, node), encode(Node(state=QUEUED)))

    def _drop(self, flow: str, node: str, spec: NodeSpec, begun: Flow, *, cause: str, reason: str = "") -> None:
        """The node will not run: because of the node `cause`, or somebody's will, or for a reason of its own."""
        details = {"failed_before": cause} if cause else {"cancelled_by": begun.by or SYSTEM}
        if reason:
            details["reason"] = reason
        self._tell(flow, node, spec, begun, State.CANCELLED, details)
        self._own(key_of(NODE, flow, node), encode(Node(state=CANCELLED)))

    def _tell(self, flow: str, node: str, spec: NodeSpec, begun: Flow, state: State, details: dict[str, Any]) -> None:
        """The status of a job that no worker has."""
        now_us = self._now_ms * 1000
        self._sequence = max(self._sequence + 1, now_us)
        status = JobStatus(
            id=node_job_id(flow, node),
            queue=spec.queue,
            tenant=begun.tenant,
            group=begun.group,
            state=state,
            at=now_us,
            topic=self._place.topic,
            partition=self._place.partition,
            offset=0,
            type=spec.type,
            # A job that was blocked and is queued must not look older than it was.
            rank=max(RANKS[state], RANKS[State.BLOCKED]),
            sequence=self._sequence,
            created_at=begun.created_ms * 1000,
            finished_at=now_us if state is State.CANCELLED else None,
            details=encode({"workflow": flow, "node": node, **details}),
        )
        self._out.append(
            Outgoing(
                self._names.status,
                partition_of(begun.tenant.encode(), self._place.count_of(self._names.status)),
                status_key(status.id),
                self._encode_status(status),
                timestamp_ms=self._now_ms,
            )
        )


def flows_spec(names: TopicNames, encode_status: Callable[[JobStatus], bytes]) -> KeeperSpec:
    """The keeper of `jobs.flows`."""

    def make(index: Index, place: Place) -> FlowMachine:
        return FlowMachine(index, place, names=names, encode_status=encode_status)

    return KeeperSpec(topic=names.flows, make=make, layout=LAYOUT)


_REPLACED: Final = frozenset({CE_ID, CE_TIME, TENANT, WORKFLOW, WORKFLOW_RESULTS})
