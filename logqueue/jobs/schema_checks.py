"""Comparing a schema with the versions before it, in a thread: hundreds of large ones take seconds. Knows no topic.

A version is one turn of the thread, and `MAX_COMPARISONS` bounds it: a check that is cancelled ends with that turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from logqueue_schemas.evolution import Conflict, Level, check_evolution
from logqueue_schemas.schema_records import Registration

from logqueue.jobs.schema_rules import SchemaRefused


async def conflicts_with(schema: Any, versions: Sequence[Registration], level: Level) -> list[Conflict]:
    """What forbids a schema as the one after these versions (oldest first). InvalidSchema if it is none."""
    conflicts = await asyncio.to_thread(check_evolution, schema, (), level)
    for version in versions if level.is_transitive else versions[-1:]:
        conflicts += await asyncio.to_thread(_compare, schema, version, level)
    return conflicts


async def check_next(subject: str, schema: Any, versions: Sequence[Registration], level: Level) -> None:
    """SchemaRefused if the schema cannot follow these versions (oldest first), InvalidSchema if it is none."""
    if conflicts := await conflicts_with(schema, versions, level):
        raise SchemaRefused(subject, level, conflicts)


def _compare(schema: Any, version: Registration, level: Level) -> list[Conflict]:
    return check_evolution(schema, [(version.version, version.parsed)], level)
