"""Decoders of framed bodies by schema id. Knows no registry: it is asked what an id means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from logqueue_schemas.avro_reading import AvroReader
from logqueue_schemas.json_schema import JsonSchema

from logqueue.jobs.payload import json_body

Decoder = Callable[..., Any]
"""Body, and a reader's schema if there is one -> value; raises whatever its reading of broken bytes ends in."""


class Decoders:
    """The decoders of the ids that were asked for; `schema_of` answers None for an id that is not known (yet)."""

    def __init__(self, schema_of: Callable[[int], Any | None]) -> None:
        self._schema_of = schema_of
        self._made: dict[int, Decoder] = {}

    def of(self, schema_id: int) -> Decoder | None:
        """The decoder of that id, or None. Of a JSON Schema it is `payload.json_body`."""
        made = self._made.get(schema_id)
        if made is None:
            schema = self._schema_of(schema_id)
            if schema is None:
                return None
            made = self._made[schema_id] = json_body if isinstance(schema, JsonSchema) else _avro_decoder(schema)
        return made


def _avro_decoder(schema: Any) -> Decoder:
    try:
        return AvroReader(schema)
    except Exception as error:  # a registry elsewhere has schemas that fastavro does not take: references, say
        reason = str(error) or type(error).__name__

        def refuse(*_: Any) -> Any:
            raise ValueError(f"its schema cannot be used: {reason}")

        return refuse
