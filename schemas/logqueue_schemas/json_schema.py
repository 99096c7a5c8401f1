"""JSON Schemas as values: reading, and following references within one. Knows no registry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from logqueue_schemas.avro import InvalidSchema, read_json

Node = bool | Mapping[str, Any]
"""A schema within a schema: true allows everything, false nothing."""

_PLACE: Final = re.compile(r"[0-9]{1,9}")  # of an item; what isdigit says of others, int does not read

ANYTHING: Final[Mapping[str, Any]] = {}
MAX_REFERENCES: Final = 50  # from one to the next, to a schema


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A JSON Schema. Avro schemas are their bare JSON values: this class tells the two apart."""

    value: Any

    def resolve(self, node: Node) -> Node:
        """The schema that a reference into this document (`#/$defs/...`) stands for; any other node itself.

        InvalidSchema where there is nothing at its end, or where it leads elsewhere.
        """
        seen: set[str] = set()
        while isinstance(node, Mapping) and "$ref" in node:
            reference = node["$ref"]
            if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
                raise InvalidSchema(f"the reference {reference!r} leads out of the schema, which is not followed")
            if reference in seen:
                raise InvalidSchema(f"the reference {reference!r} leads to itself")
            if len(seen) == MAX_REFERENCES:
                raise InvalidSchema(f"the reference {reference!r} is the end of more than {MAX_REFERENCES} others")
            seen.add(reference)
            node = self._at(reference)
        return node

    def _at(self, reference: str) -> Node:
        found = self.value
        for part in reference.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, list) and _PLACE.fullmatch(name) and int(name) < len(found):
                found = found[int(name)]
            else:
                raise InvalidSchema(f"the reference {reference!r} leads to nothing")
        if not isinstance(found, (bool, Mapping)):
            raise InvalidSchema(f"the reference {reference!r} leads to what is no schema")
        return found


def read_json_schema(text: str) -> JsonSchema:
    """The schema of a text, checked against its meta-schema, which must be one of JSON Schema's own; InvalidSchema."""
    import jsonschema_rs

    value = read_json(text)
    if not isinstance(value, (bool, dict)):
        raise InvalidSchema("not a JSON Schema: it is an object, or true or false")
    try:
        # A registry of its own, if an empty one, fetches nothing: a "$schema" is whatever URL a client wrote.
        jsonschema_rs.meta.validate(value, registry=jsonschema_rs.Registry([]))
    except (ValueError, jsonschema_rs.ReferencingError, RecursionError) as error:
        raise InvalidSchema(f"not a JSON Schema: {str(error).partition(chr(10))[0]}") from None
    return JsonSchema(value)
