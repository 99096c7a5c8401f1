"""A check of a schema against many large versions takes seconds: the API's loop serves others meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from logqueue_api.rest.registry.desk import RegistryDesk
from logqueue_consumers.control.command_writer import CommandWriter
from logqueue_schemas.registry import SchemaTable
from logqueue_schemas.schema_records import Registration

from logqueue.clock import ManualClock
from logqueue.jobs.schema_rules import SchemaRefused
from logqueue.jobs.settings import Settings
from tests.loops import in_loop

SUBJECT = "jobs.mail-send"  # BACKWARD_TRANSITIVE
PATIENCE_S = 10.0
OLD: dict[str, Any] = {"type": "record", "name": "Mail", "fields": []}
NEW: dict[str, Any] = {**OLD, "fields": [{"name": "to", "type": "string"}]}


class Slow(Registration):
    """A version whose schema is there once the loop has turned."""

    __slots__ = ()
    turned = threading.Event()

    @property
    def parsed(self) -> Any:
        assert self.turned.wait(PATIENCE_S), "the loop waits for the check"
        return OLD


class Table(SchemaTable):
    """Three versions."""

    def versions(self, subject: str, *, deleted: bool = False) -> list[Registration]:
        return [Slow(subject=subject, version=number, id=number, schema="") for number in (1, 2, 3)]

    def find(self, subject: str, schema: Any, *, deleted: bool = False) -> Registration | None:
        return None


class Desk(RegistryDesk):
    """A registry without a log."""

    async def table(self) -> SchemaTable:
        return Table()


@in_loop
async def test_checks_of_a_schema_leave_the_loop_to_others() -> None:
    settings = Settings()
    desk = Desk(settings, writer=CommandWriter(settings), clock=ManualClock())
    for ask in ("conflicts", "register"):
        Slow.turned.clear()
        asyncio.get_running_loop().call_later(0, Slow.turned.set)
        if ask == "conflicts":
            found = await desk.conflicts(SUBJECT, NEW, None)
            assert [conflict.version for conflict in found] == [1, 2, 3]
        else:
            with pytest.raises(SchemaRefused, match="BACKWARD_TRANSITIVE"):
                await desk.register(SUBJECT, NEW, by="me")
