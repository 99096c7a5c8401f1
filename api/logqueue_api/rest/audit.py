"""Operator commands as `jobs.audit` has them, newest first. Shell over the log."""

from __future__ import annotations

from typing import Any, Final

import orjson

from logqueue.ids import TopicPartition
from logqueue_api.rest.cluster import Cluster
from logqueue_api.rest.wire import time_text, writable

SCANNED: Final = 20_000
"""Records that one request looks at, from the end of the topic."""
SCANNED_BYTES: Final = 16 * 1024 * 1024


async def read_audit(cluster: Cluster, topic: str, *, limit: int, subject: str | None) -> list[dict[str, Any]]:
    """At most `limit` commands; with `subject` those about it among the last SCANNED."""
    if topic not in await cluster.topics():
        return []
    wanted = limit if subject is None else SCANNED
    found = await cluster.read(
        TopicPartition(topic, 0),
        choose=lambda start, end: max(start, end - wanted),
        limit=wanted,
        max_bytes=SCANNED_BYTES,
    )
    items = [item for record in found.records if (item := _item(record)) is not None]
    items = [item for item in items if subject is None or item["subject"] == subject]
    return items[::-1][:limit]


def _item(record: Any) -> dict[str, Any] | None:
    try:
        value = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    at = value.get("at")
    said = value.get("value") or {key: value[key] for key in ("filter", "operation", "counts") if key in value}
    return {
        "event": writable(value.get("event")),
        "subject": writable(value.get("subject")),
        "by": writable(value.get("by")),
        "at": time_text(at * 1000) if isinstance(at, int) else None,
        "value": writable(said),
        "offset": record.offset,
    }
