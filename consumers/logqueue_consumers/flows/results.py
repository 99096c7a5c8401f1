"""What the nodes before a node have come to, as the header of its job. No IO.

A JSON object: `results` by node, `failed` nodes with their states, `omitted` nodes whose results are too large, and for
a callback `counts` of all nodes. Bounded: results that no longer fit are omitted, of failures the first 100 are named.
"""

from __future__ import annotations

from typing import Any, Final

from logqueue.jobs.flow_records import MAX_RESULTS_BYTES, NodeSpec, encode
from logqueue_consumers.flows.graph import SUCCEEDED, FlowGraph, is_end

MAX_RECORD_BYTES: Final = 1_000_000 - 64 * 1024
"""Of a job record with results, less what the owner adds to it: brokers take 1 MiB by default."""
HEADER_BYTES: Final = 12
MAX_NAMED: Final = 100
"""Failed or omitted nodes that are named."""


def results_header(graph: FlowGraph, flow: str, spec: NodeSpec) -> bytes | None:
    """The value of `job-workflow-results`, or None where nothing came before. The job's record stays one that fits."""
    if spec.is_callback:
        counts = graph.tally(flow).counts
        return encode(
            {
                "counts": {
                    "total": counts.total,
                    "succeeded": counts.succeeded,
                    "failed": counts.failed,
                    "cancelled": counts.cancelled,
                }
            }
        )
    if not spec.after:
        return None
    results: dict[str, Any] = {}
    failed: dict[str, str] = {}
    omitted: list[str] = []
    rest = sum(len(name) + len(value) + HEADER_BYTES for name, value in spec.headers)
    room = min(MAX_RESULTS_BYTES, MAX_RECORD_BYTES - len(spec.value) - rest)
    for dep in spec.after:
        node = graph.node(flow, dep)
        if node is None or not is_end(node.state):
            continue
        if node.state != SUCCEEDED:
            if len(failed) < MAX_NAMED:
                failed[dep] = node.state
            continue
        size = len(dep) + 8 + len(encode(node.result))
        if node.is_omitted or size > room:
            if len(omitted) < MAX_NAMED:
                omitted.append(dep)
            continue
        room -= size
        results[dep] = node.result
    return encode({"results": results, "failed": failed, "omitted": omitted})
