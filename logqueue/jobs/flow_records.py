"""Workflows as records of `jobs.flows`: keys and JSON values. Pure; the topic is compacted and partitioned by tenant.

| key                   | written by             | what it says                                                  |
|-----------------------|------------------------|---------------------------------------------------------------|
| `spec/<flow>/<node>`  | sender, owner          | a node: its job, and the nodes before it with their policies  |
| `submit/<flow>`       | sender, last of all    | the workflow is complete: it may begin                        |
| `flow/<flow>`         | owner                  | the workflow's state and counts                               |
| `node/<flow>/<node>`  | owner                  | the node's state, and the result of one that succeeded        |
| `event/<flow>/<node>` | worker, with outcomes  | the node's job has ended                                      |
| `add/<flow>/<node>`   | worker, with outcomes  | a running job adds a node                                     |
| `cancel/<flow>`       | anybody                | the workflow is to be cancelled                               |
| `conflict/<flow>/<tenant>` | owner             | what this tenant has sent under another tenant's id: not taken |

The owner takes `submit/`, `event/`, `add/` and `cancel/` back (a tombstone) in the transaction that acts on them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final

import msgspec

from logqueue.ids import JobId
from logqueue.jobs.errors import InvalidDefinition

FLOW_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
NODE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", re.ASCII)
"""Without a dot: the last one of a job's id stands before its node."""
CALLBACK: Final = "on-complete"
"""The node that comes after all others."""
MAX_NODES: Final = 20_000
MAX_EDGES: Final = 200_000
MAX_RESULT_BYTES: Final = 32 * 1024
"""Of one node's result that is handed on; a larger one stays in the status of its job."""
MAX_RESULTS_BYTES: Final = 256 * 1024
"""Of all results that one job is handed."""

SUBMIT: Final = b"submit"
SPEC: Final = b"spec"
FLOW: Final = b"flow"
NODE: Final = b"node"
EVENT: Final = b"event"
ADD: Final = b"add"
CANCEL: Final = b"cancel"
CONFLICT: Final = b"conflict"
OF_NODES: Final = frozenset({SPEC, NODE, EVENT, ADD})
"""Records of these kinds are about a node, all others about a whole workflow."""


class OnFailure(StrEnum):
    """What it means for a node that one before it ended in another state than succeeded (BullMQ's policies)."""

    FAIL = "fail"
    """It is cancelled, and the workflow fails."""
    IGNORE = "ignore"
    """As if it had succeeded, without a result."""
    CONTINUE = "continue"
    """It begins at once, without waiting for the others before it."""


class FlowState(StrEnum):
    """Where a workflow is in its life."""

    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


FLOW_ENDS: Final = frozenset({FlowState.SUCCEEDED, FlowState.FAILED, FlowState.CANCELLED})


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node. `value` and `headers` are those of its job record; `after` are the nodes before it, with policies."""

    type: str
    queue: str
    value: bytes
    headers: list[tuple[str, bytes]]
    after: dict[str, OnFailure] = {}
    priority: str | None = None
    is_callback: bool = False
    """It comes after all other nodes, whatever became of them."""
    parent: str | None = None
    """The node whose job added it."""
    is_kept: bool = False
    """Its owner wrote it: it counts, whatever was sent again under its name."""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow as it was sent: everything but its nodes, of which there are `nodes`."""

    name: str
    tenant: str
    app: str
    group: str
    created_ms: int
    nodes: int


class Counts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Nodes by what became of them; the callback does not count."""

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    """Dead or expired."""
    cancelled: int = 0

    @property
    def ended(self) -> int:
        """Nodes that have ended."""
        return self.succeeded + self.failed + self.cancelled


class Flow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A workflow as its owner has it."""

    name: str
    tenant: str
    app: str
    group: str
    created_ms: int
    state: FlowState
    counts: Counts
    ended_ms: int | None = None
    by: str | None = None
    """Who cancelled it."""
    reason: str | None = None
    """Why it failed, where no node did."""
    is_swept: bool = False
    """Every job of a workflow that is being cancelled has been told."""
    is_opened: bool = False
    """Its nodes as they were sent are put to work or wait: more come from its own jobs alone."""

    @property
    def is_over(self) -> bool:
        """Whether the workflow has ended."""
        return self.state in FLOW_ENDS


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a node is: `blocked`, `queued` (its job is on the log), or the state in which its job ended."""

    state: str
    result: Any = None
    is_omitted: bool = False
    """There is a result, too large to be handed on."""
    is_told: bool = False
    """Its job was told to cancel."""


class End(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker tells of a node's job that has ended."""

    state: str
    at_ms: int
    result: Any = None
    is_omitted: bool = False


class CancelOrder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who wants a workflow cancelled, and since when."""

    by: str
    at: int
    tenant: str | None = None
    """Whose workflow is meant: another's of the same id is left alone. None (earlier senders): whoever's it is."""


encode: Final = msgspec.json.Encoder().encode
decode_spec: Final = msgspec.json.Decoder(NodeSpec).decode
decode_submission: Final = msgspec.json.Decoder(Submission).decode
decode_flow: Final = msgspec.json.Decoder(Flow).decode
decode_node: Final = msgspec.json.Decoder(Node).decode
decode_end: Final = msgspec.json.Decoder(End).decode
decode_cancel: Final = msgspec.json.Decoder(CancelOrder).decode


def key_of(kind: bytes, flow: str, node: str | None = None) -> bytes:
    """The key of a record."""
    return b"/".join((kind, flow.encode()) if node is None else (kind, flow.encode(), node.encode()))


def split_key(key: bytes) -> tuple[bytes, str, str]:
    """Kind, workflow and node ("" where there is none) of a key. Names hold no slash, so this is always possible."""
    parts = key.split(b"/", 2)
    texts = [part.decode("utf-8", "replace") for part in parts[1:]] + ["", ""]
    return parts[0], texts[0], texts[1]


def is_key(key: bytes) -> bool:
    """Whether a key is what `key_of` makes of what `split_key` finds in it: one with a node, or one without."""
    kind, flow, node = split_key(key)
    has_node = kind in OF_NODES
    return "/" not in node and bool(node) == has_node and key == key_of(kind, flow, node if has_node else None)


def node_job_id(flow: str, node: str) -> JobId:
    """The id of a node's job: the same in every attempt to begin it, and no other node's."""
    return JobId(f"{flow}.{node}")


def workflow_header(flow: str, node: str, group: str) -> bytes:
    """The value of the `job-workflow` header."""
    return f"{flow}/{node}/{group}".encode()


def read_workflow_header(text: str) -> tuple[str, str, str] | None:
    """Workflow, node and group of a `job-workflow` header; None if it is none of ours."""
    parts = text.split("/")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 and all(parts) else None


def check_flow_id(flow: object) -> str:
    """A workflow id itself, or InvalidDefinition."""
    if not isinstance(flow, str) or not FLOW_ID.fullmatch(flow):
        raise InvalidDefinition(f"Workflow id {flow!r} is not of the form [A-Za-z0-9][A-Za-z0-9._-]*, 1 to 100")
    return flow


def check_node_name(name: object) -> str:
    """A node's name itself, or InvalidDefinition."""
    if not isinstance(name, str) or not NODE_NAME.fullmatch(name):
        raise InvalidDefinition(f"Node {name!r} is not of the form [A-Za-z0-9][A-Za-z0-9_-]*, 1 to 100 characters")
    return name


def end_record(flow: str, node: str, *, state: str, at_ms: int, result: bytes | None) -> tuple[bytes, bytes]:
    """Key and value of the event that a node's job has ended."""
    is_omitted = result is not None and len(result) > MAX_RESULT_BYTES
    kept = None if result is None or is_omitted else msgspec.json.decode(result)
    return key_of(EVENT, flow, node), encode(End(state=state, at_ms=at_ms, result=kept, is_omitted=is_omitted))
