"""Avro schemas as JSON values: loading ours, comparing, naming by content. Knows no registry."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import Any

_IGNORED = frozenset({"doc"})  # says nothing about the bytes
_ID_SPACE = 1 << 30


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
    digest = hashlib.sha256(canonical(schema).encode()).digest()
    return 1 + int.from_bytes(digest[:8], "big") % _ID_SPACE


def _stripped(node: Any, names: frozenset[str]) -> Any:
    if isinstance(node, dict):
        return {k: v if k == "default" else _stripped(v, names) for k, v in node.items() if k not in names}
    if isinstance(node, list):
        return [_stripped(item, names) for item in node]
    return node
