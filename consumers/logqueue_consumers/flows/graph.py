"""What an owner knows of its workflows: the fold of `jobs.flows` into an index. No IO, no clock, no decisions.

Besides the records themselves the index holds what follows from them, under keys with `~`:

| key                         | value                                                      | due            |
|-----------------------------|------------------------------------------------------------|----------------|
| `submit/`, `event/`, ...    | the record                                                 | at once        |
| `flow/<flow>`               | the record                                                 | to be forgotten |
| `spec/<flow>/<node>`        | the record                                                 | if no one submits it |
| `~edge/<flow>/<dep>/<node>` | the policy of this edge                                    |                |
| `~need/<flow>/<node>`       | how many nodes are waited for, and what is decided         |                |
| `~tally/<flow>`             | counts of nodes                                            |                |
| `~ready/<flow>/<node>`      | the node is blocked and its fate is decided                | at once        |
| `~open/<flow>`              | nodes are to be put to work, or taken back                 | at once        |
| `~restore/<flow>/<node>`    | the topic has another node of this name than the first     | at once        |
| `~stop/<flow>`              | nodes are to be told to end                                | at once        |
| `~whole/<flow>`             | all nodes had come when it was submitted: more are not its |                |
| `~surplus/<flow>/<node>`    | the topic has a node that came behind that                 | at once        |
| `~refuse/<flow>/<tenant>`   | what another tenant has sent under this id                 | at once        |
| `conflict/<flow>/<tenant>`  | the record                                                 | to be forgotten |
| `~end/<flow>`               | every node has ended                                       | at once        |

Applying a record twice changes nothing, and a record that compaction has removed is not missed. A workflow that was
sent again has its nodes' `spec/` records behind those of their states: what follows from both follows in either order.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import msgspec

from logqueue.jobs.flow_records import (
    ADD,
    CANCEL,
    CONFLICT,
    EVENT,
    FLOW,
    NODE,
    SPEC,
    SUBMIT,
    Counts,
    Flow,
    FlowState,
    Node,
    NodeSpec,
    OnFailure,
    Submission,
    decode_flow,
    decode_node,
    decode_spec,
    decode_submission,
    encode,
    is_key,
    key_of,
    split_key,
)
from logqueue_consumers.keeper.index import Index
from logqueue_consumers.keeper.machine import Kept

ORPHAN_MS: Final = 3_600_000
"""Nodes whose workflow was never submitted are dropped after this."""
RETENTION_MS: Final = 7 * 24 * 3_600_000
"""How long a workflow that has ended is kept."""
AT_ONCE: Final = 0

EDGE: Final = b"~edge"
NEED: Final = b"~need"
READY: Final = b"~ready"
TALLY: Final = b"~tally"
OPEN: Final = b"~open"
STOP: Final = b"~stop"
END: Final = b"~end"
RESTORE: Final = b"~restore"
WHOLE: Final = b"~whole"
SURPLUS: Final = b"~surplus"
REFUSE: Final = b"~refuse"

BLOCKED: Final = "blocked"
QUEUED: Final = "queued"
SUCCEEDED: Final = "succeeded"
CANCELLED: Final = "cancelled"

RUN: Final = "run"
DROP: Final = "drop"

_KINDS: Final = frozenset({SUBMIT, SPEC, FLOW, NODE, EVENT, ADD, CANCEL})
_ORDERS: Final = frozenset({EVENT, ADD, CANCEL})


class Need(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a node waits for: `left` nodes, unless its fate (`run` or `drop`) is decided. `cause` is who decided it."""

    left: int = 0
    fate: str = ""
    cause: str = ""


class Tally(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Nodes of a workflow, those that were put to work or wait, and what became of them."""

    nodes: int = 0
    """Without the callback."""
    opened: int = 0
    counts: Counts = msgspec.field(default_factory=Counts)
    callback: str = ""

    @property
    def is_opened(self) -> bool:
        """Whether something was done about every node, the callback too."""
        return self.opened >= self.nodes + bool(self.callback)

    def count_end(self, node: str, state: str, by: int = 1) -> None:
        """A node has ended in this state, or (by=-1) is none of the workflow's."""
        if node == self.callback:
            return
        if state == SUCCEEDED:
            self.counts.succeeded += by
        elif state == CANCELLED:
            self.counts.cancelled += by
        else:
            self.counts.failed += by


_decode_need = msgspec.json.Decoder(Need).decode
_decode_tally = msgspec.json.Decoder(Tally).decode


class FlowGraph:
    """The workflows of one partition."""

    def __init__(self, index: Index) -> None:
        self._index = index

    # --- what is known ---

    def flow(self, flow: str) -> Flow | None:
        """A workflow that has begun."""
        found = self._index.get(key_of(FLOW, flow))
        return decode_flow(found.value) if found is not None else None

    def spec(self, flow: str, node: str) -> NodeSpec | None:
        """A node as it was sent or added."""
        found = self._index.get(key_of(SPEC, flow, node))
        return decode_spec(found.value) if found is not None else None

    def node(self, flow: str, node: str) -> Node | None:
        """How far a node is; None: nothing was done about it yet."""
        found = self._index.get(key_of(NODE, flow, node))
        return decode_node(found.value) if found is not None else None

    def need(self, flow: str, node: str) -> Need:
        """What a node waits for."""
        found = self._index.get(key_of(NEED, flow, node))
        return _decode_need(found.value) if found is not None else Need()

    def tally(self, flow: str) -> Tally:
        """The counts of a workflow's nodes."""
        found = self._index.get(key_of(TALLY, flow))
        return _decode_tally(found.value) if found is not None else Tally()

    def may_come_before(self, flow: str, node: str) -> bool:
        """Whether a further node may come after this one: it is there, and no callback that waits for all nodes."""
        if node != self.tally(flow).callback:
            return self.spec(flow, node) is not None
        state = self.node(flow, node)
        return state is not None and state.state != BLOCKED

    def has_unhandled_failure(self, flow: str) -> bool:
        """Whether a node has not succeeded, and no edge makes up for it (it goes over the nodes)."""
        tally = self.tally(flow)
        callback = self.node(flow, tally.callback) if tally.callback else None
        if tally.counts.succeeded == tally.nodes and (callback is None or callback.state == SUCCEEDED):
            return False
        prefix = key_of(NODE, flow, "")
        for row in self._index.scan(prefix):
            if decode_node(row.value).state == SUCCEEDED:
                continue
            policies = {policy for _, policy in self._edges(flow, row.key[len(prefix) :].decode())}
            if not policies or OnFailure.FAIL in policies:
                return True
        return False

    def unopened(self, flow: str, limit: int, *, max_bytes: int) -> list[tuple[str, NodeSpec]]:
        """Nodes that nothing was done about yet, at most so many or so large together, but at least one."""
        prefix = key_of(SPEC, flow, "")
        names = ((row.key[len(prefix) :].decode(), row.value) for row in self._index.scan(prefix))
        found = ((name, value) for name, value in names if self._index.get(key_of(NODE, flow, name)) is None)
        specs: list[tuple[str, NodeSpec]] = []
        for name, value in islice(found, limit):
            specs.append((name, decode_spec(value)))
            max_bytes -= len(value)
            if max_bytes <= 0:
                break
        return specs

    def unstopped(self, flow: str, limit: int) -> list[tuple[str, Node]]:
        """Nodes that have not ended, and whose job was not told to."""
        prefix = key_of(NODE, flow, "")
        nodes = ((row.key[len(prefix) :].decode(), decode_node(row.value)) for row in self._index.scan(prefix))
        return list(
            islice(((name, node) for name, node in nodes if not is_end(node.state) and not node.is_told), limit)
        )

    def keys(self, kind: bytes, flow: str, limit: int) -> list[bytes]:
        """Keys of records about nodes of a workflow."""
        return [row.key for row in islice(self._index.scan(key_of(kind, flow, "")), limit)]

    # --- records in ---

    def apply(self, record: Kept) -> None:
        """Fold one record; ValueError for one whose key is none of ours: nobody could take it back."""
        kind, flow, node = split_key(record.key)
        if kind in _KINDS and not is_key(record.key):
            raise ValueError("no key of a workflow's record")
        if kind in _ORDERS:
            if record.value is None:
                self._index.delete(record.key)
            else:
                self._index.put(record.key, record.value, due_ms=AT_ONCE)
        elif kind == SUBMIT:
            self._apply_submission(flow, record)
        elif kind == SPEC:
            self._apply_spec(flow, node, record)
        elif kind == NODE:
            self._apply_node(flow, node, record)
        elif kind == FLOW:
            self._apply_flow(flow, record)
        elif kind == CONFLICT:
            self._apply_conflict(flow, node, record)

    def _apply_submission(self, flow: str, record: Kept) -> None:
        index, begun, waiting = self._index, self.flow(flow), self._index.get(record.key)
        if record.value is None:
            index.delete(record.key)
            if begun is None:
                index.delete(key_of(WHOLE, flow))
            return
        first: Flow | Submission | None = begun
        if begun is None and waiting is not None and self._is_whole(flow):
            first = decode_submission(waiting.value)  # it has not begun yet, and counts all the same
        else:
            index.put(record.key, record.value, due_ms=AT_ONCE)
        sent = decode_submission(record.value)
        if first is None:
            self._look_for_whole(flow, sent)
        elif first.tenant != sent.tenant:
            index.put(key_of(REFUSE, flow, sent.tenant), record.value, due_ms=AT_ONCE)

    def _apply_conflict(self, flow: str, tenant: str, record: Kept) -> None:
        if record.key != key_of(CONFLICT, flow, tenant):
            raise ValueError("no key of a workflow's record")
        if record.value is None:
            self._index.delete(record.key)
            return
        self._index.put(record.key, record.value, due_ms=record.timestamp_ms + RETENTION_MS)
        refused = self._index.get(key_of(REFUSE, flow, tenant))
        if refused is not None and refused.value == record.value:
            self._index.delete(refused.key)

    def _is_whole(self, flow: str) -> bool:
        return self._index.get(key_of(WHOLE, flow)) is not None

    def _look_for_whole(self, flow: str, sent: Submission) -> None:
        """From the moment on in which it is complete nothing that others send under its id is a part of it."""
        tally = self.tally(flow)
        if tally.nodes + bool(tally.callback) == sent.nodes:
            self._index.put(key_of(WHOLE, flow), b"")

    def _apply_spec(self, flow: str, node: str, record: Kept) -> None:
        index, known = self._index, self.spec(flow, node)
        index.delete(key_of(SURPLUS, flow, node))
        if record.value is None:
            if known is not None:
                self._remove_spec(flow, node, known)
            return
        begun, spec = self.flow(flow), decode_spec(record.value)
        if not spec.is_kept and self._is_sent_again(flow, spec, known, has_begun=begun is not None):
            what = SURPLUS if known is None else RESTORE
            index.put(key_of(what, flow, node), b"", due_ms=AT_ONCE)  # the first sending counts
            return
        state = self.node(flow, node)
        is_orphan = begun is None and state is None
        if known is not None and (known.after, known.is_callback) == (spec.after, spec.is_callback):
            index.delete(key_of(RESTORE, flow, node))
        else:
            if known is not None:
                self._remove_spec(flow, node, known)
            self._add_spec(flow, node, spec, state, has_begun=begun is not None)
        index.put(record.key, record.value, due_ms=record.timestamp_ms + ORPHAN_MS if is_orphan else None)
        if begun is None and (waiting := index.get(key_of(SUBMIT, flow))) is not None:
            self._look_for_whole(flow, decode_submission(waiting.value))

    def _is_sent_again(self, flow: str, spec: NodeSpec, known: NodeSpec | None, *, has_begun: bool) -> bool:
        """Whether a node is none of the workflow as it was sent first, as far as is known."""
        if known is None:
            return self._is_whole(flow)
        return not _is_same(spec, known) and (has_begun or self._is_whole(flow))

    def _add_spec(self, flow: str, node: str, spec: NodeSpec, state: Node | None, *, has_begun: bool) -> None:
        index, tally = self._index, self.tally(flow)
        index.delete(key_of(END, flow))
        is_callback = spec.is_callback and not tally.callback
        if is_callback:
            tally.callback = node
        else:
            tally.nodes += 1
            tally.counts.total += 1
        need = Need(left=len(spec.after), fate="" if spec.after or is_callback else RUN)
        for dep, policy in spec.after.items():
            index.put(_edge(flow, dep, node), policy.encode())
            before = self.node(flow, dep)
            if before is not None and is_end(before.state):
                settle(need, policy, dep, has_succeeded=before.state == SUCCEEDED)
        self._put_need(flow, node, need)
        if state is not None:
            self._join(tally, flow, node, state, is_first=True)
        elif has_begun:
            index.put(key_of(OPEN, flow), b"", due_ms=AT_ONCE)
        self._put_tally(flow, tally)

    def _remove_spec(self, flow: str, node: str, spec: NodeSpec) -> None:
        index, tally = self._index, self.tally(flow)
        for kind in (SPEC, NEED, READY, RESTORE):
            index.delete(key_of(kind, flow, node))
        for dep in spec.after:
            index.delete(_edge(flow, dep, node))
        state = self.node(flow, node)
        if state is not None:
            tally.opened -= 1
            if is_end(state.state):
                tally.count_end(node, state.state, -1)
        if node == tally.callback:
            tally.callback = ""
        else:
            tally.nodes -= 1
            tally.counts.total -= 1
        if tally.is_opened:
            index.delete(key_of(OPEN, flow))
        self._put_tally(flow, tally)

    def _join(self, tally: Tally, flow: str, node: str, state: Node, *, is_first: bool) -> None:
        """A node and its state are both known by now, or its state is another."""
        if is_first:
            tally.opened += 1
            if tally.is_opened:
                self._index.delete(key_of(OPEN, flow))
        if state.state == BLOCKED and self.need(flow, node).fate:
            self._index.put(key_of(READY, flow, node), b"", due_ms=AT_ONCE)
        if is_end(state.state):
            tally.count_end(node, state.state)

    def _apply_flow(self, flow: str, record: Kept) -> None:
        index = self._index
        if record.value is None:
            for kind in (FLOW, TALLY, OPEN, STOP, END, WHOLE):
                index.delete(key_of(kind, flow))
            return
        new = decode_flow(record.value)
        before = self.flow(flow)
        if before is not None and before.is_over:
            return
        due_ms = None if new.ended_ms is None else new.ended_ms + RETENTION_MS
        index.put(record.key, record.value, due_ms=due_ms)
        if new.is_over:
            for kind in (OPEN, STOP, END):
                index.delete(key_of(kind, flow))
            return
        if before is None and not self.tally(flow).is_opened:
            index.put(key_of(OPEN, flow), b"", due_ms=AT_ONCE)
        if new.state is FlowState.CANCELLING:
            if new.is_swept:
                index.delete(key_of(STOP, flow))
            elif before is None or before.state is not FlowState.CANCELLING:
                index.put(key_of(STOP, flow), b"", due_ms=AT_ONCE)
        self._look_for_end(flow, self.tally(flow))

    def _apply_node(self, flow: str, node: str, record: Kept) -> None:
        index, key = self._index, record.key
        before = self.node(flow, node)
        if record.value is None:
            index.delete(key)
            return
        new = decode_node(record.value)
        if before is not None and _rank(before) >= _rank(new):
            return
        index.put(key, record.value)
        index.delete(key_of(READY, flow, node))
        if is_end(new.state):
            self._settle_dependents(flow, node, has_succeeded=new.state == SUCCEEDED)
        spec = index.get(key_of(SPEC, flow, node))
        if spec is None:
            return  # its record comes later, for the workflow was sent again: it counts then
        if spec.due_ms is not None:
            index.put(spec.key, spec.value)  # no orphan
        tally = self.tally(flow)
        self._join(tally, flow, node, new, is_first=before is None)
        self._put_tally(flow, tally)

    def _edges(self, flow: str, node: str) -> list[tuple[str, OnFailure]]:
        """The nodes behind one, with the policies of the edges to them."""
        prefix = key_of(EDGE, flow, node) + b"/"
        return [(row.key[len(prefix) :].decode(), OnFailure(row.value.decode())) for row in self._index.scan(prefix)]

    def _settle_dependents(self, flow: str, node: str, *, has_succeeded: bool) -> None:
        """Tell the nodes behind one that it has ended."""
        for dependent, policy in self._edges(flow, node):
            need = self.need(flow, dependent)
            is_decided = settle(need, policy, node, has_succeeded=has_succeeded)
            self._put_need(flow, dependent, need)
            state = self.node(flow, dependent) if is_decided else None
            if state is not None and state.state == BLOCKED:
                self._index.put(key_of(READY, flow, dependent), b"", due_ms=AT_ONCE)

    def _put_tally(self, flow: str, tally: Tally) -> None:
        if tally.nodes or tally.callback:
            self._index.put(key_of(TALLY, flow), encode(tally))
        else:
            self._index.delete(key_of(TALLY, flow))
        self._look_for_end(flow, tally)

    def _look_for_end(self, flow: str, tally: Tally) -> None:
        """Everything has ended but the callback, or that too."""
        if tally.counts.ended < tally.nodes or not tally.is_opened:
            return
        key = key_of(END, flow)
        begun = self.flow(flow)
        callback = self.node(flow, tally.callback) if tally.callback else None
        is_waiting = callback is not None and callback.state == QUEUED
        if begun is not None and not begun.is_over and not is_waiting:
            self._index.put(key, b"", due_ms=AT_ONCE)
        else:
            self._index.delete(key)

    def _put_need(self, flow: str, node: str, need: Need) -> None:
        self._index.put(key_of(NEED, flow, node), encode(need))


def settle(need: Need, policy: OnFailure, dep: str, *, has_succeeded: bool) -> bool:
    """A node before this one has ended; true when that decides its fate."""
    if need.fate:
        return False
    need.left -= 1
    if not has_succeeded and policy is OnFailure.FAIL:
        need.fate, need.cause = DROP, dep
    elif need.left == 0 or (not has_succeeded and policy is OnFailure.CONTINUE):
        need.fate, need.cause = RUN, dep
    return bool(need.fate)


def _is_same(spec: NodeSpec, known: NodeSpec) -> bool:
    return msgspec.structs.replace(spec, is_kept=known.is_kept) == known


def is_end(state: str) -> bool:
    """Whether a node in this state has ended."""
    return state not in (BLOCKED, QUEUED)


def _rank(node: Node) -> int:
    """A node only moves forward."""
    if node.state == BLOCKED:
        return 0
    return 1 + node.is_told if node.state == QUEUED else 3


def _edge(flow: str, dep: str, node: str) -> bytes:
    return key_of(EDGE, flow, f"{dep}/{node}")
