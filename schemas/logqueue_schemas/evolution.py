"""What a subject asks of its next version, and what forbids one. Pure; knows no registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from logqueue_schemas.avro import parse
from logqueue_schemas.compatibility import Fault, read_faults
from logqueue_schemas.json_compatibility import json_faults
from logqueue_schemas.json_schema import JsonSchema
from logqueue_schemas.kinds import kind_of_schema


class Level(StrEnum):
    """What a subject asks of its next version. BACKWARD: it reads what the last one wrote; FORWARD: the last one reads
    what it writes; FULL: both; TRANSITIVE: that holds with every version, not the last alone."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def is_transitive(self) -> bool:
        """Whether all versions count."""
        return self.value.endswith("_TRANSITIVE")

    @property
    def is_backward(self) -> bool:
        """Whether the new schema has to read old data."""
        return self.value.startswith(("BACKWARD", "FULL"))

    @property
    def is_forward(self) -> bool:
        """Whether old schemas have to read new data."""
        return self.value.startswith(("FORWARD", "FULL"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A fault between the new schema and an older version; `is_backward`: it is the new one that cannot read."""

    version: int
    is_backward: bool
    fault: Fault

    def __str__(self) -> str:
        who = f"the new schema cannot read data of version {self.version}"
        if not self.is_backward:
            who = f"version {self.version} cannot read data of the new schema"
        return f"{self.fault} ({who})"


def check_evolution(new: Any, older: Sequence[tuple[int, Any]], level: Level) -> list[Conflict]:
    """What forbids `new` as the version after `older` (number and schema, oldest first); empty if nothing does.

    InvalidSchema if the new one is no schema, or too large to be compared.
    """
    if not isinstance(new, JsonSchema):
        parse(new)
    conflicts: list[Conflict] = []
    for version, old in older if level.is_transitive else older[-1:]:
        if level.is_backward:
            found = _faults(reader=new, writer=old)
            conflicts += (Conflict(version=version, is_backward=True, fault=fault) for fault in found)
        if level.is_forward:
            found = _faults(reader=old, writer=new)
            conflicts += (Conflict(version=version, is_backward=False, fault=fault) for fault in found)
    return conflicts


def _faults(*, reader: Any, writer: Any) -> list[Fault]:
    kind, written = kind_of_schema(reader), kind_of_schema(writer)
    if kind != written:
        return [Fault(kind="TYPE_CHANGED", field="", detail=f"the schema is of type {kind}, the other of {written}")]
    if isinstance(reader, JsonSchema):
        return json_faults(reader=reader, writer=writer)
    return read_faults(reader=parse(reader), writer=parse(writer))
