"""Avro schemas as JSON values: loading ours, comparing, naming by content. Knows no registry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import fastavro

_IGNORED = frozenset({"doc"})  # says nothing about the bytes
_HINTS = frozenset({"__fastavro_parsed", "__named_schemas"})  # what has them fastavro takes unseen, whoever wrote it
_ID_SPACE = 1 << 30
MAX_SCHEMA_CHARS = 500_000  # of its text: a record of the schema topic has to hold it
MAX_SCHEMA_DEPTH = 200  # JSON objects and arrays within one another: what walks through a schema has the stack for it


class InvalidSchema(ValueError):
    """Text or values that are no Avro schema, or one that cannot be worked with; the message says why."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A checked schema with full names, and its named types."""

    root: Any
    named: Mapping[str, Any]

    def resolve(self, node: Any) -> Any:
        """The type that a name stands for; any other node itself."""
        return self.named.get(node, node) if isinstance(node, str) else node


def read_schema(text: str) -> Any:
    """The JSON values of a schema's text, checked; InvalidSchema."""
    schema = read_json(text)
    parse(schema)
    return schema


def read_json(text: str) -> Any:
    """The JSON values of a text that is to be a schema of whichever kind; InvalidSchema."""
    if len(text) > MAX_SCHEMA_CHARS:
        raise InvalidSchema(f"the schema has {len(text):,} characters; at most {MAX_SCHEMA_CHARS:,} are taken")
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # Python's JSON takes NaN and half characters
    except (ValueError, RecursionError) as error:
        raise InvalidSchema(f"the schema is not JSON: {error}") from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """InvalidSchema for JSON values that are nested more than MAX_SCHEMA_DEPTH deep."""
    depth, level = 0, [value]
    while level := [node for node in level if isinstance(node, (dict, list))]:
        depth += 1
        if depth > MAX_SCHEMA_DEPTH:
            raise InvalidSchema(f"the schema is nested too deeply: more than {MAX_SCHEMA_DEPTH} levels")
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node)]


def parse(schema: Any) -> Parsed:
    """A schema's types with full names; InvalidSchema says what about it is against the specification."""
    named: dict[str, Any] = {}
    try:
        root: Any = fastavro.parse_schema(_stripped(schema, _HINTS), named)
    except RecursionError:
        raise InvalidSchema("the schema is nested too deeply") from None
    except Exception as error:  # fastavro's own errors, and whatever its walk through other values ends in
        raise InvalidSchema(f"not an Avro schema: {_said(error)}") from None
    return Parsed(root, named)


def load_schema(name: str) -> dict[str, Any]:
    """A schema of this package by its file name."""
    schema: dict[str, Any] = json.loads(files("logqueue_schemas").joinpath(name).read_text("utf-8"))
    return schema


def canonical(schema: Any) -> str:
    """Text that is equal for schemas that mean the same: documentation, spaces and key order do not count."""
    return json.dumps(_stripped(schema, _IGNORED), sort_keys=True, separators=(",", ":"))


def without_logical_types(schema: Any) -> Any:
    """The schema of the same bytes with plain numbers in place of dates and decimals."""
    return _stripped(schema, frozenset({"logicalType"}))


def content_id(schema: Any) -> int:
    """The registry id that a schema asks for: a positive number made from what it says (1 to 2**30).

    Whoever registers the same schema asks for the same id, so registration needs no lock; the upper half of
    the 31 bits stays free for registries that count upwards from the largest id they find.
    """
    return id_of_digest(hashlib.sha256(canonical(schema).encode()).digest())


def id_of_digest(digest: bytes) -> int:
    """The id (1 to 2**30) of what has this digest."""
    return 1 + int.from_bytes(digest[:8], "big") % _ID_SPACE


def _stripped(node: Any, names: frozenset[str]) -> Any:
    if isinstance(node, dict):
        return {k: v if k == "default" else _stripped(v, names) for k, v in node.items() if k not in names}
    if isinstance(node, list):
        return [_stripped(item, names) for item in node]
    return node


def _said(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
