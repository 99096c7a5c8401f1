"""Workflows in the view: records of `jobs.flows` in, lists and nodes out. Knows the tables, no Kafka client.

The state of a node here is the owner's (`blocked`, `queued` = on the log, or how it ended); how far a job on the log
has come is in the table of jobs, under the node's job id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from logqueue.jobs.flow_records import (
    FLOW,
    NODE,
    SPEC,
    Flow,
    decode_flow,
    decode_node,
    decode_spec,
    split_key,
)

_log = structlog.get_logger("logqueue.view")

MAX_LISTED: Final = 500

TABLES: Final = """
CREATE TABLE flows (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    state TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    doc BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX flows_created ON flows (created_ms, id);
CREATE INDEX flows_state ON flows (state, created_ms, id);
CREATE INDEX flows_tenant ON flows (tenant, created_ms, id);

CREATE TABLE flow_nodes (
    flow TEXT NOT NULL,
    node TEXT NOT NULL,
    type TEXT,
    queue TEXT,
    after BLOB,
    parent TEXT,
    state TEXT,
    PRIMARY KEY (flow, node)
) WITHOUT ROWID;
"""


class FlowRecord(NamedTuple):
    """A record of the topic of workflows."""

    key: bytes
    value: bytes | None


class FlowRow(NamedTuple):
    """A workflow as its owner has it."""

    id: str
    flow: Flow


class NodeRow(NamedTuple):
    """A node; `state` None: its owner has not put it to work. `after`: policy by node before it."""

    node: str
    type: str | None
    queue: str | None
    after: dict[str, str]
    parent: str | None
    state: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFilter:
    """Which workflows are meant; None means any. `before` is the place behind which a list goes on."""

    state: str | None = None
    tenant: str | None = None
    name: str | None = None
    before: tuple[int, str] | None = None


def apply_flows(db: sqlite3.Connection, records: Iterable[FlowRecord]) -> None:
    """Fold records into the tables, in the order of the log; inside the caller's transaction."""
    for key, value in records:
        kind, flow, node = split_key(key)
        try:
            if kind == FLOW:
                _apply_flow(db, flow, value)
            elif kind == SPEC:
                _apply_spec(db, flow, node, value)
            elif kind == NODE and value is not None:
                db.execute(_SET_STATE, (flow, node, decode_node(value).state))
        except (ValueError, RecursionError) as error:
            _log.warning("a record of a workflow is left out", key=key[:200], reason=str(error))


_SET_STATE: Final = (
    "INSERT INTO flow_nodes (flow, node, state) VALUES (?, ?, ?) "
    "ON CONFLICT (flow, node) DO UPDATE SET state = excluded.state"
)
_SET_SPEC: Final = (
    "INSERT INTO flow_nodes (flow, node, type, queue, after, parent) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (flow, node) DO UPDATE SET type = excluded.type, queue = excluded.queue, after = excluded.after, "
    "parent = excluded.parent"
)


def _apply_flow(db: sqlite3.Connection, flow: str, value: bytes | None) -> None:
    if value is None:
        db.execute("DELETE FROM flows WHERE id = ?", (flow,))
        db.execute("DELETE FROM flow_nodes WHERE flow = ?", (flow,))
        return
    found = decode_flow(value)
    db.execute(
        "INSERT OR REPLACE INTO flows (id, name, tenant, state, created_ms, doc) VALUES (?, ?, ?, ?, ?, ?)",
        (flow, found.name, found.tenant, found.state.value, found.created_ms, value),
    )


def _apply_spec(db: sqlite3.Connection, flow: str, node: str, value: bytes | None) -> None:
    if value is None:
        db.execute("DELETE FROM flow_nodes WHERE flow = ? AND node = ?", (flow, node))
        return
    spec = decode_spec(value)
    after = msgspec.json.encode(spec.after) if not spec.is_callback else b'{"*":"ignore"}'
    db.execute(_SET_SPEC, (flow, node, spec.type, spec.queue, after, spec.parent))


def list_flows(db: sqlite3.Connection, where: FlowFilter, *, limit: int) -> list[FlowRow]:
    """Workflows, newest first."""
    conditions, values = ["1"], list[Any]()
    for name in ("state", "tenant", "name"):
        if (wanted := getattr(where, name)) is not None:
            conditions.append(f"{name} = ?")
            values.append(wanted)
    if where.before is not None:
        conditions.append("(created_ms, id) < (?, ?)")
        values += where.before
    found = db.execute(
        f"SELECT id, doc FROM flows WHERE {' AND '.join(conditions)} ORDER BY created_ms DESC, id DESC LIMIT ?",  # noqa: S608 - constants only
        (*values, limit),
    )
    return [FlowRow(id_, decode_flow(doc)) for id_, doc in found.fetchall()]


def read_flow(db: sqlite3.Connection, flow: str) -> FlowRow | None:
    """One workflow, or None."""
    found = db.execute("SELECT id, doc FROM flows WHERE id = ?", (flow,)).fetchone()
    return None if found is None else FlowRow(found[0], decode_flow(found[1]))


def count_nodes(db: sqlite3.Connection, flows: Sequence[str]) -> dict[str, dict[str, int]]:
    """Nodes of workflows by state."""
    counts: dict[str, dict[str, int]] = {flow: {} for flow in flows}
    marks = ",".join("?" * len(flows))
    found = db.execute(
        f"SELECT flow, coalesce(state, 'waiting'), count(*) FROM flow_nodes WHERE flow IN ({marks}) GROUP BY 1, 2",  # noqa: S608
        list(flows),
    )
    for flow, state, count in found.fetchall():
        counts[flow][state] = count
    return counts


def read_nodes(
    db: sqlite3.Connection, flow: str, *, after: str = "", state: str | None = None, limit: int
) -> list[NodeRow]:
    """Nodes of a workflow by name, behind one."""
    condition, values = ("AND state = ?", (state,)) if state is not None else ("", ())
    found = db.execute(
        f"SELECT node, type, queue, after, parent, state FROM flow_nodes WHERE flow = ? AND node > ? {condition} "  # noqa: S608
        "ORDER BY node LIMIT ?",
        (flow, after, *values, limit),
    )
    return [
        NodeRow(node, type_, queue, msgspec.json.decode(after) if after else {}, parent, state)
        for node, type_, queue, after, parent, state in found.fetchall()
    ]
