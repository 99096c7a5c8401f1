"""Values in Avro, read through the schema of their writer within bounds. Knows no registry.

Who may write a record may write its schema too, and fastavro's compiled reader asks neither how deep a value goes (some
thousand levels end the process) nor how long it takes (15 bytes can be 2**62 items that have no byte each). Where the
types of a schema allow that, each value is gone over here before it is read; few schemas do, the others pay nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

import fastavro

from logqueue_schemas.avro import InvalidSchema, Parsed, parse
from logqueue_schemas.compatibility import kind_of

MAX_NESTING: Final = 200  # types of a value within one another: an item of a linked list is two, a union and a record
_STEPS_PER_BYTE: Final = 8
_STEPS_AT_LEAST: Final = 1_000
_SIZES: Final = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_PRIMITIVES: Final = frozenset({*_SIZES, "int", "long", "bytes", "string"})


class UnboundedValue(ValueError):
    """A value that is nested too deeply, or has far more parts than bytes."""


class AvroReader:
    """Bodies of one writer's schema -> values; InvalidSchema where it is none."""

    __slots__ = ("_is_bounded", "_parsed", "schema")

    def __init__(self, schema: Any) -> None:
        self._parsed = parse(schema)
        self.schema: Any = self._parsed.root
        """The schema as fastavro takes it, also as that of a reader."""
        try:
            self._is_bounded = _Heights(self._parsed).of(self.schema) <= MAX_NESTING
        except RecursionError:
            raise InvalidSchema("the types of the schema are nested too deeply") from None

    def __call__(self, body: bytes | memoryview, reader: Any = None) -> Any:
        """The value, through a reader's schema if there is one (Avro's resolution).

        UnboundedValue, or whatever fastavro's reading of broken bytes ends in.
        """
        if not self._is_bounded:
            _Walk(self._parsed.named, body).past(self.schema, 0, 1)
        return fastavro.schemaless_reader(BytesIO(body), self.schema, reader)


class _Heights:
    """How deep the values of types go: without end where a type is in itself, or where something may take no byte."""

    def __init__(self, parsed: Parsed) -> None:
        self._named = parsed.named
        self._known: dict[int, float] = {}  # by the identity of a record's fields

    def of(self, node: Any, *, is_branch: bool = False) -> float:
        """A null is nothing to fear as the branch of a union, which has a byte that says so."""
        if isinstance(node, list):
            return 1 + max((self.of(branch, is_branch=True) for branch in node), default=0.0)
        node = _resolved(node, self._named)
        match kind_of(node):
            case "record" | "error":
                return self._of_record(node["fields"])
            case "array":
                return 1 + self.of(node["items"])
            case "map":
                return 1 + self.of(node["values"])
            case "fixed":
                return 1 if isinstance(node["size"], int) and node["size"] > 0 else math.inf
            case "null":
                return 1 if is_branch else math.inf
            case _:
                return 1

    def _of_record(self, fields: list[Any]) -> float:
        known = self._known.get(id(fields))
        if known is None:
            self._known[id(fields)] = math.inf  # until it is known: what is met again meanwhile is in itself
            known = 1 + max((self.of(field["type"]) for field in fields), default=math.inf)
            self._known[id(fields)] = known
        return known


class _Walk:
    """Goes over a value without making it."""

    def __init__(self, named: Mapping[str, Any], body: bytes | memoryview) -> None:
        self._named = named
        self._body = body
        self._left = _STEPS_AT_LEAST + _STEPS_PER_BYTE * len(body)

    def past(self, node: Any, place: int, depth: int) -> int:
        """The place behind a value. UnboundedValue, EOFError; ValueError for what stands for nothing."""
        self._left -= 1
        if depth > MAX_NESTING:
            raise UnboundedValue(f"the value is nested more than {MAX_NESTING} levels deep")
        if self._left < 0:
            raise UnboundedValue(f"the {len(self._body):,} bytes of the value have too many parts")
        if isinstance(node, list):
            branch, place = self._number(place)
            if not 0 <= branch < len(node):
                raise ValueError(f"a union of {len(node)} types has no branch {branch}")
            return self.past(node[branch], place, depth + 1)
        node = _resolved(node, self._named)
        match kind_of(node):
            case "record" | "error":
                for field in node["fields"]:
                    place = self.past(field["type"], place, depth + 1)
                return place
            case "array":
                return self._items(node["items"], place, depth + 1, is_map=False)
            case "map":
                return self._items(node["values"], place, depth + 1, is_map=True)
            case "fixed":
                return self._after(place, node["size"])
            case "bytes" | "string":
                size, place = self._number(place)
                return self._after(place, size)
            case "int" | "long" | "enum":
                return self._number(place)[1]
            case kind:
                return self._after(place, _SIZES[kind])

    def _items(self, item: Any, place: int, depth: int, *, is_map: bool) -> int:
        """Past the blocks of an array or map (Avro specification, "Complex Types")."""
        while True:
            count, place = self._number(place)
            if count == 0:
                return place
            if count < 0:
                place = self._number(place)[1]  # the block's size
            for _ in range(abs(count)):
                if is_map:
                    place = self.past("string", place, depth)
                place = self.past(item, place, depth)

    def _number(self, place: int) -> tuple[int, int]:
        """An int or long, and the place behind it."""
        number = 0
        for shift in range(0, 70, 7):
            end = self._after(place, 1)
            byte = self._body[place]
            place = end
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                number &= 2**64 - 1
                return (number >> 1) ^ -(number & 1), place
        raise ValueError("a number of more than 10 bytes")

    def _after(self, place: int, size: int) -> int:
        if not 0 <= size <= len(self._body) - place:
            raise EOFError(f"{size} bytes are wanted, {len(self._body) - place} are left")
        return place + size


def _resolved(node: Any, named: Mapping[str, Any]) -> Any:
    return named.get(node, node) if isinstance(node, str) and node not in _PRIMITIVES else node
