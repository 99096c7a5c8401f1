"""What a registry holds: Avro schemas (bare JSON values) and JSON Schemas (`JsonSchema`), under one roof. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from logqueue_schemas import avro
from logqueue_schemas.json_schema import JsonSchema, read_json_schema

AVRO: Final = "AVRO"
JSON: Final = "JSON"
KINDS: Final = (AVRO, JSON)


def kind_of_schema(schema: Any) -> str:
    """AVRO or JSON: Confluent's `schemaType`."""
    return JSON if isinstance(schema, JsonSchema) else AVRO


def read_text(text: str, kind: str) -> Any:
    """The schema of a text of one of KINDS, checked; InvalidSchema."""
    return read_json_schema(text) if kind == JSON else avro.read_schema(text)


def schema_of_text(text: str, kind: str) -> Any:
    """The schema of a text that is known to be one."""
    value = json.loads(text)
    return JsonSchema(value) if kind == JSON else value


def text_of_schema(schema: Any) -> str:
    """Its text."""
    return json.dumps(schema.value if isinstance(schema, JsonSchema) else schema, separators=(",", ":"))


def meaning(schema: Any) -> str:
    """Text that is equal for schemas that mean the same: spaces and key order do not count, Avro's `doc` neither."""
    if isinstance(schema, JsonSchema):
        return f"{JSON} {json.dumps(schema.value, sort_keys=True, separators=(',', ':'))}"
    return avro.canonical(schema)


def digest_of(schema: Any) -> bytes:
    """SHA-256 of its `meaning`."""
    return hashlib.sha256(meaning(schema).encode("utf-8", "surrogatepass")).digest()


def wanted_id(schema: Any) -> int:
    """The registry id that a schema asks for; of Avro ones `avro.content_id`."""
    if isinstance(schema, JsonSchema):
        return avro.id_of_digest(hashlib.sha256(meaning(schema).encode()).digest())
    return avro.content_id(schema)
