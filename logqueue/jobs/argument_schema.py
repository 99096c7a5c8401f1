"""The Avro schema that a job declares (`arguments="email.avsc"`): read, checked, and the frame of its values.

The frame of a prepared job has the id that the schema asks for (`content_id`). Who sends it registers the schema first,
and puts another id into the frame where the registry gave it one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from logqueue_schemas.avro import InvalidSchema, Parsed, content_id, parse, read_schema
from logqueue_schemas.framing import HEADER_BYTES, frame_header

from logqueue.jobs.errors import InvalidDefinition

if TYPE_CHECKING:
    from logqueue.jobs.flow_records import NodeSpec
    from logqueue.jobs.sending import PreparedJob

Framed = TypeVar("Framed", "PreparedJob", "NodeSpec")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentSchema:
    """The schema of a job type's arguments: a record."""

    queue: str
    type: str
    value: Any
    content_id: int

    @property
    def key(self) -> tuple[str, str]:
        """What names its subject."""
        return self.queue, self.type

    def parsed(self) -> Parsed:
        """Its types."""
        return parse(self.value)


def load_argument_schema(path: Path, *, queue: str, type_: str, where: str) -> ArgumentSchema:
    """The schema in a file; InvalidDefinition says what is wrong with it."""
    try:
        value = read_schema(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InvalidDefinition(f"{where}: there is no schema file {path}") from None
    except (OSError, UnicodeDecodeError, InvalidSchema) as error:
        raise InvalidDefinition(f"{where}: schema file {path}: {error}") from None
    if not isinstance(value, dict) or value.get("type") != "record":
        raise InvalidDefinition(f"{where}: schema file {path}: the arguments of a job are an Avro record")
    return ArgumentSchema(queue=queue, type=type_, value=value, content_id=content_id(value))


def framed(job: Framed, schema_id: int) -> Framed:
    """The job (or node of a workflow) with this id in the frame of its value."""
    header = frame_header(schema_id)
    if job.value[:HEADER_BYTES] == header:
        return job
    return msgspec.structs.replace(job, value=header + job.value[HEADER_BYTES:])
